/* The metrics as CSV: docs/report.md has the columns. */
#include <math.h>
#include <stdlib.h>

#include "write.h"

/* The shortest number that reads back as the same double. */
static void put_number(FILE *file, double value) {
    char text[40];
    if (value == floor(value) && fabs(value) < 1e15) {
        fprintf(file, ",%.0f", value);
        return;
    }
    for (int digits = 6; digits <= 17;
         digits += digits == 6 ? 9 : 1) { /* 6: what was measured is written so */
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
    fprintf(file, ",%s", text); /* infinities are "inf" and "-inf" */
}

static void put_cells(FILE *file, const report_table *table, size_t row, bool there) {
    for (size_t i = 0; i < table->field_count; i++) {
        double value = there ? report_value(table, row, i) : NAN;
        if (!there || (isnan(value) && !table->fields[i].bits))
            fputc(',', file);
        else if (isnan(value))
            fputs(",nan", file);
        else
            put_number(file, value);
    }
}

mst_status report_write_csv(FILE *file, const report_history *history) {
    const report_table *steps = &history->steps, *evals = &history->evals;
    char text[REPORT_TIME_TEXT];
    fputs("step,time", file);
    for (size_t i = 0; i < STEP_FIELDS; i++) fprintf(file, ",%s", report_step_fields[i].name);
    for (size_t i = 0; i < EVAL_FIELDS; i++) fprintf(file, ",heldout_%s", report_eval_fields[i].name);
    fputc('\n', file);
    for (size_t s = 0, e = 0; s < steps->count || e < evals->count;) {
        double step = s < steps->count ? report_step_of(steps, s) : INFINITY;
        double eval = e < evals->count ? report_step_of(evals, e) : INFINITY;
        bool has_step = step <= eval, has_eval = eval <= step;
        double time = has_step ? report_time_of(steps, s) : report_time_of(evals, e);
        fprintf(file, "%.0f,%s", fmin(step, eval), report_time_print(time, text));
        put_cells(file, steps, s, has_step);
        put_cells(file, evals, e, has_eval);
        fputc('\n', file);
        s += has_step;
        e += has_eval;
    }
    return MST_OK;
}
