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

typedef struct charts {
    const report_history *history;
    chart_marks marks;
    size_t half; /* over which the loss is smoothed; 0: a short run is not */
} charts;

/* Writes one chart, or its data; nothing when there is nothing to draw. */
static mst_status write_chart(FILE *file, const charts *all, const chart_spec *spec, bool data,
                              size_t *written) {
    chart_drawing ready;
    mst_status status = chart_make(spec, &all->marks, &ready);
    if (status == MST_OK && chart_drawable(&ready)) {
        if (data) fprintf(file, "%s\"%s\":", *written > 0 ? ",\n" : "", spec->id);
        if (data)
            chart_write_data(file, &ready);
        else
            chart_write(file, &ready);
        ++*written;
    }
    chart_clear(&ready);
    return status;
}

/* A curve over the steps: as it is, and smoothed where the run is long enough. */
static void add_steps(const charts *all, chart_spec *spec, size_t field, const char *name, const char *mean) {
    const report_table *steps = &all->history->steps;
    spec->curves[spec->curve_count++] = (chart_curve){name, all->half > 0 ? "raw" : "line", steps, field, 0};
    if (all->half > 0)
        spec->curves[spec->curve_count++] = (chart_curve){mean, "mean", steps, field, all->half};
}

static mst_status write_charts(FILE *file, const charts *all, bool data) {
    mst_status status = MST_OK;
    const report_table *steps = &all->history->steps, *evals = &all->history->evals;
    char mean[64];
    size_t written = 0;
    snprintf(mean, sizeof mean, "mean of %zu steps", 2 * all->half + 1);
    chart_spec loss = {
        .id = "loss", .title = "Loss", .unit_text = "nats per token", .scales = true, .wide = true};
    chart_spec bits = {
        .id = "bits", .title = "Bits per byte", .unit_text = "bits", .scales = true, .wide = true};
    chart_spec norm = {
        .id = "norm", .title = "Gradient norm", .unit_text = "", .scales = true, .log_first = true};
    chart_spec seconds = {.id = "seconds",
                          .title = "Time per step",
                          .unit_text = "",
                          .unit = UNIT_SECONDS,
                          .scales = true,
                          .from_zero = true};
    chart_spec speed = {.id = "speed",
                        .title = "Throughput",
                        .unit_text = "tokens per second",
                        .unit = UNIT_COUNT,
                        .from_zero = true};
    chart_spec share = {.id = "share",
                        .title = "Share of peak",
                        .unit_text = "of the measured peak",
                        .unit = UNIT_SHARE,
                        .from_zero = true};
    chart_spec rate = {.id = "rate",
                       .title = "Learning rate",
                       .unit_text = "",
                       .from_zero = true,
                       .curves = {{"learning rate", "line", steps, STEP_LR, 0}},
                       .curve_count = 1};
    chart_spec memory = {.id = "memory",
                         .title = "Memory of rank 0",
                         .unit_text = "",
                         .unit = UNIT_BYTES,
                         .from_zero = true,
                         .curves = {{"allocated", "line", steps, STEP_MEMORY_BYTES, 0},
                                    {"peak resident", "line second", steps, STEP_PEAK_RSS_BYTES, 0}},
                         .curve_count = 2};
    add_steps(all, &loss, STEP_LOSS, "training", mean);
    loss.curves[loss.curve_count++] = (chart_curve){"held out", "dots", evals, EVAL_LOSS, 0};
    if (report_has(steps, STEP_BITS_PER_BYTE)) add_steps(all, &bits, STEP_BITS_PER_BYTE, "training", mean);
    bits.curves[bits.curve_count++] = (chart_curve){"held out", "dots", evals, EVAL_BITS_PER_BYTE, 0};
    add_steps(all, &norm, STEP_GRAD_NORM, "each step", mean);
    add_steps(all, &seconds, STEP_STEP_SECONDS, "each step", mean);
    add_steps(all, &speed, STEP_TOKENS_PER_SECOND, "each step", mean);
    add_steps(all, &share, STEP_PEAK_SHARE, "each step", mean);
    const chart_spec *const order[] = {&loss, &bits, &rate, &norm, &speed, &share, &seconds, &memory};
    for (size_t i = 0; i < sizeof order / sizeof *order; i++)
        MST_TRY(write_chart(file, all, order[i], data, &written));
    if (written == 0 && !data) fputs("<p class=\"note\">There is no step to draw yet.</p>\n", file);
done:
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
    charts all = {.history = history};
    size_t steps = history->steps.count;
    all.half = steps >= 60 ? (steps / 100 > 5 ? steps / 100 : 5) : 0;
    chart_marks_make(history, facts, &all.marks);
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
