/* A few losses of a run, for a model card. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "history.h"
#include "muster/report.h"

enum { ROWS = 10 };

/* The newest evaluation at or before a step; NaN: there is none. */
static double heldout_at(const report_history *h, double step) {
    double loss = NAN;
    for (size_t i = 0; i < h->evals.count && report_step_of(&h->evals, i) <= step; i++)
        loss = report_value(&h->evals, i, EVAL_LOSS);
    return loss;
}

static void put_rows(FILE *to, const report_history *h, size_t count) {
    fputs("| step | tokens | training loss | held-out loss |\n|---|---|---|---|\n", to);
    for (size_t row = 1; row <= ROWS; row++) {
        const size_t i = (count * row + ROWS - 1) / ROWS - 1, before = (count * (row - 1) + ROWS - 1) / ROWS;
        if (row > 1 && i + 1 == before) continue; /* fewer steps than rows */
        const double step = report_step_of(&h->steps, i), heldout = heldout_at(h, step);
        fprintf(to, "| %.0f | %.0f | %.4f | ", step, report_value(&h->steps, i, STEP_TOKENS),
                report_value(&h->steps, i, STEP_LOSS));
        if (isfinite(heldout)) fprintf(to, "%.4f ", heldout);
        fputs("|\n", to);
    }
}

mst_status mst_report_losses(const char *run, uint64_t step, char **text_out) {
    mst_status status = MST_OK;
    report_history history = {0};
    char *path = NULL, *text = NULL;
    size_t bytes = 0, count = 0;
    FILE *to = NULL;
    *text_out = NULL;
    MST_CHECK(asprintf(&path, "%s/metrics.jsonl", run) >= 0, MST_ENOMEM, "%s: out of memory", run);
    MST_TRY(report_history_read(path, &history));
    while (count < history.steps.count && report_step_of(&history.steps, count) <= (double)step) count++;
    if (count == 0) goto done;
    to = open_memstream(&text, &bytes);
    MST_CHECK(to != NULL, MST_ENOMEM, "%s: out of memory", run);
    put_rows(to, &history, count);
    const bool failed = ferror(to) != 0;
    MST_CHECK(fclose(to) == 0 && !failed, MST_ENOMEM, "%s: out of memory", run);
    *text_out = text;
    text = NULL;
done:
    free(text);
    free(path);
    report_history_clear(&history);
    return status;
}
