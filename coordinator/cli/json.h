/* What commands print as JSON. */
#ifndef CLI_JSON_H
#define CLI_JSON_H

#include <jansson.h>

#include "muster/status.h"

/** A number; JSON has no NaN and no infinity: null. */
json_t *cli_json_number(double value);
/** A text; a path need not be UTF-8, and JSON must be: then null. */
json_t *cli_json_text(const char *value);
/** Prints a value on a line of standard output. @param value taken over; NULL: there was no memory for it @retval MST_ENOMEM */
mst_status cli_json_print(json_t *value);

#endif
