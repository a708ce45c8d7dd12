/* What import and export share: lines for the user, a percentage on a terminal. */
#ifndef CLI_CONVERTING_H
#define CLI_CONVERTING_H

#include <stdbool.h>
#include <stdint.h>

#include "muster/convert.h"

typedef struct cli_converting {
    const char *verb; /* "importing" */
    bool live;        /* there is a terminal to show a percentage on */
    unsigned percent; /* that was shown last */
} cli_converting;

/** Shows how far the work is. @param context the cli_converting */
void cli_converting_show(void *context, uint64_t done, uint64_t all);
/** Takes that away again. */
void cli_converting_end(const cli_converting *c);
/** Prints notes on stderr. */
mst_hf_notes cli_converting_notes(cli_converting *c);

#endif
