#include "muster/report.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "muster/files.h"
#include "output.h"
#include "write.h"

/* Says what was passed over. */
static void say(FILE *notes, const report_history *history, const report_facts *facts) {
    if (notes == NULL) return;
    if (history->missing) fprintf(notes, "note: %s has no metrics.jsonl yet\n", facts->path);
    if (history->damaged > 0)
        fprintf(notes,
                "note: %s/metrics.jsonl: line %" PRIu64 " is damaged, %" PRIu64 " of %" PRIu64
                " in all; passed over\n",
                facts->path, history->first_damaged, history->damaged, history->lines);
    if (history->cut)
        fprintf(notes, "note: %s/metrics.jsonl: the last line, %" PRIu64 ", is cut short; passed over\n",
                facts->path, history->lines);
    if (facts->damage[0] != '\0') fprintf(notes, "note: %s\n", facts->damage);
}

/* The one event file of a folder; made again, it replaces itself. The run's id is what tells runs apart. */
static mst_status event_file(const char *folder, const report_facts *facts, char **path_out) {
    struct stat entry;
    char id[13] = "";
    if (strcmp(folder, "-") == 0)
        return mst_error(MST_ECONFIG, "TensorBoard events go into a folder: give -o FOLDER, not '-'");
    mst_status status = mst_folder_make(folder);
    if (status != MST_OK) return status;
    if (stat(folder, &entry) != 0 || !S_ISDIR(entry.st_mode))
        return mst_error(MST_ECONFIG, "cannot write TensorBoard events into %s: it is no folder", folder);
    for (size_t i = 0; i < sizeof id - 1 && strchr("0123456789abcdef", facts->run_id[i]) != NULL &&
                       facts->run_id[i] != '\0';
         i++)
        id[i] = facts->run_id[i];
    if (asprintf(path_out, "%s/events.out.tfevents.muster.%s", folder, id[0] != '\0' ? id : "run") >= 0)
        return MST_OK;
    *path_out = NULL;
    return mst_error(MST_ENOMEM, "%s: no memory", folder);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

mst_status mst_report_write(const char *run, mst_report_format format, const char *output, FILE *notes) {
    mst_status status = MST_OK;
    char *metrics = NULL, *events = NULL;
    report_history history = {0};
    report_facts facts = {0};
    report_output file = {0};
    MST_CHECK(asprintf(&metrics, "%s/metrics.jsonl", run) >= 0, MST_ENOMEM, "%s: no memory", run);
    MST_TRY(report_facts_read(run, &facts));
    MST_TRY(report_history_read(metrics, &history));
    MST_TRY(report_checkpoints_read(&facts, &history));
    say(notes, &history, &facts);
    if (format == MST_REPORT_TENSORBOARD) MST_TRY(event_file(output, &facts, &events));
    MST_TRY(report_output_begin(events != NULL ? events : output, run, &file));
    switch (format) {
    case MST_REPORT_HTML:
        status = report_write_html(file.file, &history, &facts, now());
        break;
    case MST_REPORT_CSV:
        status = report_write_csv(file.file, &history);
        break;
    case MST_REPORT_TENSORBOARD:
        status = report_write_tensorboard(file.file, &history);
        break;
    }
    status = report_output_end(&file, status);
done:
    report_facts_clear(&facts);
    report_history_clear(&history);
    free(metrics);
    free(events);
    return status;
}
