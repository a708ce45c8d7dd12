/* The HTML page: what its parts share. */
#ifndef REPORT_PAGE_H
#define REPORT_PAGE_H

#include "axis.h"
#include "thin.h"
#include "write.h"

/* page.css and page.js, NUL-terminated; embed.cmake makes them. */
extern const char report_style[], report_script[];

/* ---- text: html.c ---- */

/** Writes a text so that it is nothing but text, in an element or an attribute: markup escaped, bytes that are not UTF-8 and
 * control characters shown as U+FFFD. Newlines and tabs stay. */
void html_text(FILE *file, const char *text);
void html_bytes(FILE *file, const char *text, size_t length);

enum { HTML_NUMBER = 40 };
/** 1234567 as "1,234,567". */
const char *html_grouped(double whole, char text[HTML_NUMBER]);
/** A quantity for people: "26.8 k", "1.50 GiB", "2 h 05 min", "61 %". "–" when it is not finite. */
const char *html_quantity(double value, report_unit unit, char text[HTML_NUMBER]);
/** "2026-01-31 23:59:59" */
const char *html_time(double time, char text[REPORT_TIME_TEXT]);

/* ---- charts: chart.c prepares, chart_svg.c draws ---- */

enum { CHART_CURVES_MAX = 3, CHART_MARKS_MAX = 400, CHART_BUCKETS = 1000 };

/* What to draw. */
typedef struct chart_curve {
    const char *name;
    const char *style; /* a class of page.css: raw, mean, dots, line */
    const report_table *table;
    size_t field;
    size_t half; /* smoothed over this many points on both sides; 0: not */
} chart_curve;

typedef struct chart_spec {
    const char *id, *title, *unit_text;
    report_unit unit;
    bool scales;    /* offers a linear and a logarithmic scale, where the numbers allow it */
    bool log_first; /* the logarithmic one is shown first */
    bool from_zero; /* the linear scale begins at zero */
    bool wide;
    chart_curve curves[CHART_CURVES_MAX];
    size_t curve_count;
} chart_spec;

/* Steps that are marked on every chart. */
typedef struct chart_marks {
    double restarts[CHART_MARKS_MAX], checkpoints[CHART_MARKS_MAX];
    size_t restart_count, checkpoint_count;
    double first, last; /* of the step axis */
} chart_marks;

typedef struct chart_line {
    report_point *points;
    size_t count;
} chart_line;

/* Ready to be drawn. */
typedef struct chart_drawing {
    const chart_spec *spec;
    const chart_marks *marks;
    chart_line lines[CHART_CURVES_MAX]; /* thinned */
    double low, high;                   /* of all finite values */
    report_axis x;
} chart_drawing;

/** The marks and the step axis that all charts share. Of very many marks some are left out. */
void chart_marks_make(const report_history *history, const report_facts *facts, chart_marks *marks_out);

/** Collects, smooths and thins a chart's points. chart_out is freed by chart_clear, also after an error.
 * @retval MST_ENOMEM */
mst_status chart_make(const chart_spec *spec, const chart_marks *marks, chart_drawing *chart_out);
void chart_clear(chart_drawing *chart);

/** Whether there is a finite value to draw. */
bool chart_drawable(const chart_drawing *chart);

/** Writes a figure with its SVG. */
void chart_write(FILE *file, const chart_drawing *chart);

/** Writes the points as a JSON object, for the script. */
void chart_write_data(FILE *file, const chart_drawing *chart);

/* ---- what is told in words: figures.c, tables.c ---- */

/** The head of the page: name, state, key figures, digests. @retval MST_ENOMEM */
mst_status figures_write(FILE *file, const report_history *history, const report_facts *facts, double now);

/** Device, data, checkpoints, what happened, config, samples. @retval MST_ENOMEM */
mst_status tables_write(FILE *file, const report_history *history, const report_facts *facts);

#endif
