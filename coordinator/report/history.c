/* Reading metrics.jsonl: rows of numbers for steps and evaluations, the JSON itself for the few other lines. */
#include "history.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lines.h"
#include "scan.h"

#define FIELD(id, name, bits) {name, bits},
const report_field report_step_fields[STEP_FIELDS] = {REPORT_STEP_FIELDS(FIELD)};
const report_field report_eval_fields[EVAL_FIELDS] = {REPORT_EVAL_FIELDS(FIELD)};
#undef FIELD

static const char *const event_names[EVENT_KINDS] = {"start", "resume",     "rollback", "skip",
                                                     "leave", "checkpoint", "stop"};

/* ---- tables ---- */

bool report_has(const report_table *table, size_t field) {
    for (size_t i = 0; i < table->count; i++)
        if (!isnan(report_value(table, i, field))) return true;
    return false;
}

/* Drops the rows whose step is greater than `step`. */
static void cut_table(report_table *table, double step) {
    while (table->count > 0 && report_step_of(table, table->count - 1) > step) table->count--;
}

/* The place of a new row of this step. A step that comes again, without a line that says why (it may be damaged), began
 * again there: the later one counts. NULL when there is no memory. */
static double *add_row(report_table *table, double step) {
    size_t width = 2 + table->field_count;
    cut_table(table, step - 1);
    if (table->count == table->room) {
        size_t room = table->room == 0 ? 1024 : table->room + table->room / 2;
        double *cells = room > SIZE_MAX / width / sizeof *cells
                            ? NULL
                            : realloc(table->cells, room * width * sizeof *cells);
        if (cells == NULL) return NULL;
        table->cells = cells;
        table->room = room;
    }
    return table->cells + table->count++ * width;
}

/* ---- a line ---- */

static double number_of(const json_t *value) {
    return json_is_number(value)    ? json_number_value(value)
           : json_is_boolean(value) ? json_boolean_value(value)
                                    : NAN;
}

/* null says "not finite, or not known"; the bits say which. */
static double field_value(const json_t *line, const report_field *field) {
    const json_t *value = json_object_get(line, field->name);
    if (!json_is_null(value) || !field->bits) return number_of(value);
    char name[64];
    snprintf(name, sizeof name, "%s_bits", field->name);
    const char *bits = json_string_value(json_object_get(line, name));
    return bits != NULL ? strtod(bits, NULL) : NAN;
}

/* Adds a row of step, time and fields. */
static mst_status add_numbers(report_history *h, report_table *table, const double *numbers) {
    double *row = add_row(table, numbers[0]);
    if (row == NULL) return mst_error(MST_ENOMEM, "metrics: no memory for %zu rows", table->count + 1);
    memcpy(row, numbers, (2 + table->field_count) * sizeof *row);
    if (table == &h->steps) h->last_step = numbers[0];
    return MST_OK;
}

static mst_status add_object(report_history *h, report_table *table, const json_t *line, double step,
                             double time) {
    double numbers[2 + STEP_FIELDS + EVAL_FIELDS] = {step, time}; /* enough for either */
    for (size_t i = 0; i < table->field_count; i++) numbers[2 + i] = field_value(line, &table->fields[i]);
    return add_numbers(h, table, numbers);
}

static void go_back(report_history *h, double step) {
    cut_table(&h->steps, step);
    cut_table(&h->evals, step);
    for (size_t i = 0; i < h->event_count; i++)
        h->events[i].overtaken = h->events[i].overtaken || h->events[i].step > step;
    h->last_step = step;
}

/* Room for one more event; of too many, the older half is left out. */
static mst_status make_room(report_history *h) {
    if (h->events == NULL) h->events = calloc(REPORT_EVENTS_MAX, sizeof *h->events);
    if (h->events == NULL) return mst_error(MST_ENOMEM, "metrics: no memory for events");
    if (h->event_count < REPORT_EVENTS_MAX) return MST_OK;
    size_t half = REPORT_EVENTS_MAX / 2;
    for (size_t i = 0; i < half; i++) json_decref(h->events[i].line);
    memmove(h->events, h->events + half, (REPORT_EVENTS_MAX - half) * sizeof *h->events);
    h->event_count -= half;
    h->events_left_out += half;
    return MST_OK;
}

static mst_status add_event(report_history *h, report_event_kind kind, json_t *line, double step,
                            double time) {
    mst_status status = make_room(h);
    if (status != MST_OK) return status;
    double before = h->last_step;
    if (kind == EVENT_RESUME || kind == EVENT_ROLLBACK) go_back(h, step);
    h->events[h->event_count++] = (report_event){kind, step, time, before, false, json_incref(line)};
    h->stopped = kind == EVENT_STOP;
    return MST_OK;
}

typedef struct reading {
    report_history *history;
    mst_status status;
} reading;

static void note_line(report_history *h, double time) {
    if (!isnan(time)) h->last_time = time;
    h->stopped = false;
}

/* A line of the usual kind; false when it is none. */
static bool take_numbers(reading *r, report_table *table, const char *event, const char *text,
                         size_t length) {
    double numbers[2 + STEP_FIELDS + EVAL_FIELDS];
    if (!report_scan(text, length, event, table->fields, table->field_count, numbers)) return false;
    note_line(r->history, numbers[1]);
    r->status = add_numbers(r->history, table, numbers);
    return true;
}

/* What a line says; false when it is no line of metrics. */
static bool take_object(reading *r, json_t *line) {
    report_history *h = r->history;
    const char *event = json_string_value(json_object_get(line, "event"));
    const json_t *number = json_object_get(line, "step"), *time_text = json_object_get(line, "time");
    /* a double holds it exactly */
    if (event == NULL || !json_is_integer(number) || json_integer_value(number) < 0 ||
        json_integer_value(number) > (json_int_t)1 << 53)
        return false;
    double step = (double)json_integer_value(number);
    double time = json_is_string(time_text) ? report_time_parse(json_string_value(time_text)) : NAN;
    note_line(h, time);
    if (strcmp(event, "step") == 0) r->status = add_object(h, &h->steps, line, step, time);
    if (strcmp(event, "eval") == 0) r->status = add_object(h, &h->evals, line, step, time);
    for (int kind = 0; kind < EVENT_KINDS; kind++)
        if (strcmp(event, event_names[kind]) == 0)
            r->status = add_event(h, (report_event_kind)kind, line, step, time);
    return true;
}

static void take_line(void *context, const char *text, size_t length, bool whole) {
    reading *r = context;
    if (r->status != MST_OK) return;
    report_history *h = r->history;
    bool good = text != NULL && whole &&
                (take_numbers(r, &h->steps, "step", text, length) ||
                 take_numbers(r, &h->evals, "eval", text, length));
    if (!good && text != NULL) {
        json_t *line = json_loadb(text, length, 0, NULL);
        good = json_is_object(line) && take_object(r, line);
        json_decref(line);
    }
    h->lines++;
    h->cut = !good && !whole;
    bool empty = text != NULL && length == 0; /* says nothing */
    if (good || empty || !whole) return;
    if (h->damaged++ == 0) h->first_damaged = h->lines;
}

mst_status report_history_read(const char *path, report_history *history_out) {
    report_history history = {.last_time = NAN};
    history.steps.fields = report_step_fields;
    history.steps.field_count = STEP_FIELDS;
    history.evals.fields = report_eval_fields;
    history.evals.field_count = EVAL_FIELDS;
    reading r = {.history = history_out};
    *history_out = history;
    mst_status status = report_lines(path, take_line, &r, &history_out->missing);
    if (status == MST_OK) status = r.status;
    return status;
}

void report_history_clear(report_history *history) {
    for (size_t i = 0; i < history->event_count; i++) json_decref(history->events[i].line);
    free(history->events);
    free(history->steps.cells);
    free(history->evals.cells);
    *history = (report_history){0};
}

const char *report_event_text(const report_event *event, const char *field, const char *otherwise) {
    const char *text = json_string_value(json_object_get(event->line, field));
    return text != NULL ? text : otherwise;
}

double report_event_number(const report_event *event, const char *field) {
    return number_of(json_object_get(event->line, field));
}

const report_event *report_newest(const report_history *history, report_event_kind kind) {
    for (size_t i = history->event_count; i > 0; i--)
        if (history->events[i - 1].kind == kind) return &history->events[i - 1];
    return NULL;
}
