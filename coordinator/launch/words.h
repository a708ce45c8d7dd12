/* The words of a command line. */
#ifndef LAUNCH_WORDS_H
#define LAUNCH_WORDS_H

#include <stddef.h>

#include "muster/status.h"

typedef struct words {
    char **list; /* [count + 1], ends with NULL; owned */
    size_t count;
} words;

/** Adds a word, printf-formatted. @retval MST_ENOMEM */
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
mst_status
words_add(words *w, const char *format, ...);

/** The words as a shell takes them; freed by the caller. @retval MST_ENOMEM */
mst_status words_quote(const words *w, char **text_out);

void words_clear(words *w);

#endif
