/* The head of the page: what the run is, how far it is, and its key figures. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "page.h"

/* ---- state ---- */

typedef struct state {
    const char *word, *style; /* style: done, going, stopped, failed, silent */
    char more[160];
} state;

/* Seconds without a line after which a run that has not said its end is no longer taken for going. */
static double patience(const report_history *history) {
    const report_table *steps = &history->steps;
    double last = steps->count > 0 ? report_value(steps, steps->count - 1, STEP_STEP_SECONDS) : NAN;
    return last > 0 ? fmax(120, 10 * last) : 120;
}

static state find_state(const report_history *history, double now) {
    state s = {.word = "No step yet", .style = "silent"};
    char when[REPORT_TIME_TEXT], since[HTML_NUMBER];
    double silence = now - history->last_time;
    html_time(history->last_time, when);
    if (history->stopped) {
        const char *reason = report_event_text(report_newest(history, EVENT_STOP), "reason", "");
        bool done = strcmp(reason, "done") == 0, timed = strcmp(reason, "walltime") == 0,
             asked = timed || strcmp(reason, "signal") == 0;
        s.word = done    ? "Finished"
                 : timed ? "Stopped at the job's end"
                 : asked ? "Stopped on request"
                         : "Ended with an error";
        s.style = done ? "done" : asked ? "stopped" : "failed";
        snprintf(s.more, sizeof s.more, "%s UTC%s", when, asked ? "; the same command goes on" : "");
    } else if (isfinite(history->last_time)) {
        bool going = silence < patience(history);
        s.word = going ? "Going" : "No end recorded";
        s.style = going ? "going" : "silent";
        html_quantity(fmax(silence, 0), UNIT_SECONDS, since);
        snprintf(s.more, sizeof s.more,
                 going ? "last line %s ago, at %s UTC" : "killed, or stalled: no line for %s, since %s UTC",
                 since, when);
    }
    return s;
}

static void write_state(FILE *file, const report_history *history, const report_facts *facts, double now) {
    state s = find_state(history, now);
    char step[HTML_NUMBER], steps[HTML_NUMBER];
    fprintf(file, "<p class=\"state %s\"><strong>%s</strong> step %s", s.style, s.word,
            html_grouped(history->last_step, step));
    if (facts->config_good) fprintf(file, " of %s", html_grouped((double)facts->config.run.steps, steps));
    if (s.more[0] != '\0') fprintf(file, "<span class=\"when\"> · %s</span>", s.more);
    fputs("</p>\n", file);
    double share = facts->config_good && facts->config.run.steps > 0
                       ? history->last_step / (double)facts->config.run.steps
                       : 0;
    if (share > 0 && share < 1)
        fprintf(file, "<progress max=\"100\" value=\"%.2f\" aria-label=\"steps done\"></progress>\n",
                100 * share);
}

/* ---- key figures ---- */

static void put_figure(FILE *file, const char *name, const char *value, const char *note) {
    fprintf(file, "<div><dt>%s</dt><dd>%s", name, value);
    if (note[0] != '\0') fprintf(file, "<span>%s</span>", note);
    fputs("</dd></div>\n", file);
}

static int by_value(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

/* The median of a field's finite values; NaN when there are none. */
static mst_status median(const report_table *table, size_t field, double *median_out) {
    size_t count = 0;
    *median_out = NAN;
    double *values = malloc((table->count + 1) * sizeof *values);
    if (values == NULL) return mst_error(MST_ENOMEM, "report: no memory for %zu values", table->count);
    for (size_t i = 0; i < table->count; i++) {
        double value = report_value(table, i, field);
        if (isfinite(value)) values[count++] = value;
    }
    qsort(values, count, sizeof *values, by_value);
    if (count > 0) *median_out = (values[(count - 1) / 2] + values[count / 2]) / 2;
    free(values);
    return MST_OK;
}

static double sum(const report_table *table, size_t field) {
    double total = 0;
    for (size_t i = 0; i < table->count; i++) {
        double value = report_value(table, i, field);
        if (isfinite(value)) total += value;
    }
    return total;
}

static double last_of(const report_table *table, size_t field) {
    return table->count > 0 ? report_value(table, table->count - 1, field) : NAN;
}

/* The mean of the last hundredth of the steps: what one batch says is noise. */
static double recent(const report_table *table, size_t field, size_t *steps_out) {
    double total = 0;
    size_t number = 0, want = table->count / 100 + 1;
    for (size_t i = table->count; i > 0 && i > table->count - want; i--) {
        double value = report_value(table, i - 1, field);
        if (!isfinite(value)) continue;
        total += value;
        number++;
    }
    *steps_out = number;
    return number > 0 ? total / (double)number : NAN;
}

/* The smallest value of a field, and its step. */
static double best(const report_table *table, size_t field, double *step_out) {
    double least = NAN;
    for (size_t i = 0; i < table->count; i++) {
        double value = report_value(table, i, field);
        if (!isfinite(value) || value >= least) continue;
        least = value;
        *step_out = report_step_of(table, i);
    }
    return least;
}

static void put_losses(FILE *file, const report_history *history) {
    char value[HTML_NUMBER], note[160], least[HTML_NUMBER], at[HTML_NUMBER];
    size_t steps = 0;
    double step = 0;
    html_quantity(recent(&history->steps, STEP_LOSS, &steps), UNIT_PLAIN, value);
    snprintf(note, sizeof note,
             steps > 1 ? "nats per token, mean of the last %zu steps" : "nats per token, last step", steps);
    put_figure(file, "training loss", value, note);
    if (history->evals.count > 0) {
        html_quantity(best(&history->evals, EVAL_LOSS, &step), UNIT_PLAIN, least);
        snprintf(note, sizeof note, "nats per token; best %s at step %s", least, html_grouped(step, at));
        put_figure(file, "held-out loss",
                   html_quantity(last_of(&history->evals, EVAL_LOSS), UNIT_PLAIN, value), note);
    }
    if (report_has(&history->evals, EVAL_BITS_PER_BYTE))
        put_figure(file, "held-out bits per byte",
                   html_quantity(last_of(&history->evals, EVAL_BITS_PER_BYTE), UNIT_PLAIN, value), "");
}

static mst_status put_speed(FILE *file, const report_history *history) {
    mst_status status = MST_OK;
    char value[HTML_NUMBER];
    double speed, share;
    const report_table *steps = &history->steps;
    put_figure(file, "time in steps", html_quantity(sum(steps, STEP_STEP_SECONDS), UNIT_SECONDS, value),
               "those that count, without start-up and checkpoints");
    MST_TRY(median(steps, STEP_TOKENS_PER_SECOND, &speed));
    put_figure(file, "tokens per second", html_quantity(speed, UNIT_COUNT, value),
               "median, all ranks together");
    MST_TRY(median(steps, STEP_PEAK_SHARE, &share));
    if (isfinite(share))
        put_figure(file, "share of peak", html_quantity(share, UNIT_SHARE, value),
                   "median, of the measured peak");
    double memory = last_of(steps, STEP_MEMORY_BYTES);
    if (isfinite(memory))
        put_figure(file, "memory of a rank", html_quantity(memory, UNIT_BYTES, value),
                   "weights, moments, activations");
done:
    return status;
}

static mst_status put_figures(FILE *file, const report_history *history) {
    char value[HTML_NUMBER];
    fputs("<dl class=\"figures\">\n", file);
    put_losses(file, history);
    put_figure(file, "tokens trained on",
               html_quantity(last_of(&history->steps, STEP_TOKENS), UNIT_COUNT, value), "");
    mst_status status = put_speed(file, history);
    fputs("</dl>\n", file);
    return status;
}

/* ---- digests ---- */

static void put_digest(FILE *file, const char *name, const char *digest) {
    fprintf(file, "<div><dt>%s</dt><dd><code>", name);
    html_text(file, digest);
    fputs("</code></dd></div>\n", file);
}

static void put_digests(FILE *file, const report_facts *facts) {
    if (facts->checkpoint_count == 0) return;
    const report_checkpoint *newest = &facts->checkpoints[facts->checkpoint_count - 1];
    char step[HTML_NUMBER];
    fprintf(file, "<p class=\"lead\">Checkpoint of step %s</p>\n<dl class=\"digests\">\n",
            html_grouped((double)newest->step, step));
    put_digest(file, "weights", newest->weights);
    put_digest(file, "state", newest->state);
    if (facts->data[0] != '\0') put_digest(file, "data", facts->data);
    fputs("</dl>\n", file);
}

static void put_model(FILE *file, const report_history *history, const report_facts *facts) {
    if (!facts->config_good) return;
    const mst_model_config *model = &facts->config.model;
    fprintf(file, "<p class=\"model\">%s, %zu layer%s, width %zu, %zu heads", mst_family_name(model->family),
            model->n_layers, model->n_layers == 1 ? "" : "s", model->d_model, model->n_heads);
    if (model->n_kv_heads != 0 && model->n_kv_heads != model->n_heads)
        fprintf(file, " (%zu for keys and values)", model->n_kv_heads);
    const report_event *start = report_newest(history, EVENT_START);
    char parameters[HTML_NUMBER];
    if (start != NULL)
        fprintf(file, ", %s parameters",
                html_quantity(report_event_number(start, "parameters"), UNIT_COUNT, parameters));
    fprintf(file, ", sequences of %zu tokens, %s</p>\n", facts->config.data.seq_len,
            mst_dtype_name(facts->config.train.precision));
}

mst_status figures_write(FILE *file, const report_history *history, const report_facts *facts, double now) {
    fputs("<header>\n<p class=\"kicker\">muster run</p>\n<h1>", file);
    html_text(file, report_name(facts));
    fputs("</h1>\n", file);
    put_model(file, history, facts);
    write_state(file, history, facts, now);
    fputs("</header>\n<section aria-label=\"Key figures\">\n", file);
    mst_status status = put_figures(file, history);
    put_digests(file, facts);
    fputs("</section>\n", file);
    return status;
}
