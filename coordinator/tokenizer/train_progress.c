#include "train_progress.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "muster/clock.h"

#define LIVE_SECONDS  0.1
#define PLAIN_SECONDS 10.0

void train_progress_begin(train_progress *p, FILE *file) {
    const char *terminal = getenv("TERM");
    double now = mst_clock_now();
    *p = (train_progress){.file = file, .begin = now, .shown = now};
    p->live = file != NULL && isatty(fileno(file)) && terminal != NULL && strcmp(terminal, "dumb") != 0;
}

void train_progress_hide(train_progress *p) {
    if (p->drawn) fputs("\r\033[K", p->file);
    p->drawn = false;
    if (p->file != NULL) fflush(p->file);
}

/* Whether it is time to show something. */
static bool is_due(train_progress *p, double now) {
    if (p->file == NULL || now - p->shown < (p->live ? LIVE_SECONDS : PLAIN_SECONDS)) return false;
    p->shown = now;
    return true;
}

/* A live line must not reach the right edge, nor may the ^C that a terminal echoes: it would wrap. */
static void show(train_progress *p, const char *line) {
    struct winsize size = {.ws_col = 80};
    if (p->live && (ioctl(fileno(p->file), TIOCGWINSZ, &size) != 0 || size.ws_col < 2)) size.ws_col = 80;
    if (p->live)
        fprintf(p->file, "\r\033[K%.*s", (int)size.ws_col - (size.ws_col > 10 ? 3 : 1), line);
    else
        fprintf(p->file, "%s\n", line);
    fflush(p->file);
    p->drawn = p->live;
}

void train_progress_reading(train_progress *p, uint64_t documents, uint64_t bytes) {
    char line[128];
    double now = mst_clock_now(), megabytes = (double)bytes * 1e-6;
    if (!is_due(p, now)) return;
    snprintf(line, sizeof line, "reading  %.1f MB, %llu document%s, %.1f MB/s", megabytes,
             (unsigned long long)documents, documents == 1 ? "" : "s", megabytes / (now - p->begin));
    show(p, line);
}

/* How often the most frequent pair stands in the text falls about as 1 / merge, and the cost of a merge with it: so the time grows
 * as the logarithm of the merges. */
static double seconds_left(double passed, size_t done, size_t all) {
    return passed * (log(1 + (double)all) / log(1 + (double)done) - 1);
}

void train_progress_merging(train_progress *p, size_t done, size_t all) {
    char line[128];
    double now = mst_clock_now();
    if (done == 0 || !is_due(p, now)) return;
    snprintf(line, sizeof line, "merging  %zu of %zu, about %.0f s left", done, all,
             seconds_left(now - p->begin, done, all));
    show(p, line);
}

void train_progress_end(train_progress *p, const char *format, ...) {
    va_list list;
    train_progress_hide(p);
    if (p->file == NULL || p->live) return;
    va_start(list, format);
    vfprintf(p->file, format, list);
    va_end(list);
    fprintf(p->file, " in %.1f s\n", mst_clock_now() - p->begin);
    fflush(p->file);
}
