/* What the page tells in tables: device, data, checkpoints, what happened, config, samples. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "page.h"

enum { TABLE_ROWS_MAX = 200 }; /* the newest; a page is to be read */

static void begin_table(FILE *file, const char *id, const char *title, const char *const *columns) {
    fprintf(file,
            "<section id=\"%s\">\n<h2>%s</h2>\n<div class=\"scroll\" tabindex=\"0\" role=\"group\" "
            "aria-label=\"%s\"><table>\n<thead><tr>",
            id, title, title);
    for (; *columns != NULL; columns++) fprintf(file, "<th scope=\"col\">%s</th>", *columns);
    fputs("</tr></thead>\n<tbody>\n", file);
}

static void end_table(FILE *file, size_t left_out) {
    char number[HTML_NUMBER];
    fputs("</tbody></table></div>\n", file);
    if (left_out > 0)
        fprintf(file, "<p class=\"note\">%s earlier ones are not shown.</p>\n",
                html_grouped((double)left_out, number));
    fputs("</section>\n", file);
}

static void put_cell(FILE *file, const char *style, const char *text) {
    fprintf(file, "<td%s%s%s>", style[0] != '\0' ? " class=\"" : "", style, style[0] != '\0' ? "\"" : "");
    html_text(file, text);
    fputs("</td>", file);
}

static void put_number(FILE *file, double value, report_unit unit) {
    char text[HTML_NUMBER];
    put_cell(file, "number",
             unit == UNIT_COUNT ? html_grouped(value, text) : html_quantity(value, unit, text));
}

/* ---- device ---- */

static void put_fact(FILE *file, const char *name, const char *text) {
    if (text[0] == '\0') return;
    fprintf(file, "<div><dt>%s</dt><dd>", name);
    html_text(file, text);
    fputs("</dd></div>\n", file);
}

static void write_device(FILE *file, const report_history *history, const report_facts *facts) {
    const report_event *start = report_newest(history, EVENT_START);
    const char *now = start != NULL ? report_event_text(start, "device_class", "") : "";
    char text[128], number[HTML_NUMBER];
    fputs("<section id=\"device\">\n<h2>Device</h2>\n<dl class=\"facts\">\n", file);
    put_fact(file, "device class", facts->device_class);
    if (now[0] != '\0' && strcmp(now, facts->device_class) != 0)
        put_fact(file, "of the last start (another one: other bits)", now);
    if (start != NULL) {
        double ranks = report_event_number(start, "ranks"), threads = report_event_number(start, "threads");
        snprintf(text, sizeof text, "%.0f, of %.0f thread%s", ranks, threads, threads == 1 ? "" : "s");
        put_fact(file, "ranks", text);
        put_fact(file, "transport", report_event_text(start, "transport", ""));
        double peak = report_event_number(start, "peak_gflops");
        if (isfinite(peak)) {
            snprintf(text, sizeof text, "%s GFLOP/s", html_quantity(peak, UNIT_COUNT, number));
            put_fact(file, "measured peak, all ranks", text);
        }
        put_fact(file, "muster", report_event_text(start, "version", ""));
    }
    put_fact(file, "versions, in the newest checkpoint", facts->versions);
    put_fact(file, "run id", facts->run_id);
    fputs("</dl>\n</section>\n", file);
}

/* ---- data ---- */

static void write_data_digest(FILE *file, const report_facts *facts, const char *now) {
    if (facts->data[0] == '\0') return;
    fputs("<p class=\"note\">Digest of what the newest checkpoint was trained on: <code>", file);
    html_text(file, facts->data);
    fputs("</code>. ", file);
    if (now[0] == '\0')
        fputs("Not all sources can be read here now.", file);
    else if (strcmp(now, facts->data) == 0)
        fputs("The sources are still the same.", file);
    else
        fprintf(file, "<strong>The sources have changed since:</strong> now <code>%s</code>.", now);
    fputs("</p>\n", file);
}

static mst_status write_data(FILE *file, const report_facts *facts) {
    static const char *const columns[] = {"source", "share", "training tokens", "held-out tokens", NULL};
    report_source *sources;
    char digest[MST_DIGEST_HEX];
    mst_status status = report_sources(facts, &sources, digest);
    if (sources == NULL) return status;
    begin_table(file, "data", "Data", columns);
    for (size_t i = 0; i < facts->config.data.source_count; i++) {
        fputs("<tr>", file);
        put_cell(file, "path", sources[i].path);
        put_number(file, sources[i].share, UNIT_SHARE);
        put_number(file, sources[i].readable ? (double)sources[i].train_tokens : NAN, UNIT_COUNT);
        put_number(file, sources[i].readable ? (double)sources[i].heldout_tokens : NAN, UNIT_COUNT);
        fputs("</tr>\n", file);
    }
    fputs("</tbody></table></div>\n", file);
    write_data_digest(file, facts, digest);
    fputs("</section>\n", file);
    free(sources);
    return MST_OK;
}

/* ---- checkpoints ---- */

static void write_checkpoints(FILE *file, const report_facts *facts) {
    static const char *const columns[] = {"step", "made (UTC)", "took", "there", "weights", "state", NULL};
    char text[REPORT_TIME_TEXT];
    if (facts->checkpoint_count == 0) return;
    size_t first = facts->checkpoint_count > TABLE_ROWS_MAX ? facts->checkpoint_count - TABLE_ROWS_MAX : 0;
    begin_table(file, "checkpoints", "Checkpoints", columns);
    for (size_t i = first; i < facts->checkpoint_count; i++) {
        const report_checkpoint *c = &facts->checkpoints[i];
        fputs("<tr>", file);
        put_number(file, (double)c->step, UNIT_COUNT);
        put_cell(file, "time", html_time(c->time, text));
        put_number(file, c->seconds, UNIT_SECONDS);
        put_cell(file, c->changed ? "bad" : "",
                 c->stands    ? "yes"
                 : c->changed ? "damaged, or another one"
                              : "removed");
        put_cell(file, "digest", c->weights);
        put_cell(file, "digest", c->state);
        fputs("</tr>\n", file);
    }
    end_table(file, first);
}

/* ---- what happened ---- */

static void tell_start(FILE *file, const report_event *event) {
    double ranks = report_event_number(event, "ranks"), threads = report_event_number(event, "threads");
    fprintf(file, "started on %.0f rank%s of %.0f thread%s, transport ", ranks, ranks == 1 ? "" : "s",
            threads, threads == 1 ? "" : "s");
    html_text(file, report_event_text(event, "transport", "not known"));
    fputs(", muster ", file);
    html_text(file, report_event_text(event, "version", "of a version not known"));
}

static void tell_return(FILE *file, const report_event *event, const char *what) {
    char number[HTML_NUMBER];
    double again = event->before - event->step;
    fputs(what, file);
    if (again > 0)
        fprintf(file, "; %s step%s done again", html_grouped(again, number), again == 1 ? "" : "s");
}

static void tell(FILE *file, const report_event *event) {
    double microbatch = report_event_number(event, "microbatch");
    switch (event->kind) {
    case EVENT_START:
        tell_start(file, event);
        break;
    case EVENT_RESUME:
        tell_return(file, event,
                    event->step > 0 ? "resumed from the checkpoint of this step"
                                    : "began again: no checkpoint was there");
        break;
    case EVENT_ROLLBACK:
        tell_return(file, event, "rolled back to this step: a loss or gradient was not finite");
        break;
    case EVENT_SKIP:
        fputs("update left out: not finite", file);
        if (isfinite(microbatch)) fprintf(file, ", first in microbatch %.0f", microbatch);
        break;
    case EVENT_LEAVE:
        fprintf(file, "went on without rank %.0f: ", report_event_number(event, "rank"));
        html_text(file, report_event_text(event, "reason", "no reason given"));
        break;
    case EVENT_STOP:
        fputs("stopped: ", file);
        html_text(file, report_event_text(event, "reason", "no reason given"));
        break;
    default:
        break;
    }
}

static void write_events(FILE *file, const report_history *history) {
    static const char *const columns[] = {"time (UTC)", "step", "", NULL};
    size_t told = 0, first = 0;
    char text[REPORT_TIME_TEXT];
    for (size_t i = 0; i < history->event_count; i++) told += history->events[i].kind != EVENT_CHECKPOINT;
    if (told == 0) return;
    size_t left_out = told > TABLE_ROWS_MAX ? told - TABLE_ROWS_MAX : 0;
    for (size_t skip = left_out; skip > 0; first++) skip -= history->events[first].kind != EVENT_CHECKPOINT;
    begin_table(file, "events", "What happened", columns);
    for (size_t i = first; i < history->event_count; i++) {
        const report_event *event = &history->events[i];
        if (event->kind == EVENT_CHECKPOINT) continue;
        fputs("<tr>", file);
        put_cell(file, "time", html_time(event->time, text));
        put_number(file, event->kind == EVENT_START ? event->before : event->step, UNIT_COUNT);
        fputs("<td>", file);
        tell(file, event);
        fputs("</td></tr>\n", file);
    }
    end_table(file, left_out + history->events_left_out);
}

/* ---- texts ---- */

static void write_config(FILE *file, const report_facts *facts) {
    if (facts->config_text == NULL) return;
    fputs("<section id=\"config\">\n<h2>Config</h2>\n<details><summary>config.yaml as used, every default "
          "written out</summary>\n<pre>",
          file);
    html_text(file, facts->config_text);
    fputs("</pre></details>\n</section>\n", file);
}

static void write_samples(FILE *file, const report_facts *facts) {
    if (facts->sample_count == 0) return;
    fputs("<section id=\"samples\">\n<h2>Samples</h2>\n", file);
    if (facts->samples_left_out > 0)
        fprintf(file, "<p class=\"note\">%zu earlier ones are not shown.</p>\n", facts->samples_left_out);
    for (size_t i = facts->sample_count; i > 0; i--) {
        const report_sample *sample = &facts->samples[i - 1];
        fprintf(file, "<details%s><summary>", i == facts->sample_count ? " open" : "");
        html_text(file, sample->name);
        fputs("</summary>\n<pre class=\"sample\">", file);
        html_bytes(file, sample->text, sample->length);
        fprintf(file, "</pre>%s</details>\n", sample->cut ? "<p class=\"note\">The file goes on.</p>" : "");
    }
    fputs("</section>\n", file);
}

mst_status tables_write(FILE *file, const report_history *history, const report_facts *facts) {
    write_samples(file, facts);
    write_events(file, history);
    write_checkpoints(file, facts);
    mst_status status = write_data(file, facts);
    write_device(file, history, facts);
    write_config(file, facts);
    return status;
}
