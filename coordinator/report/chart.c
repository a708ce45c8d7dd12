/* Charts before they are drawn: points and marks. */
#include <math.h>
#include <stdlib.h>

#include "page.h"

/* Notes a step, unless it stands too near to the one before it to be told apart. */
static void add_mark(double *marks, size_t *count, double step, double apart) {
    if (*count == CHART_MARKS_MAX || (*count > 0 && fabs(step - marks[*count - 1]) < apart)) return;
    marks[(*count)++] = step;
}

static void widen(const report_table *table, chart_marks *marks) {
    if (table->count == 0) return;
    marks->first = fmin(marks->first, report_step_of(table, 0));
    marks->last = fmax(marks->last, report_step_of(table, table->count - 1));
}

void chart_marks_make(const report_history *history, const report_facts *facts, chart_marks *marks_out) {
    *marks_out = (chart_marks){.first = INFINITY, .last = -INFINITY};
    widen(&history->steps, marks_out);
    widen(&history->evals, marks_out);
    if (!(marks_out->first <= marks_out->last)) marks_out->first = marks_out->last = 0;
    if (marks_out->first <= 1) marks_out->first = 0;
    if (marks_out->last == marks_out->first) marks_out->last++;
    const double apart = (marks_out->last - marks_out->first) / CHART_MARKS_MAX;
    for (size_t i = 0; i < history->event_count; i++) {
        const report_event *event = &history->events[i];
        bool back = event->kind == EVENT_RESUME || event->kind == EVENT_ROLLBACK;
        if (back && !event->overtaken && event->step >= marks_out->first && event->step <= marks_out->last)
            add_mark(marks_out->restarts, &marks_out->restart_count, event->step, apart);
    }
    for (size_t i = 0; i < facts->checkpoint_count; i++) {
        double step = (double)facts->checkpoints[i].step;
        if (step >= marks_out->first && step <= marks_out->last)
            add_mark(marks_out->checkpoints, &marks_out->checkpoint_count, step, apart);
    }
}

static mst_status make_line(const chart_curve *curve, chart_line *line_out) {
    mst_status status = MST_OK;
    const report_table *table = curve->table;
    line_out->points = malloc((table->count + 1) * sizeof *line_out->points);
    MST_CHECK(line_out->points != NULL, MST_ENOMEM, "report: no memory for a curve of %zu points",
              table->count);
    for (size_t i = 0; i < table->count; i++) {
        double value = report_value(table, i, curve->field);
        if (isnan(value) && !table->fields[curve->field].bits) continue; /* not known: no point, no gap */
        line_out->points[line_out->count++] = (report_point){report_step_of(table, i), value};
    }
    if (curve->half > 0) MST_TRY(report_smooth(line_out->points, line_out->count, curve->half));
    line_out->count = report_thin(line_out->points, line_out->count, CHART_BUCKETS);
done:
    return status;
}

mst_status chart_make(const chart_spec *spec, const chart_marks *marks, chart_drawing *chart_out) {
    mst_status status = MST_OK;
    *chart_out = (chart_drawing){.spec = spec, .marks = marks, .low = INFINITY, .high = -INFINITY};
    report_axis_make(marks->first, marks->last, false, UNIT_COUNT, spec->wide ? 10 : 6, false, &chart_out->x);
    for (size_t c = 0; c < spec->curve_count; c++) {
        chart_line *line = &chart_out->lines[c];
        MST_TRY(make_line(&spec->curves[c], line));
        for (size_t i = 0; i < line->count; i++) {
            if (!isfinite(line->points[i].y)) continue;
            chart_out->low = fmin(chart_out->low, line->points[i].y);
            chart_out->high = fmax(chart_out->high, line->points[i].y);
        }
    }
done:
    return status;
}

void chart_clear(chart_drawing *chart) {
    for (size_t c = 0; c < CHART_CURVES_MAX; c++) {
        free(chart->lines[c].points);
        chart->lines[c] = (chart_line){0};
    }
}

bool chart_drawable(const chart_drawing *chart) {
    return chart->low <= chart->high;
}
