#include "json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

json_t *cli_json_number(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

json_t *cli_json_text(const char *value) {
    json_t *string = json_string(value);
    return string != NULL ? string : json_null();
}

mst_status cli_json_print(json_t *value) {
    mst_status status = MST_OK;
    char *printed = value != NULL ? json_dumps(value, JSON_PRESERVE_ORDER) : NULL;
    MST_CHECK(printed != NULL, MST_ENOMEM, "out of memory for a line of JSON");
    puts(printed);
done:
    free(printed);
    json_decref(value);
    return status;
}
