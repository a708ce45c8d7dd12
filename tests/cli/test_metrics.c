/* metrics.jsonl: every line is JSON with the documented fields, results keep their bits,
 * a torn line spoils no other. */
#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include "metrics.h"
#include "test.h"

static char path[] = "/tmp/muster-metrics-XXXXXX";

/* The lines of the file as JSON values; a line that is no JSON is NULL. Returns how many. */
static size_t read_lines(json_t *lines[], size_t room) {
    char text[32768];
    size_t count = 0;
    FILE *file = fopen(path, "r");
    CHECK(file != NULL, "%s", path);
    while (file != NULL && count < room && fgets(text, sizeof text, file) != NULL) {
        CHECK(text[strlen(text) - 1] == '\n', "a whole line: %.80s", text);
        lines[count++] = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    }
    if (file != NULL) fclose(file);
    return count;
}

static double number(const json_t *line, const char *key) {
    const json_t *value = json_object_get(line, key);
    CHECK(json_is_number(value), "%s is a number", key);
    return json_number_value(value);
}

static const char *text_of(const json_t *line, const char *key) {
    const char *text = json_string_value(json_object_get(line, key));
    CHECK(text != NULL, "%s is a text", key);
    return text != NULL ? text : "";
}

static void test_step(mst_metrics *metrics) {
    const mst_step_report report = {.loss = 1.0 / 3,
                                    .zloss = 2.5,
                                    .grad_norm = 0.1,
                                    .clip = 1,
                                    .rate = 3e-4,
                                    .valid = 4096,
                                    .updated = true,
                                    .finite = true};
    const mst_step_report broken = {.loss = NAN, .grad_norm = INFINITY};
    const mst_position position = {.step = 7, .updates = 7, .samples = 56, .tokens = 28672};
    mst_metrics_step_fields fields = {.report = &report,
                                      .position = &position,
                                      .steps = 10,
                                      .seconds = 0.25,
                                      .tokens_per_second = 16384,
                                      .flops = 2e9,
                                      .peak_share = 0.5,
                                      .memory_bytes = 12345};
    CHECK_OK(mst_metrics_step(metrics, &fields));
    fields.report = &broken;
    fields.peak_share = 0;
    CHECK_OK(mst_metrics_step(metrics, &fields));
}

static void check_step(const json_t *line) {
    CHECK(strcmp(text_of(line, "event"), "step") == 0, "event");
    CHECK(number(line, "step") == 7 && number(line, "samples") == 56 && number(line, "tokens") == 28672,
          "position");
    CHECK(number(line, "loss") == 1.0 / 3 && number(line, "zloss") == 2.5 && number(line, "grad_norm") == 0.1,
          "report");
    CHECK(strtod(text_of(line, "loss_bits"), NULL) == 1.0 / 3, "%s", text_of(line, "loss_bits"));
    CHECK(strcmp(text_of(line, "loss_bits"), "0x1.5555555555555p-2") == 0, "%s", text_of(line, "loss_bits"));
    CHECK(strtod(text_of(line, "grad_norm_bits"), NULL) == 0.1, "%s", text_of(line, "grad_norm_bits"));
    CHECK(number(line, "clip") == 1 && number(line, "lr") == 3e-4 && number(line, "valid_tokens") == 4096,
          "report");
    CHECK(number(line, "step_seconds") == 0.25 && number(line, "tokens_per_second") == 16384, "speed");
    CHECK(number(line, "gflops") == 2 && number(line, "peak_share") == 0.5, "speed");
    CHECK(number(line, "peak_rss_bytes") > 100e3 && number(line, "peak_rss_bytes") < 100e9, "a process");
    CHECK(number(line, "memory_bytes") == 12345 && json_is_false(json_object_get(line, "skipped")), "rest");
    const char *time = text_of(line, "time");
    CHECK(strlen(time) == 24 && time[10] == 'T' && time[23] == 'Z', "%s", time);
}

static void check_broken_step(const json_t *line) {
    CHECK(json_is_null(json_object_get(line, "loss")) && json_is_null(json_object_get(line, "grad_norm")),
          "null");
    CHECK(strstr(text_of(line, "loss_bits"), "nan") != NULL, "%s", text_of(line, "loss_bits"));
    CHECK(strcmp(text_of(line, "grad_norm_bits"), "inf") == 0, "%s", text_of(line, "grad_norm_bits"));
    CHECK(json_is_null(json_object_get(line, "peak_share")), "not known");
    CHECK(json_is_true(json_object_get(line, "skipped")), "skipped");
}

static void test_events(mst_metrics *metrics) {
    const mst_metrics_start_fields start = {.run_id = "r",
                                            .device_class = "cpu \"x\"\\\n",
                                            .ranks = 2,
                                            .threads = 3,
                                            .parameters = 5,
                                            .peak_flops = 4e9};
    const mst_saved saved = {.step = 8,
                             .digests = {.weights = {{1}}, .state = {{2}}},
                             .path = "/a/b",
                             .seconds = 1.5,
                             .written = 1.25,
                             .stalled = 0.5};
    char long_path[4000];
    memset(long_path, '\1', sizeof long_path - 1); /* every byte becomes six */
    long_path[sizeof long_path - 1] = '\0';
    const mst_heldout heldout = {.loss = 2.25, .bits_per_byte = 1.5, .valid = 100, .bytes = 216};
    CHECK_OK(mst_metrics_start(metrics, &start));
    CHECK_OK(mst_metrics_eval(metrics, 8, &heldout));
    CHECK_OK(mst_metrics_checkpoint(metrics, &saved));
    CHECK_OK(mst_metrics_resume(metrics, 8, "/a/b"));
    CHECK_OK(mst_metrics_rollback(metrics, 4, 99));
    CHECK_OK(mst_metrics_skip(metrics, 9, 3));
    CHECK_OK(mst_metrics_skip(metrics, 10, SIZE_MAX));
    CHECK_OK(mst_metrics_stop(metrics, 10, "done"));
    CHECK_OK(mst_metrics_resume(metrics, 11, long_path));
    CHECK_OK(mst_metrics_checkpoint_failed(metrics, 12, "disk full"));
}

static void check_events(json_t *lines[]) {
    static const char *const names[] = {"start", "eval", "checkpoint", "resume", "rollback",
                                        "skip",  "skip", "stop",       "resume", "checkpoint_failed"};
    for (size_t i = 0; i < 10; i++)
        CHECK(strcmp(text_of(lines[i], "event"), names[i]) == 0, "line %zu is %s", i, names[i]);
    CHECK(strcmp(text_of(lines[0], "device_class"), "cpu \"x\"\\\n") == 0, "escapes");
    CHECK(json_is_null(json_object_get(lines[0], "transport")), "a text that is not known");
    CHECK(number(lines[0], "ranks") == 2 && number(lines[0], "threads") == 3 &&
              number(lines[0], "parameters") == 5,
          "start");
    CHECK(number(lines[0], "peak_gflops") == 4 && strcmp(text_of(lines[0], "version"), MST_VERSION) == 0,
          "start");
    CHECK(number(lines[1], "loss") == 2.25 && number(lines[1], "valid_tokens") == 100, "eval");
    CHECK(number(lines[1], "bits_per_byte") == 1.5 && number(lines[1], "bytes") == 216, "eval");
    CHECK(strcmp(text_of(lines[2], "path"), "/a/b") == 0 && number(lines[2], "seconds") == 1.5, "checkpoint");
    CHECK(number(lines[2], "written_seconds") == 1.25 && number(lines[2], "stall_seconds") == 0.5, "seconds");
    CHECK(strncmp(text_of(lines[2], "weights"), "0100", 4) == 0 && strlen(text_of(lines[2], "state")) == 64,
          "digests");
    CHECK(strcmp(text_of(lines[3], "checkpoint"), "/a/b") == 0, "resume");
    CHECK(number(lines[4], "step") == 4 && number(lines[4], "samples") == 99, "rollback");
    CHECK(number(lines[5], "microbatch") == 3 && json_is_null(json_object_get(lines[6], "microbatch")),
          "skip");
    CHECK(strcmp(text_of(lines[7], "reason"), "done") == 0, "stop");
    CHECK(number(lines[9], "step") == 12 && strcmp(text_of(lines[9], "reason"), "disk full") == 0, "failed");
    CHECK(strlen(text_of(lines[8], "checkpoint")) == 3999, "a long path, all of it escaped");
}

/* A part of a line still fits, as on a disk that becomes full. */
static void test_no_room(void) {
    mst_metrics *metrics = NULL;
    struct rlimit before;
    CHECK(getrlimit(RLIMIT_FSIZE, &before) == 0, "the limit of a file");
    signal(SIGXFSZ, SIG_IGN);
    CHECK(setrlimit(RLIMIT_FSIZE, &(struct rlimit){20, before.rlim_max}) == 0, "a limit of 20 bytes");
    CHECK_OK(mst_metrics_open(path, &metrics));
    CHECK_STATUS(mst_metrics_stop(metrics, 1, "done"), MST_EIO);
    CHECK(strstr(mst_error_message(), path) != NULL && strstr(mst_error_message(), strerror(EFBIG)) != NULL,
          "%s", mst_error_message());
    mst_metrics_close(&metrics);
    setrlimit(RLIMIT_FSIZE, &before);
    unlink(path);
}

int main(void) {
    json_t *lines[16] = {NULL};
    mst_metrics *metrics = NULL;
    int file = mkstemp(path);
    CHECK(file >= 0 && close(file) == 0, "a file in /tmp");

    CHECK_OK(mst_metrics_open(path, &metrics));
    test_step(metrics);
    mst_metrics_close(&metrics);
    CHECK(metrics == NULL, "closed");

    /* A kill came in the middle of a line: that one is lost, the next ones are whole. */
    CHECK(truncate(path, 700) == 0, "truncate");
    CHECK_OK(mst_metrics_open(path, &metrics));
    test_step(metrics);
    test_events(metrics);
    mst_metrics_close(&metrics);

    size_t count = read_lines(lines, 16);
    CHECK(count == 14, "%zu lines", count);
    check_step(lines[0]);
    CHECK(lines[1] == NULL, "the torn line");
    check_step(lines[2]);
    check_broken_step(lines[3]);
    check_events(lines + 4);
    for (size_t i = 0; i < count; i++) json_decref(lines[i]);
    unlink(path);

    CHECK_STATUS(mst_metrics_open("/nonexistent/metrics.jsonl", &metrics), MST_EIO);
    CHECK(metrics == NULL, "nothing opened");
    CHECK_STATUS(mst_metrics_open("/dev/null", &metrics), MST_EIO);
    CHECK(strstr(mst_error_message(), "/dev/null: it is no regular file") != NULL, "%s", mst_error_message());
    CHECK_OK(mst_metrics_stop(NULL, 1, "done"));
    test_no_room();
    return test_finish("test_metrics");
}
