/* What a run did, for people and for other programs: an HTML page, a CSV file, TensorBoard events. */
#ifndef MUSTER_REPORT_H
#define MUSTER_REPORT_H

#include <stdint.h>
#include <stdio.h>

#include "muster/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum mst_report_format {
    MST_REPORT_HTML,       /* one self-contained page */
    MST_REPORT_CSV,        /* a line for each step */
    MST_REPORT_TENSORBOARD /* a folder with one event file */
} mst_report_format;

/**
 * Reports on a run, also on one that is still going: reads its folder, changes nothing in it, and writes the report, which
 * appears whole or not at all.
 *
 * Not collective. Nothing in the run folder is trusted: damaged lines and files are passed over and named.
 * @param run the run folder
 * @param output the file, or for TensorBoard the folder (made if missing); "-" is standard output, not for TensorBoard
 * @param notes where what was passed over is said, one line each; NULL: nowhere
 * @retval MST_ECONFIG `run` is no run folder, or `output` cannot be what was asked for; MST_EFORMAT its run.json is damaged;
 * MST_EIO, MST_ENOMEM
 * Memory: about 150 bytes for each step. Threads: one call at a time for one output.
 */
mst_status mst_report_write(const char *run, mst_report_format format, const char *output, FILE *notes);

/**
 * The losses of a run up to a step, some ten of them evenly spread, as a Markdown table.
 *
 * Not collective.
 * @param text_out freed by the caller with free; NULL: nothing is recorded
 * @retval MST_EIO, MST_ENOMEM
 */
mst_status mst_report_losses(const char *run, uint64_t step, char **text_out);

#ifdef __cplusplus
}
#endif
#endif
