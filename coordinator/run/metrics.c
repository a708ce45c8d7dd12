#include "metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "utc.h"

enum { LINE_MAX_BYTES = 32768 }; /* a path of 4,096 bytes, each of them escaped, still fits beside the rest */

struct mst_metrics {
    int file;
    char *path;
    size_t used; /* of line */
    char line[LINE_MAX_BYTES];
};

/* ---- the file ---- */

/* The file's last byte is not a newline: a kill came in the middle of a write. */
static bool ends_inside_line(int file) {
    char last = '\n';
    off_t size = lseek(file, 0, SEEK_END);
    return size > 0 && pread(file, &last, 1, size - 1) == 1 && last != '\n';
}

mst_status mst_metrics_open(const char *path, mst_metrics **metrics_out) {
    mst_status status = MST_OK;
    struct stat facts;
    mst_metrics *metrics = calloc(1, sizeof *metrics);
    MST_CHECK(metrics != NULL, MST_ENOMEM, "metrics %s: no memory", path);
    metrics->path = strdup(path);
    metrics->file = open(path, O_RDWR | O_APPEND | O_CREAT | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0666);
    MST_CHECK(metrics->path != NULL, MST_ENOMEM, "metrics %s: no memory", path);
    MST_CHECK(metrics->file >= 0, MST_EIO, "metrics %s: cannot open it: %s", path, strerror(errno));
    MST_CHECK(fstat(metrics->file, &facts) == 0 && S_ISREG(facts.st_mode), MST_EIO,
              "metrics %s: it is no regular file; move it away: muster did not make it", path);
    if (ends_inside_line(metrics->file))
        MST_CHECK(write(metrics->file, "\n", 1) == 1, MST_EIO, "metrics %s: cannot write: %s", path,
                  strerror(errno));
    *metrics_out = metrics;
    metrics = NULL;
done:
    mst_metrics_close(&metrics);
    return status;
}

void mst_metrics_close(mst_metrics **metrics) {
    if (*metrics == NULL) return;
    if ((*metrics)->file >= 0) close((*metrics)->file);
    free((*metrics)->path);
    free(*metrics);
    *metrics = NULL;
}

/* ---- one line ---- */

#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
static void
put(mst_metrics *metrics, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    size_t room = LINE_MAX_BYTES - metrics->used;
    int length = vsnprintf(metrics->line + metrics->used, room, format, arguments);
    va_end(arguments);
    if (length > 0) metrics->used += (size_t)length < room ? (size_t)length : room - 1;
}

static void put_whole(mst_metrics *metrics, const char *name, uint64_t value) {
    put(metrics, ",\"%s\":%" PRIu64, name, value);
}

/* JSON knows no NaN and no infinity: null. */
static void put_real(mst_metrics *metrics, const char *name, double value) {
    if (isfinite(value))
        put(metrics, ",\"%s\":%.17g", name, value);
    else
        put(metrics, ",\"%s\":null", name);
}

/* A measurement, of which six digits say more than is known. */
static void put_measured(mst_metrics *metrics, const char *name, double value) {
    if (isfinite(value))
        put(metrics, ",\"%s\":%.6g", name, value);
    else
        put(metrics, ",\"%s\":null", name);
}

/* A result, and its bits as a hexadecimal float: equal texts are equal bits, and "nan" and "inf" can be said.
 */
static void put_result(mst_metrics *metrics, const char *name, double value) {
    put_real(metrics, name, value);
    put(metrics, ",\"%s_bits\":\"%a\"", name, value);
}

static void put_text(mst_metrics *metrics, const char *name, const char *text) {
    if (text == NULL) {
        put(metrics, ",\"%s\":null", name);
        return;
    }
    put(metrics, ",\"%s\":\"", name);
    for (const unsigned char *c = (const unsigned char *)text; *c != '\0'; c++) {
        if (*c == '"' || *c == '\\')
            put(metrics, "\\%c", *c);
        else if (*c < 0x20)
            put(metrics, "\\u%04x", *c);
        else
            put(metrics, "%c", *c);
    }
    put(metrics, "\"");
}

static void begin_line(mst_metrics *metrics, const char *event, uint64_t step) {
    char time_text[UTC_TEXT_MAX];
    utc_now(time_text);
    metrics->used = 0;
    put(metrics, "{\"event\":\"%s\",\"step\":%" PRIu64 ",\"time\":\"%s\"", event, step, time_text);
}

static mst_status end_line(mst_metrics *metrics) {
    put(metrics, "}\n");
    for (size_t done = 0; done < metrics->used;) {
        const ssize_t written = write(metrics->file, metrics->line + done, metrics->used - done);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0)
            return mst_error(MST_EIO, "metrics %s: cannot write %zu bytes: %s", metrics->path,
                             metrics->used - done, strerror(written < 0 ? errno : ENOSPC));
        done += (size_t)written;
    }
    return MST_OK;
}

/* ---- the events ---- */

mst_status mst_metrics_start(mst_metrics *metrics, const mst_metrics_start_fields *fields) {
    if (metrics == NULL) return MST_OK;
    begin_line(metrics, "start", 0);
    put_text(metrics, "version", MST_VERSION);
    put_text(metrics, "run_id", fields->run_id);
    put_text(metrics, "device_class", fields->device_class);
    put_text(metrics, "transport", fields->transport);
    put_whole(metrics, "ranks", (uint64_t)fields->ranks);
    put_whole(metrics, "threads", (uint64_t)fields->threads);
    put_whole(metrics, "parameters", fields->parameters);
    put_measured(metrics, "peak_gflops", fields->peak_flops > 0 ? fields->peak_flops * 1e-9 : NAN);
    if (fields->gpu_taken > 0) put_whole(metrics, "gpu_bytes", fields->gpu_taken);
    return end_line(metrics);
}

/* The most that this process has had in memory so far, its libraries included; bytes. */
static uint64_t peak_resident(void) {
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? (uint64_t)usage.ru_maxrss * 1024 : 0;
}

mst_status mst_metrics_step(mst_metrics *metrics, const mst_metrics_step_fields *fields) {
    if (metrics == NULL) return MST_OK;
    const mst_step_report *report = fields->report;
    const mst_position *position = fields->position;
    begin_line(metrics, "step", position->step);
    put_result(metrics, "loss", report->loss);
    put_real(metrics, "zloss", report->zloss);
    put_result(metrics, "grad_norm", report->grad_norm);
    put_real(metrics, "clip", report->clip);
    put_real(metrics, "lr", report->rate);
    put_whole(metrics, "valid_tokens", report->valid);
    put_whole(metrics, "tokens", position->tokens);
    put_whole(metrics, "samples", position->samples);
    put_measured(metrics, "step_seconds", fields->seconds);
    put_measured(metrics, "tokens_per_second", fields->tokens_per_second);
    put_measured(metrics, "gflops", fields->flops * 1e-9);
    put_measured(metrics, "peak_share", fields->peak_share > 0 ? fields->peak_share : NAN);
    put_whole(metrics, "memory_bytes", fields->memory_bytes);
    put_whole(metrics, "peak_rss_bytes", peak_resident());
    if (fields->gpu_bytes > 0) put_whole(metrics, "gpu_bytes", fields->gpu_bytes);
    put(metrics, ",\"skipped\":%s", report->updated ? "false" : "true");
    return end_line(metrics);
}

mst_status mst_metrics_eval(mst_metrics *metrics, uint64_t step, const mst_heldout *heldout) {
    if (metrics == NULL) return MST_OK;
    begin_line(metrics, "eval", step);
    put_result(metrics, "loss", heldout->loss);
    put_whole(metrics, "valid_tokens", heldout->valid);
    put_whole(metrics, "bytes", heldout->bytes);
    put_real(metrics, "bits_per_byte", heldout->bits_per_byte);
    return end_line(metrics);
}

mst_status mst_metrics_checkpoint(mst_metrics *metrics, const mst_saved *saved) {
    if (metrics == NULL) return MST_OK;
    char weights[MST_DIGEST_HEX], state[MST_DIGEST_HEX];
    mst_digest_to_hex(&saved->digests.weights, weights);
    mst_digest_to_hex(&saved->digests.state, state);
    begin_line(metrics, "checkpoint", saved->step);
    put_text(metrics, "path", saved->path);
    put_text(metrics, "weights", weights);
    put_text(metrics, "state", state);
    put_measured(metrics, "seconds", saved->seconds);
    put_measured(metrics, "written_seconds", saved->written);
    put_measured(metrics, "stall_seconds", saved->stalled);
    mst_status status = end_line(metrics);
    if (status == MST_OK && fdatasync(metrics->file) != 0 && errno != EINVAL) /* EINVAL: a pipe or the like */
        status = mst_error(MST_EIO, "metrics %s: cannot sync: %s", metrics->path, strerror(errno));
    return status;
}

mst_status mst_metrics_checkpoint_failed(mst_metrics *metrics, uint64_t step, const char *reason) {
    if (metrics == NULL) return MST_OK;
    begin_line(metrics, "checkpoint_failed", step);
    put_text(metrics, "reason", reason);
    return end_line(metrics);
}

mst_status mst_metrics_resume(mst_metrics *metrics, uint64_t step, const char *checkpoint) {
    if (metrics == NULL) return MST_OK;
    begin_line(metrics, "resume", step);
    put_text(metrics, "checkpoint", checkpoint);
    return end_line(metrics);
}

mst_status mst_metrics_init(mst_metrics *metrics, const char *path, const char *weights) {
    if (metrics == NULL) return MST_OK;
    begin_line(metrics, "init", 0);
    put_text(metrics, "from", path);
    put_text(metrics, "weights", weights);
    return end_line(metrics);
}

mst_status mst_metrics_rollback(mst_metrics *metrics, uint64_t step, uint64_t samples) {
    if (metrics == NULL) return MST_OK;
    begin_line(metrics, "rollback", step);
    put_whole(metrics, "samples", samples);
    return end_line(metrics);
}

mst_status mst_metrics_skip(mst_metrics *metrics, uint64_t step, size_t microbatch) {
    if (metrics == NULL) return MST_OK;
    begin_line(metrics, "skip", step);
    if (microbatch == SIZE_MAX)
        put(metrics, ",\"microbatch\":null");
    else
        put_whole(metrics, "microbatch", microbatch);
    return end_line(metrics);
}

mst_status mst_metrics_straggler(mst_metrics *metrics, uint64_t step,
                                 const mst_metrics_straggler_fields *fields) {
    if (metrics == NULL) return MST_OK;
    begin_line(metrics, "straggler", step);
    put_whole(metrics, "rank", (uint64_t)fields->rank);
    put_text(metrics, "host", fields->host);
    put_measured(metrics, "microbatch_seconds", fields->pace);
    put_measured(metrics, "median_seconds", fields->median);
    return end_line(metrics);
}

mst_status mst_metrics_leave(mst_metrics *metrics, uint64_t step, const mst_metrics_leave_fields *fields) {
    if (metrics == NULL) return MST_OK;
    begin_line(metrics, "leave", step);
    put_whole(metrics, "rank", (uint64_t)fields->rank);
    put_text(metrics, "host", fields->host);
    put_text(metrics, "reason", fields->fault);
    put_whole(metrics, "ranks", (uint64_t)fields->ranks);
    return end_line(metrics);
}

mst_status mst_metrics_balance(mst_metrics *metrics, uint64_t step, const mst_rebalance *change,
                               const size_t *lanes, int ranks, const char *transport) {
    if (metrics == NULL) return MST_OK;
    begin_line(metrics, "balance", step);
    put_measured(metrics, "step_seconds", change->before);
    put_measured(metrics, "expected_seconds", change->after);
    put_text(metrics, "transport", transport);
    for (int rank = 0; rank < ranks; rank++)
        put(metrics, "%s%zu", rank == 0 ? ",\"lanes\":[" : ",", lanes[rank]);
    put(metrics, "]");
    return end_line(metrics);
}

mst_status mst_metrics_stop(mst_metrics *metrics, uint64_t step, const char *reason) {
    if (metrics == NULL) return MST_OK;
    begin_line(metrics, "stop", step);
    put_text(metrics, "reason", reason);
    return end_line(metrics);
}
