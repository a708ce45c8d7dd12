/* What metrics.jsonl says of a run, as it stands after all restarts: docs/metrics.md. */
#ifndef REPORT_HISTORY_H
#define REPORT_HISTORY_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "muster/status.h"

/* The numbers of a line, in the order of the CSV file: name in the enum, name in the file, and whether a value that is not
 * finite stands, as text, in NAME_bits. */
#define REPORT_STEP_FIELDS(X)                                                                                \
    X(LOSS, "loss", true)                                                                                    \
    X(ZLOSS, "zloss", false)                                                                                 \
    X(BITS_PER_BYTE, "bits_per_byte", false)                                                                 \
    X(GRAD_NORM, "grad_norm", true)                                                                          \
    X(CLIP, "clip", false)                                                                                   \
    X(LR, "lr", false)                                                                                       \
    X(VALID_TOKENS, "valid_tokens", false)                                                                   \
    X(TOKENS, "tokens", false)                                                                               \
    X(SAMPLES, "samples", false)                                                                             \
    X(STEP_SECONDS, "step_seconds", false)                                                                   \
    X(TOKENS_PER_SECOND, "tokens_per_second", false)                                                         \
    X(GFLOPS, "gflops", false)                                                                               \
    X(PEAK_SHARE, "peak_share", false)                                                                       \
    X(MEMORY_BYTES, "memory_bytes", false)                                                                   \
    X(PEAK_RSS_BYTES, "peak_rss_bytes", false)                                                               \
    X(SKIPPED, "skipped", false)

#define REPORT_EVAL_FIELDS(X)                                                                                \
    X(LOSS, "loss", true)                                                                                    \
    X(BITS_PER_BYTE, "bits_per_byte", false)                                                                 \
    X(VALID_TOKENS, "valid_tokens", false)

#define REPORT_STEP_ENUM(id, name, bits) STEP_##id,
enum { REPORT_STEP_FIELDS(REPORT_STEP_ENUM) STEP_FIELDS };
#undef REPORT_STEP_ENUM
#define REPORT_EVAL_ENUM(id, name, bits) EVAL_##id,
enum { REPORT_EVAL_FIELDS(REPORT_EVAL_ENUM) EVAL_FIELDS };
#undef REPORT_EVAL_ENUM

typedef struct report_field {
    const char *name;
    bool bits;
} report_field;

extern const report_field report_step_fields[STEP_FIELDS], report_eval_fields[EVAL_FIELDS];

/* Rows by rising step, each step once. A number that was not given is NaN with no `bits` beside it. */
typedef struct report_table {
    const report_field *fields;
    size_t field_count, count, room;
    double *cells; /* [count, 2 + field_count]: step, seconds since 1970, the fields */
} report_table;

static inline const double *report_row(const report_table *table, size_t row) {
    return table->cells + row * (2 + table->field_count);
}
static inline double report_step_of(const report_table *table, size_t row) {
    return report_row(table, row)[0];
}
static inline double report_time_of(const report_table *table, size_t row) {
    return report_row(table, row)[1];
}
static inline double report_value(const report_table *table, size_t row, size_t field) {
    return report_row(table, row)[2 + field];
}

/** Whether any row of the table has a value of this field. */
bool report_has(const report_table *table, size_t field);

typedef enum report_event_kind {
    EVENT_START,
    EVENT_RESUME,
    EVENT_ROLLBACK,
    EVENT_SKIP,
    EVENT_LEAVE,
    EVENT_CHECKPOINT,
    EVENT_STOP,
    EVENT_KINDS
} report_event_kind;

/* A line that is neither a step nor an evaluation. */
typedef struct report_event {
    report_event_kind kind;
    double step, time; /* time: seconds since 1970, NaN: not known */
    double before;     /* the last step done when the line was written */
    bool overtaken;    /* a later restart went back to before this step */
    json_t *line;
} report_event;

enum { REPORT_EVENTS_MAX = 20000 };

typedef struct report_history {
    report_table steps, evals;
    report_event *events; /* in the order of the file; the newest REPORT_EVENTS_MAX or fewer */
    size_t event_count, events_left_out;
    bool missing;                           /* there is no metrics.jsonl */
    uint64_t lines, damaged, first_damaged; /* first_damaged: its number, from 1 */
    bool cut;         /* the last line has no end, and is no JSON: it may still be written */
    double last_time; /* of the last line that has one; NaN: none */
    double last_step; /* the last step done, after restarts */
    bool stopped;     /* the last line is a stop */
} report_history;

/**
 * Reads metrics.jsonl. Lines that are no JSON or lack event or step are passed over and counted.
 *
 * Not collective. history_out is freed by report_history_clear, also after an error.
 * @retval MST_EIO, MST_ENOMEM
 */
mst_status report_history_read(const char *path, report_history *history_out);
void report_history_clear(report_history *history);

/** The text of a field of an event's line; `otherwise` where it has none. */
const char *report_event_text(const report_event *event, const char *field, const char *otherwise);
/** The number of a field; NaN where it has none. */
double report_event_number(const report_event *event, const char *field);
/** The newest event of a kind; NULL when there is none. */
const report_event *report_newest(const report_history *history, report_event_kind kind);

/** "2026-01-31T23:59:59.123Z" as seconds since 1970; NaN when it is no such time. */
double report_time_parse(const char *text);
enum { REPORT_TIME_TEXT = 40 };
/** Back again; "" for what is not finite or not in the years 1970 to 9999. */
const char *report_time_print(double time, char text[REPORT_TIME_TEXT]);

#endif
