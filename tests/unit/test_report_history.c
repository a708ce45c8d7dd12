/* metrics.jsonl as a report reads it: restarts, damaged lines, numbers that are not finite; the fast reader against the JSON
 * library. */
#include <inttypes.h>
#include <unistd.h>

#include "history.h"
#include "lines.h"
#include "scan.h"
#include "test.h"

static char path[] = "/tmp/muster-history-XXXXXX";

static void write_file(const char *text, size_t bytes) {
    FILE *file = fopen(path, "w");
    CHECK(file != NULL && fwrite(text, 1, bytes, file) == bytes && fclose(file) == 0, "writing %s", path);
}

static void read_text(const char *text, report_history *history_out) {
    write_file(text, strlen(text));
    CHECK_OK(report_history_read(path, history_out));
}

/* "1:0.5 2:0.25" for the losses of a table. */
static const char *losses(const report_table *table, char text[512]) {
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; i < table->count && used < 480; i++)
        used += (size_t)snprintf(text + used, 512 - used, "%s%.0f:%g", i > 0 ? " " : "",
                                 report_step_of(table, i), report_value(table, i, 0));
    return text;
}

#define CHECK_LOSSES(table, expected)                                                                        \
    do {                                                                                                     \
        char text_[512];                                                                                     \
        CHECK(strcmp(losses(table, text_), expected) == 0, "found %s", text_);                               \
    } while (0)

#define STEP(step, loss)                                                                                     \
    "{\"event\":\"step\",\"step\":" #step ",\"time\":\"2026-01-02T03:04:05.678Z\",\"loss\":" loss "}\n"
#define EVAL(step, loss)                                                                                     \
    "{\"event\":\"eval\",\"step\":" #step ",\"time\":\"2026-01-02T03:04:06.000Z\",\"loss\":" loss "}\n"
#define EVENT(name, step, rest)                                                                              \
    "{\"event\":\"" name "\",\"step\":" #step ",\"time\":\"2026-01-02T03:04:07.000Z\"" rest "}\n"

static void test_restarts(void) {
    report_history h;
    read_text(EVENT("start", 0, ",\"ranks\":2") STEP(1, "9") STEP(2, "8") EVAL(2, "8.5")
                  EVENT("checkpoint", 2, ",\"weights\":\"aa\"") STEP(3, "7") STEP(4, "6") EVAL(4, "6.5")
                      EVENT("checkpoint", 4, "") EVENT("start", 0, "") EVENT("resume", 2, "") STEP(3, "70")
                          EVAL(3, "7.5") EVENT("stop", 3, ",\"reason\":\"signal\""),
              &h);
    CHECK_LOSSES(&h.steps, "1:9 2:8 3:70");
    CHECK_LOSSES(&h.evals, "2:8.5 3:7.5");
    CHECK(h.event_count == 6 && h.stopped && h.last_step == 3 && h.damaged == 0 && !h.cut && !h.missing,
          "state");
    CHECK(!h.events[1].overtaken && h.events[2].overtaken,
          "the checkpoint beyond the resume no longer counts");
    CHECK(h.events[4].kind == EVENT_RESUME && h.events[4].before == 4, "two steps are done again");
    CHECK(strcmp(report_event_text(report_newest(&h, EVENT_STOP), "reason", ""), "signal") == 0, "reason");
    CHECK(report_event_number(&h.events[0], "ranks") == 2 &&
              isnan(report_event_number(&h.events[0], "threads")),
          "numbers");
    CHECK(report_newest(&h, EVENT_SKIP) == NULL, "no such event");
    report_history_clear(&h);

    /* The resume line itself was lost: the later step counts all the same. */
    read_text(STEP(1, "9") STEP(2, "8") STEP(3, "7") "{\"event\":\"resu\n" STEP(2, "80")
                  EVENT("rollback", 1, ",\"samples\":5") STEP(2, "81"),
              &h);
    CHECK_LOSSES(&h.steps, "1:9 2:81");
    CHECK(h.damaged == 1 && h.first_damaged == 4 && !h.stopped, "the line that was lost is named");
    report_history_clear(&h);

    read_text(STEP(1, "9") EVENT("resume", 0, ",\"checkpoint\":null") STEP(1, "5"), &h);
    CHECK_LOSSES(&h.steps, "1:5");
    report_history_clear(&h);
}

static void test_damage(void) {
    report_history h;
    read_text(
        "\n[1]\nnull\n" STEP(
            1,
            "9") "{\"event\":\"step\"}\n{\"event\":\"step\",\"step\":-1}\n"
                 "{\"event\":\"step\",\"step\":1.5}\n{\"event\":\"step\",\"step\":9007199254740993}"
                 "\n\xff\xfe\n"
                 "{\"event\":\"tomorrow\",\"step\":1}\n{\"event\":\"step\",\"step\":2,\"loss\":012}\n" STEP(
                     2, "8") "{\"event\":\"step\",\"step\":3,\"loss\":7",
        &h);
    CHECK_LOSSES(&h.steps, "1:9 2:8");
    CHECK(h.damaged == 8 && h.first_damaged == 2 && h.cut && h.lines == 13,
          "%" PRIu64 " damaged, %" PRIu64 " lines", h.damaged, h.lines);
    report_history_clear(&h);

    /* A last line that lacks only its newline is whole. */
    read_text(STEP(1, "9") "{\"event\":\"step\",\"step\":2,\"loss\":8}", &h);
    CHECK_LOSSES(&h.steps, "1:9 2:8");
    CHECK(!h.cut && h.damaged == 0, "nothing was lost");
    report_history_clear(&h);

    /* Lines longer than any that muster writes, one of them across several reads of the file; a zero byte. */
    size_t length = 3u << 20, used;
    char *text = malloc(length + 1000);
    CHECK(text != NULL, "memory");
    memset(text, 'x', length);
    text[REPORT_LINE_MAX + 1] = text[length - 1] = '\n';
    used = length + (size_t)sprintf(text + length, "%s", STEP(1, "9"));
    text[used++] = '\0';
    text[used++] = '\n';
    write_file(text, used);
    CHECK_OK(report_history_read(path, &h));
    CHECK_LOSSES(&h.steps, "1:9");
    CHECK(h.damaged == 3 && h.lines == 4, "%" PRIu64 " damaged of %" PRIu64, h.damaged, h.lines);
    report_history_clear(&h);
    free(text);

    CHECK_OK(report_history_read("/nonexistent/metrics.jsonl", &h));
    CHECK(h.missing && h.steps.count == 0, "missing is no error");
    report_history_clear(&h);
    CHECK_STATUS(report_history_read("/tmp", &h), MST_EIO);
    report_history_clear(&h);
    CHECK_STATUS(report_history_read("/dev/zero", &h), MST_EIO);
    report_history_clear(&h);
}

static void test_numbers(void) {
    report_history h;
    read_text(
        "{\"event\":\"step\",\"step\":1,\"time\":\"x\",\"loss\":null,\"loss_bits\":\"-nan\",\"grad_norm\":"
        "null,\"grad_norm_bits\":\"inf\","
        "\"peak_share\":null,\"lr\":3e-4,\"skipped\":true,\"memory_bytes\":9223372036854775807}\n" STEP(
            2, "0.1"),
        &h);
    CHECK(h.steps.count == 2, "two rows: %zu", h.steps.count);
    CHECK(isnan(report_value(&h.steps, 0, STEP_LOSS)) && isinf(report_value(&h.steps, 0, STEP_GRAD_NORM)),
          "bits");
    CHECK(isnan(report_value(&h.steps, 0, STEP_PEAK_SHARE)) && isnan(report_time_of(&h.steps, 0)),
          "not known");
    CHECK(h.steps.count == 1 || report_value(&h.steps, 1, STEP_LOSS) == 0.1, "the same double");
    CHECK(report_has(&h.steps, STEP_LOSS) && !report_has(&h.steps, STEP_PEAK_SHARE),
          "which fields there are");
    report_history_clear(&h);
}

/* What the fast reader takes, it reads as the JSON library does; what it does not take, that one judges. */
static void test_scan(void) {
    static const struct {
        const char *line;
        bool taken;
    } cases[] = {
        {"{\"event\":\"step\",\"step\":7,\"loss\":1.25,\"unknown\":\"a b\",\"lr\":-1e-3,\"skipped\":false}",
         true},
        {"{\"event\":\"step\",\"lr\":0.5,\"step\":7,\"loss\":0,\"time\":\"2026-01-02T03:04:05.678Z\"}", true},
        {"{\"event\":\"step\",\"step\":7,\"loss\":1,\"loss\":2}", true},
        {"{\"event\":\"step\",\"step\":7,\"loss\":null,\"loss_bits\":\"nan\"}", false},
        {"{\"event\":\"step\",\"step\":7.0,\"loss\":1}", false},
        {"{\"event\":\"step\",\"step\":7,\"loss\":01}", false},
        {"{\"event\":\"step\",\"step\":7,\"loss\":1.}", false},
        {"{\"event\":\"step\",\"step\":7,\"loss\":+1}", false},
        {"{\"event\":\"step\",\"step\":7,\"loss\":inf}", false},
        {"{\"event\":\"step\",\"step\":7,\"loss\":0x1p3}", false},
        {"{\"event\":\"step\",\"step\":7,\"text\":\"\\u0041\"}", false},
        {"{\"event\":\"step\",\"step\":7,\"inner\":{}}", false},
        {"{\"event\":\"step\",\"step\":7} ", false},
        {"{\"event\":\"step\",\"step\":7", false},
        {"{\"event\":\"step\",\"loss\":7}", false},
        {"{\"event\":\"stepp\",\"step\":7}", false},
        {"{\"event\":\"step\",\"step\":7,}", false},
        {"{\"event\":\"step\",\"step\":\"7\"}", false},
    };
    double row[2 + STEP_FIELDS];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *line = cases[i].line;
        bool taken = report_scan(line, strlen(line), "step", report_step_fields, STEP_FIELDS, row);
        CHECK(taken == cases[i].taken, "%s", line);
        json_t *json = json_loads(line, 0, NULL);
        CHECK(!taken || json_is_object(json), "taken, but no JSON: %s", line);
        for (size_t f = 0; taken && f < STEP_FIELDS; f++) {
            const json_t *value = json_object_get(json, report_step_fields[f].name);
            double expected = json_is_number(value)  ? json_number_value(value)
                              : json_is_false(value) ? 0
                                                     : NAN;
            CHECK(row[2 + f] == expected || (isnan(row[2 + f]) && isnan(expected)), "%s of %s",
                  report_step_fields[f].name, line);
        }
        CHECK(!taken || row[0] == 7, "step of %s", line);
        json_decref(json);
    }
}

static void test_times(void) {
    static const struct {
        const char *text;
        double seconds;
    } times[] = {{"1970-01-01T00:00:00.000Z", 0},
                 {"2000-02-29T12:34:56.789Z", 951827696.789},
                 {"2026-11-23T22:09:29.434Z", 1795471769.434},
                 {"2100-03-01T00:00:00.000Z", 4107542400},
                 {"9999-12-31T23:59:58.999Z", 253402300798.999}};
    char text[REPORT_TIME_TEXT];
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        CHECK(fabs(report_time_parse(times[i].text) - times[i].seconds) < 1e-4, "%s is %.3f", times[i].text,
              report_time_parse(times[i].text));
        CHECK(strcmp(report_time_print(times[i].seconds, text), times[i].text) == 0, "%s", text);
    }
    static const char *const bad[] = {"",
                                      "2026",
                                      "2026-13-01T00:00:00.000Z",
                                      "2026-01-01T24:00:00.000Z",
                                      "2026-01-01 00:00:00.000Z",
                                      "2026-01-01T00:00:00.000Zx",
                                      "2026-01-01T00:00:0a.000Z"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK(isnan(report_time_parse(bad[i])), "%s", bad[i]);
    CHECK(report_time_print(NAN, text)[0] == '\0' && report_time_print(-1, text)[0] == '\0' &&
              report_time_print(1e300, text)[0] == '\0',
          "no time");
}

/* More events than are kept: the newest stay. */
static void test_many_events(void) {
    report_history h;
    FILE *file = fopen(path, "w");
    CHECK(file != NULL, "%s", path);
    for (int i = 0; i < REPORT_EVENTS_MAX + 5; i++) fprintf(file, "{\"event\":\"skip\",\"step\":%d}\n", i);
    CHECK(fclose(file) == 0, "%s", path);
    CHECK_OK(report_history_read(path, &h));
    CHECK(h.event_count + h.events_left_out == REPORT_EVENTS_MAX + 5 && h.event_count <= REPORT_EVENTS_MAX,
          "%zu kept", h.event_count);
    CHECK(h.events[h.event_count - 1].step == REPORT_EVENTS_MAX + 4, "the newest is there");
    report_history_clear(&h);
}

int main(void) {
    int file = mkstemp(path);
    CHECK(file >= 0 && close(file) == 0, "a file in /tmp");
    test_restarts();
    test_damage();
    test_numbers();
    test_scan();
    test_times();
    test_many_events();
    unlink(path);
    return test_finish("test_report_history");
}
