/* The page as a whole: head, charts, tables, and the data for its script. */
#include "page.h"

#include <inttypes.h>
#include <string.h>

#include "muster/digest.h"

/* For "sha256-...": only this very script may run in the page, whatever the run's texts hold. */
static void write_base64(FILE *file, const uint8_t *bytes, size_t count) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < count; i += 3) {
        size_t left = count - i;
        uint32_t word = (uint32_t)bytes[i] << 16 | (left > 1 ? (uint32_t)bytes[i + 1] << 8 : 0) |
                        (left > 2 ? bytes[i + 2] : 0);
        for (size_t d = 0; d < 4; d++) fputc(d <= left ? digits[word >> (18 - 6 * d) & 63] : '=', file);
    }
}

static mst_status write_head(FILE *file, const report_facts *facts) {
    mst_digest script;
    mst_status status = mst_digest_of(report_script, strlen(report_script), &script);
    if (status != MST_OK) return status;
    fputs(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src "
        "'unsafe-inline'; script-src 'sha256-",
        file);
    write_base64(file, script.bytes, sizeof script.bytes);
    fputs("'; base-uri 'none'; form-action 'none'\">\n<meta name=\"viewport\" content=\"width=device-width, "
          "initial-scale=1\">\n"
          "<meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"generator\" "
          "content=\"muster " MST_VERSION "\">\n"
          "<link rel=\"icon\" href=\"data:,\">\n<title>",
          file);
    html_text(file, report_name(facts));
    fprintf(file, " · muster</title>\n<style>\n%s</style>\n</head>\n<body>\n<main>\n", report_style);
    return MST_OK;
}

/* ---- the charts ---- */

enum { CHARTS = 8 };

typedef struct charts {
    const report_history *history;
    chart_marks marks;
    size_t half; /* over which curves are smoothed; 0: a short run's are not */
    char mean[64], mean_steps[64];
    chart_spec specs[CHARTS];
} charts;

/* A curve over the steps: as it is, and smoothed where the run is long enough. */
static void add_steps(const charts *all, chart_spec *spec, size_t field, const char *name, const char *mean) {
    const report_table *steps = &all->history->steps;
    spec->curves[spec->curve_count++] = (chart_curve){name, all->half > 0 ? "raw" : "line", steps, field, 0};
    if (all->half > 0)
        spec->curves[spec->curve_count++] = (chart_curve){mean, "mean", steps, field, all->half};
}

static void add_curve(chart_spec *spec, const report_table *table, size_t field, const char *name,
                      const char *style) {
    spec->curves[spec->curve_count++] = (chart_curve){name, style, table, field, 0};
}

/* What is learned. */
static void specify_learning(charts *all, chart_spec specs[4]) {
    const report_table *steps = &all->history->steps, *evals = &all->history->evals;
    const bool trained = report_has(steps, STEP_BITS_PER_BYTE);
    chart_spec *loss = &specs[0], *bits = &specs[1], *rate = &specs[2], *norm = &specs[3];
    *loss = (chart_spec){
        .id = "loss", .title = "Loss", .unit_text = "nats per token", .scales = true, .wide = true};
    *bits = (chart_spec){.id = "bits",
                         .title = trained ? "Bits per byte" : "Held-out bits per byte",
                         .unit_text = "bits",
                         .scales = true,
                         .wide = true};
    *rate = (chart_spec){.id = "rate", .title = "Learning rate", .unit_text = "", .from_zero = true};
    *norm = (chart_spec){
        .id = "norm", .title = "Gradient norm", .unit_text = "", .scales = true, .log_first = true};
    add_steps(all, loss, STEP_LOSS, "training", all->mean_steps);
    add_curve(loss, evals, EVAL_LOSS, "held out", "dots");
    if (trained) add_steps(all, bits, STEP_BITS_PER_BYTE, "training", all->mean_steps);
    add_curve(bits, evals, EVAL_BITS_PER_BYTE, "held out", "dots");
    add_curve(rate, steps, STEP_LR, "learning rate", "line");
    add_steps(all, norm, STEP_GRAD_NORM, "each step", all->mean);
}

/* What it costs. */
static void specify_machine(charts *all, chart_spec specs[4]) {
    const report_table *steps = &all->history->steps;
    chart_spec *speed = &specs[0], *share = &specs[1], *seconds = &specs[2], *memory = &specs[3];
    *speed = (chart_spec){.id = "speed",
                          .title = "Throughput",
                          .unit_text = "tokens per second",
                          .unit = UNIT_COUNT,
                          .from_zero = true};
    *share = (chart_spec){.id = "share",
                          .title = "Share of peak",
                          .unit_text = "of the measured peak",
                          .unit = UNIT_SHARE,
                          .from_zero = true};
    *seconds = (chart_spec){.id = "seconds",
                            .title = "Time per step",
                            .unit_text = "",
                            .unit = UNIT_SECONDS,
                            .scales = true,
                            .from_zero = true};
    *memory = (chart_spec){
        .id = "memory", .title = "Memory of rank 0", .unit_text = "", .unit = UNIT_BYTES, .from_zero = true};
    add_steps(all, speed, STEP_TOKENS_PER_SECOND, "each step", all->mean);
    add_steps(all, share, STEP_PEAK_SHARE, "each step", all->mean);
    add_steps(all, seconds, STEP_STEP_SECONDS, "each step", all->mean);
    add_curve(memory, steps, STEP_MEMORY_BYTES, "allocated", "line");
    add_curve(memory, steps, STEP_PEAK_RSS_BYTES, "peak resident", "line second");
}

static void specify(const report_history *history, const report_facts *facts, charts *all) {
    char number[HTML_NUMBER];
    size_t steps = history->steps.count, hundredth = steps / 100;
    *all = (charts){.history = history, .half = steps < 60 ? 0 : hundredth > 5 ? hundredth : 5};
    chart_marks_make(history, facts, &all->marks);
    html_grouped(2 * (double)all->half + 1, number);
    snprintf(all->mean, sizeof all->mean, "mean of %s", number);
    snprintf(all->mean_steps, sizeof all->mean_steps, "mean of %s steps", number);
    specify_learning(all, all->specs);
    specify_machine(all, all->specs + CHARTS / 2);
}

/* Writes the charts, or the data of them all, for the script. What there is nothing of is not shown. */
static mst_status write_charts(FILE *file, const charts *all, bool data) {
    mst_status status = MST_OK;
    size_t written = 0;
    for (size_t i = 0; i < CHARTS && status == MST_OK; i++) {
        chart_drawing chart;
        status = chart_make(&all->specs[i], &all->marks, &chart);
        if (status == MST_OK && chart_drawable(&chart)) {
            if (data) {
                fprintf(file, "%s\"%s\":", written > 0 ? ",\n" : "", all->specs[i].id);
                chart_write_data(file, &chart);
            } else {
                chart_write(file, &chart);
            }
            written++;
        }
        chart_clear(&chart);
    }
    if (written == 0 && !data) fputs("<p class=\"note\">There is no step to draw yet.</p>\n", file);
    return status;
}

/* ---- the end of the page ---- */

static void write_notes(FILE *file, const report_history *history, const report_facts *facts) {
    if (history->missing) fputs("<p class=\"note\">The run has no metrics.jsonl yet.</p>\n", file);
    if (history->damaged > 0)
        fprintf(file,
                "<p class=\"note\">Of %" PRIu64 " lines of metrics.jsonl, %" PRIu64
                " could not be read and were passed over; the first is line %" PRIu64 ".</p>\n",
                history->lines, history->damaged, history->first_damaged);
    if (history->cut)
        fputs("<p class=\"note\">The last line of metrics.jsonl was cut short and was passed over.</p>\n",
              file);
    if (facts->damage[0] != '\0') {
        fputs("<p class=\"note\">Passed over: ", file);
        html_text(file, facts->damage);
        fputs("</p>\n", file);
    }
}

static void write_foot(FILE *file, const report_history *history, const report_facts *facts, double now) {
    char when[REPORT_TIME_TEXT];
    fputs("<footer>\n", file);
    write_notes(file, history, facts);
    fputs("<p>Made from <code>", file);
    html_text(file, facts->path);
    fprintf(file,
            "</code> by muster " MST_VERSION
            " at %s UTC. Curves of more than %d points are thinned; minima and maxima stay. "
            "<code>muster verify</code> prints the digests of a checkpoint.</p>\n</footer>\n</main>\n",
            html_time(now, when), 2 * CHART_BUCKETS);
}

mst_status report_write_html(FILE *file, const report_history *history, const report_facts *facts,
                             double now) {
    mst_status status = MST_OK;
    charts all;
    specify(history, facts, &all);
    MST_TRY(write_head(file, facts));
    MST_TRY(figures_write(file, history, facts, now));
    fputs("<section class=\"charts\" aria-label=\"Charts\">\n", file);
    MST_TRY(write_charts(file, &all, false));
    fputs("</section>\n", file);
    MST_TRY(tables_write(file, history, facts));
    write_foot(file, history, facts, now);
    fputs("<script type=\"application/json\" id=\"points\">{", file);
    MST_TRY(write_charts(file, &all, true));
    fprintf(file, "}</script>\n<script>%s</script>\n</body>\n</html>\n", report_script);
done:
    return status;
}
