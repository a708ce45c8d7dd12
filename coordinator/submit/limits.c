/* What the options of a job may say. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "muster/submit.h"

enum { NODES_MOST = 100000 };

/* A whole number of at most 7 digits; NULL: there is none. */
static const char *skip_number(const char *text, bool *zero_out) {
    const size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 7) return NULL;
    *zero_out = *zero_out && strspn(text, "0") >= digits;
    return text + digits;
}

mst_status mst_submit_check_time(const char *text) {
    mst_status status = MST_OK;
    bool zero = true;
    int colons = 0;
    const char *rest = skip_number(text, &zero);
    const bool days = rest != NULL && *rest == '-';
    if (days) rest = skip_number(rest + 1, &zero);
    while (rest != NULL && *rest == ':' && colons < 2) {
        rest = skip_number(rest + 1, &zero);
        colons++;
    }
    MST_CHECK(rest != NULL && *rest == '\0', MST_ECONFIG,
              "--time: '%s' is no time limit of Slurm; write minutes, hours:minutes:seconds or "
              "days-hours:minutes:seconds, such as 4:00:00",
              text);
    MST_CHECK(!zero, MST_ECONFIG, "--time: '%s' leaves no time; write a limit such as 4:00:00", text);
done:
    return status;
}

static bool read_count(const char **text, uint64_t *count_out) {
    char *end;
    if (!isdigit((unsigned char)**text)) return false;
    *count_out = strtoull(*text, &end, 10);
    *text = end;
    return *count_out >= 1 && *count_out <= NODES_MOST;
}

mst_status mst_submit_read_nodes(const char *text, uint64_t *least_out, uint64_t *most_out) {
    mst_status status = MST_OK;
    const char *rest = text;
    bool good = read_count(&rest, least_out);
    *most_out = *least_out;
    if (good && *rest == '-') {
        rest++;
        good = read_count(&rest, most_out);
    }
    MST_CHECK(good && *rest == '\0' && *least_out <= *most_out, MST_ECONFIG,
              "--nodes: '%s' is no number of nodes; write one, or the least and the most, such as 2-4", text);
done:
    return status;
}
