#include "train_progress.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define LIVE_SECONDS  0.1
#define PLAIN_SECONDS 10.0

double train_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void train_progress_begin(train_progress *p, FILE *file) {
    const char *terminal = getenv("TERM");
    double now = train_now();
    *p = (train_progress){.file = file, .begin = now, .shown = now, .rate_time = now};
    p->live = file != NULL && isatty(fileno(file)) && terminal != NULL && strcmp(terminal, "dumb") != 0;
}

void train_progress_hide(train_progress *p) {
    if (p->drawn) fputs("\r\033[K", p->file);
    p->drawn = false;
}

/* Whether it is time to show something. */
static bool is_due(train_progress *p, double now) {
    if (p->file == NULL || now - p->shown < (p->live ? LIVE_SECONDS : PLAIN_SECONDS)) return false;
    p->shown = now;
    return true;
}

/* A live line must not reach the right edge: it would wrap, and could not be taken back. */
static void show(train_progress *p, const char *line) {
    struct winsize size = {.ws_col = 80};
    if (p->live && (ioctl(fileno(p->file), TIOCGWINSZ, &size) != 0 || size.ws_col < 2)) size.ws_col = 80;
    if (p->live)
        fprintf(p->file, "\r\033[K%.*s", (int)size.ws_col - 1, line);
    else
        fprintf(p->file, "%s\n", line);
    fflush(p->file);
    p->drawn = p->live;
}

void train_progress_reading(train_progress *p, uint64_t documents, uint64_t bytes) {
    char line[128];
    double now = train_now(), megabytes = (double)bytes * 1e-6;
    if (!is_due(p, now)) return;
    snprintf(line, sizeof line, "reading  %.1f MB, %llu documents, %.1f MB/s", megabytes,
             (unsigned long long)documents, megabytes / (now - p->begin));
    show(p, line);
}

void train_progress_merging(train_progress *p, size_t done, size_t all) {
    char line[128], left[48] = "";
    double now = train_now(), passed = now - p->rate_time;
    if (passed > 0.5) { /* the first merges are the slowest: look at the latest ones */
        double rate = (double)(done - p->rate_done) / passed;
        p->rate = p->rate > 0 ? 0.5 * (p->rate + rate) : rate;
        p->rate_done = done;
        p->rate_time = now;
    }
    if (!is_due(p, now)) return;
    if (p->rate > 0) snprintf(left, sizeof left, ", %.0f s left", (double)(all - done) / p->rate);
    snprintf(line, sizeof line, "merging  %zu of %zu%s", done, all, left);
    show(p, line);
}

void train_progress_end(train_progress *p, const char *format, ...) {
    if (p->file == NULL) return;
    va_list list;
    va_start(list, format);
    train_progress_hide(p);
    vfprintf(p->file, format, list);
    fprintf(p->file, " in %.1f s\n", train_now() - p->begin);
    fflush(p->file);
    va_end(list);
}
