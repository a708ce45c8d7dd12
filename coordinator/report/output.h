/* A file that appears whole or not at all. */
#ifndef REPORT_OUTPUT_H
#define REPORT_OUTPUT_H

#include <stdbool.h>
#include <stdio.h>

#include "muster/status.h"

typedef struct report_output {
    FILE *file;             /* to write to */
    char *path, *temporary; /* NULL: standard output */
} report_output;

/**
 * Begins a file under a temporary name beside its own. "-" is standard output.
 *
 * Not collective. Ended by report_output_end, whatever happens between.
 * @param run the run folder: none of its own files is written over
 * @retval MST_ECONFIG the path is a folder, a device, or a file of the run; MST_EIO, MST_ENOMEM; output_out is then empty
 */
mst_status report_output_begin(const char *path, const char *run, report_output *output_out);

/** Commits the file (flush, fsync, rename, fsync of the folder) if `status` is MST_OK, else removes it. Returns `status`, or
 * what went wrong here. */
mst_status report_output_end(report_output *output, mst_status status);

#endif
