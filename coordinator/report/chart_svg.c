/*
 * Charts as inline SVG. The data is drawn into an inner SVG that is stretched to the figure (its strokes are not), the axes
 * around it in per cent of the figure: so text keeps its size on a phone and on paper, without a script.
 */
#include <math.h>
#include <string.h>

#include "page.h"

enum { VIEW = 1000 }; /* the inner drawing's width and height */

static double view_x(const chart_drawing *chart, double step) {
    return VIEW * report_axis_place(&chart->x, step);
}

static double view_y(const report_axis *y, double value) {
    return VIEW * (1 - report_axis_place(y, value));
}

/* ---- axes ---- */

static void write_axes(FILE *file, const chart_drawing *chart, const report_axis *y) {
    fputs("<g class=\"grid\" aria-hidden=\"true\">", file);
    for (size_t i = 0; i < y->count; i++) {
        double at = 100 - 100 * report_axis_place(y, y->ticks[i].value);
        fprintf(file, "<line x1=\"0\" x2=\"100%%\" y1=\"%.2f%%\" y2=\"%.2f%%\"/>", at, at);
        fprintf(file, "<text x=\"-8\" y=\"%.2f%%\" dy=\".33em\" text-anchor=\"end\">%s</text>", at,
                y->ticks[i].label);
    }
    for (size_t i = 0; i < chart->x.count; i++) {
        const report_tick *tick = &chart->x.ticks[i];
        double at = 100 * report_axis_place(&chart->x, tick->value);
        const char *minor = tick->minor ? " class=\"minor\"" : "";
        fprintf(
            file,
            "<line%s x1=\"%.2f%%\" x2=\"%.2f%%\" y1=\"100%%\" y2=\"100%%\" transform=\"translate(0 5)\"/>",
            minor, at, at);
        fprintf(file, "<text%s x=\"%.2f%%\" y=\"100%%\" dy=\"1.6em\" text-anchor=\"middle\">%s</text>", minor,
                at, tick->label);
    }
    fputs("</g>", file);
}

/* ---- what is drawn into the view ---- */

static void write_marks(FILE *file, const chart_drawing *chart) {
    const chart_marks *marks = chart->marks;
    if (marks->restart_count > 0) {
        fputs("<path class=\"restarts\" d=\"", file);
        for (size_t i = 0; i < marks->restart_count; i++)
            fprintf(file, "M%.1f 0V%d", view_x(chart, marks->restarts[i]), VIEW);
        fputs("\"/>", file);
    }
    if (marks->checkpoint_count > 0) {
        fputs("<path class=\"checkpoints\" d=\"", file);
        for (size_t i = 0; i < marks->checkpoint_count; i++)
            fprintf(file, "M%.1f %dV%d", view_x(chart, marks->checkpoints[i]), VIEW, VIEW - 30);
        fputs("\"/>", file);
    }
}

/* A line with gaps where values are not finite; `dots`: each point by itself, a line of no length with round ends. */
static void write_path(FILE *file, const chart_drawing *chart, const chart_line *line, const report_axis *y,
                       const char *style, bool dots) {
    bool pen_down = false;
    fprintf(file, "<path class=\"%s\" d=\"", style);
    for (size_t i = 0; i < line->count; i++) {
        const report_point *point = &line->points[i];
        bool finite = isfinite(point->y), alone = dots || line->count == 1;
        if (finite)
            fprintf(file, "%s%.1f %.1f%s", pen_down && !dots ? "L" : "M", view_x(chart, point->x),
                    view_y(y, point->y), alone ? "h0" : "");
        pen_down = finite;
    }
    fputs("\"/>", file);
}

static void write_curve(FILE *file, const chart_drawing *chart, size_t c, const report_axis *y) {
    const chart_line *line = &chart->lines[c];
    char style[32];
    if (strcmp(chart->spec->curves[c].style, "dots") == 0) {
        write_path(file, chart, line, y, "thread", false);
        write_path(file, chart, line, y, line->count > 80 ? "dots many" : "dots", true);
    } else {
        snprintf(style, sizeof style, "%s curve", chart->spec->curves[c].style);
        write_path(file, chart, line, y, style, false);
    }
}

/* Where the first curve is not finite. */
static void write_gaps(FILE *file, const chart_drawing *chart) {
    const chart_line *line = &chart->lines[0];
    bool any = false;
    for (size_t i = 0; i < line->count; i++) {
        if (isfinite(line->points[i].y)) continue;
        if (!any) fputs("<path class=\"gaps\" d=\"", file);
        any = true;
        fprintf(file, "M%.1f 0V60", view_x(chart, line->points[i].x));
    }
    if (any) fputs("\"/>", file);
}

static bool has_gaps(const chart_drawing *chart) {
    for (size_t i = 0; i < chart->lines[0].count; i++)
        if (!isfinite(chart->lines[0].points[i].y)) return true;
    return false;
}

/* ---- in words ---- */

/* "from 5.55 at step 1 to 2.10 at step 200; lowest 2.08 at step 190" */
static void write_description(FILE *file, const chart_drawing *chart) {
    char first[HTML_NUMBER], last[HTML_NUMBER], low[HTML_NUMBER], high[HTML_NUMBER];
    report_unit unit = chart->spec->unit;
    for (size_t c = 0; c < chart->spec->curve_count; c++) {
        const chart_line *line = &chart->lines[c];
        const report_point *begin = NULL, *end = NULL, *least = NULL, *most = NULL;
        for (size_t i = 0; i < line->count; i++) {
            const report_point *point = &line->points[i];
            if (!isfinite(point->y)) continue;
            begin = begin == NULL ? point : begin;
            end = point;
            least = least == NULL || point->y < least->y ? point : least;
            most = most == NULL || point->y > most->y ? point : most;
        }
        if (begin == NULL) continue;
        fprintf(
            file,
            "%s: from %s at step %.0f to %s at step %.0f; lowest %s at step %.0f, highest %s at step %.0f. ",
            chart->spec->curves[c].name, html_quantity(begin->y, unit, first), begin->x,
            html_quantity(end->y, unit, last), end->x, html_quantity(least->y, unit, low), least->x,
            html_quantity(most->y, unit, high), most->x);
    }
}

static void write_plot(FILE *file, const chart_drawing *chart, bool log) {
    const chart_spec *spec = chart->spec;
    const char *scale = log ? "log" : "linear";
    report_axis y;
    report_axis_make(spec->from_zero && !log ? fmin(0, chart->low) : chart->low, chart->high, log, spec->unit,
                     5, true, &y);
    fprintf(file, "<div class=\"plot %s\" data-scale=\"%s\" data-low=\"%.9g\" data-high=\"%.9g\">", scale,
            scale, y.low, y.high);
    fprintf(file, "<p class=\"unit\">%s%s%s</p>", spec->unit_text,
            y.scale[0] != '\0' && spec->unit_text[0] != '\0' ? ", " : "", y.scale);
    fprintf(file,
            "<svg class=\"axes\" role=\"img\" aria-labelledby=\"%s-%s-t %s-%s-d\"><title id=\"%s-%s-t\">%s "
            "by step</title>",
            spec->id, scale, spec->id, scale, spec->id, scale, spec->title);
    fprintf(file, "<desc id=\"%s-%s-d\">", spec->id, scale);
    write_description(file, chart);
    fputs("</desc>", file);
    write_axes(file, chart, &y);
    fprintf(file,
            "<svg class=\"view\" viewBox=\"0 0 %d %d\" preserveAspectRatio=\"none\" width=\"100%%\" "
            "height=\"100%%\">",
            VIEW, VIEW);
    write_marks(file, chart);
    for (size_t c = 0; c < spec->curve_count; c++) write_curve(file, chart, c, &y);
    write_gaps(file, chart);
    fputs("</svg></svg></div>\n", file);
}

static void write_legend(FILE *file, const chart_drawing *chart) {
    const chart_spec *spec = chart->spec;
    fputs("<ul class=\"legend\">", file);
    for (size_t c = 0; c < spec->curve_count && spec->curve_count > 1; c++)
        if (chart->lines[c].count > 0)
            fprintf(file, "<li class=\"%s\">%s</li>", spec->curves[c].style, spec->curves[c].name);
    if (has_gaps(chart)) fputs("<li class=\"gaps\">not finite</li>", file);
    if (spec->wide && chart->marks->checkpoint_count > 0)
        fputs("<li class=\"checkpoints\">checkpoint</li>", file);
    if (spec->wide && chart->marks->restart_count > 0) fputs("<li class=\"restarts\">restart</li>", file);
    fputs("</ul>", file);
}

void chart_write(FILE *file, const chart_drawing *chart) {
    const chart_spec *spec = chart->spec;
    bool scales = spec->scales && chart->low > 0, log = scales && spec->log_first;
    fprintf(file, "<figure class=\"chart%s\" id=\"%s\">\n", spec->wide ? " wide" : "", spec->id);
    if (scales)
        fprintf(file,
                "<input type=\"radio\" name=\"%s-scale\" id=\"%s-linear\" class=\"to-linear\"%s>"
                "<input type=\"radio\" name=\"%s-scale\" id=\"%s-log\" class=\"to-log\"%s>\n",
                spec->id, spec->id, log ? "" : " checked", spec->id, spec->id, log ? " checked" : "");
    fprintf(file, "<figcaption><h3>%s</h3>", spec->title);
    write_legend(file, chart);
    if (scales)
        fprintf(file,
                "<span class=\"scale\"><label for=\"%s-linear\">linear</label><label "
                "for=\"%s-log\">log</label></span>",
                spec->id, spec->id);
    fputs("</figcaption>\n", file);
    write_plot(file, chart, false);
    if (scales) write_plot(file, chart, true);
    fputs("</figure>\n", file);
}

/* ---- for the script ---- */

void chart_write_data(FILE *file, const chart_drawing *chart) {
    static const char *const units[] = {"plain", "count", "seconds", "bytes", "share"};
    fprintf(file, "{\"unit\":\"%s\",\"low\":%.9g,\"high\":%.9g,\"curves\":[", units[chart->spec->unit],
            chart->x.low, chart->x.high);
    for (size_t c = 0; c < chart->spec->curve_count; c++) {
        const chart_line *line = &chart->lines[c];
        fprintf(file, "%s{\"name\":\"%s\",\"style\":\"%s\",\"x\":[", c > 0 ? "," : "",
                chart->spec->curves[c].name, chart->spec->curves[c].style);
        for (size_t i = 0; i < line->count; i++) fprintf(file, "%s%.0f", i > 0 ? "," : "", line->points[i].x);
        fputs("],\"y\":[", file);
        for (size_t i = 0; i < line->count; i++) {
            if (i > 0) fputc(',', file);
            if (isfinite(line->points[i].y))
                fprintf(file, "%.7g", line->points[i].y);
            else
                fputs("null", file);
        }
        fputs("]}", file);
    }
    fputs("]}", file);
}
