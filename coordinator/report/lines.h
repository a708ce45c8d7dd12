/* A text file line by line, in bounded memory whatever it holds. */
#ifndef REPORT_LINES_H
#define REPORT_LINES_H

#include <stdbool.h>
#include <stddef.h>

#include "muster/status.h"

/* Of a line; what muster writes is shorter (coordinator/run/metrics.c). */
enum { REPORT_LINE_MAX = 1 << 16 };

/* `line` is not NUL-terminated and has no newline; NULL for one that is too long. `whole`: a newline ended it. */
typedef void report_line_fn(void *context, const char *line, size_t length, bool whole);

/**
 * Calls `each` for every line of a file, as far as it goes now.
 *
 * Not collective. Memory: 1 MiB.
 * @param missing_out the file is not there, which is no error
 * @retval MST_EIO it cannot be read, or is no regular file; MST_ENOMEM
 */
mst_status report_lines(const char *path, report_line_fn *each, void *context, bool *missing_out);

#endif
