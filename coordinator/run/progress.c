#include "progress.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "muster/clock.h"
#include "muster/terminal.h"

#define REDRAW_SECONDS      0.1 /* 10 Hz: faster cannot be read */
#define PLAIN_SECONDS       10.0
#define SMOOTH_SECONDS      10.0
#define LEFT_SMOOTH_SECONDS 60.0 /* time left also averages over checkpoints and evaluations */

enum { BAR_LEAST = 8, BAR_MOST = 40, COLUMNS_UNKNOWN = 80, MESSAGE_MAX = 2048 };

/* A rate as the quotient of two sums in which the past fades away exponentially. */
typedef struct rate {
    double amount, seconds;
} rate;

struct mst_progress {
    FILE *file;
    bool live, unicode;
    const char *style[MST_STYLES]; /* escapes, or "" for no colours */
    bool drawn;                    /* the cursor stands on the live line */
    bool any;                      /* a step was shown */
    double last_shown, last_step;
    rate tokens, work, steps;
    /* the latest step */
    uint64_t step, total;
    double loss, grad_norm, learning_rate, peak_share, flops;
    bool skipped;
    bool pending; /* not yet on a plain line */
};

static void rate_add(rate *r, double amount, double seconds, double horizon) {
    if (!(seconds > 0)) return;
    double kept = exp(-seconds / horizon);
    r->amount = r->amount * kept + amount;
    r->seconds = r->seconds * kept + seconds;
}

static double rate_of(const rate *r) {
    return r->seconds > 0 ? r->amount / r->seconds : 0;
}

/* ---- words ---- */

/* 950, 12.3k, 1.23M: three digits. */
static void put_count(char *text_out, size_t room, double value) {
    static const char *const units[] = {"", "k", "M", "G", "T"};
    size_t unit = 0;
    for (; value >= 999.5 && unit + 1 < sizeof units / sizeof *units; unit++) value /= 1000;
    snprintf(text_out, room, "%.*f%s",
             unit == 0 || value >= 99.95 ? 0
             : value >= 9.995            ? 1
                                         : 2,
             value, units[unit]);
}

/* 45s, 12m30s, 3h05m, 2d04h. */
static void put_duration(char *text_out, size_t room, double seconds) {
    uint64_t s = seconds < 1e9 ? (uint64_t)(seconds + 0.5) : 1000000000;
    if (s < 60)
        snprintf(text_out, room, "%" PRIu64 "s", s);
    else if (s < 3600)
        snprintf(text_out, room, "%" PRIu64 "m%02" PRIu64 "s", s / 60, s % 60);
    else if (s < 86400)
        snprintf(text_out, room, "%" PRIu64 "h%02" PRIu64 "m", s / 3600, s / 60 % 60);
    else
        snprintf(text_out, room, "%" PRIu64 "d%02" PRIu64 "h", s / 86400, s / 3600 % 24);
}

/* The parts of a line, in words. An empty part is not known. */
typedef struct words {
    char step[48], loss[40], speed[40], flops[64], left[40];
} words;

static void put_words(const mst_progress *p, words *w) {
    char number[32];
    double tokens = rate_of(&p->tokens), steps = rate_of(&p->steps), flops = rate_of(&p->work);
    *w = (words){0};
    if (p->total > 0)
        snprintf(w->step, sizeof w->step, "%" PRIu64 "/%" PRIu64, p->step, p->total);
    else
        snprintf(w->step, sizeof w->step, "%" PRIu64, p->step);
    snprintf(w->loss, sizeof w->loss, "loss %.4f%s", p->loss, p->skipped ? " skipped" : "");
    put_count(number, sizeof number, tokens);
    snprintf(w->speed, sizeof w->speed, "%s tok/s", number);
    if (p->peak_share > 0 && p->flops > 0)
        snprintf(w->flops, sizeof w->flops, "%.*f GFLOP/s (%.0f%% of peak)", flops < 99.5e9 ? 1 : 0,
                 flops * 1e-9, 100 * p->peak_share * flops / p->flops);
    else
        snprintf(w->flops, sizeof w->flops, "%.*f GFLOP/s", flops < 99.5e9 ? 1 : 0, flops * 1e-9);
    if (p->total >= p->step && p->total > 0 && steps > 0) {
        put_duration(number, sizeof number, (double)(p->total - p->step) / steps);
        snprintf(w->left, sizeof w->left, "%s left", number);
    }
}

/* ---- plain lines ---- */

static void print_plain(mst_progress *p, bool goes_on) {
    words w;
    put_words(p, &w);
    fprintf(p->file, "step %s  %s  norm %.3f  lr %.2e  %s  %s", w.step, w.loss, p->grad_norm,
            p->learning_rate, w.speed, w.flops);
    if (goes_on && w.left[0] != '\0') fprintf(p->file, "  %s", w.left);
    fputc('\n', p->file);
    fflush(p->file);
    p->pending = false;
}

/* ---- the live line ---- */

static void hide(mst_progress *p) {
    if (p->drawn) fputs("\r\033[K", p->file);
    p->drawn = false;
}

/* A bar of `cells` columns; in Unicode to an eighth of a column. */
static void print_bar(const mst_progress *p, size_t cells) {
    static const char *const eighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    double share = p->total > 0 ? (double)p->step / (double)p->total : 0;
    size_t parts = (size_t)((share < 1 ? share : 1) * (double)cells * 8);
    size_t full = parts / 8, rest = parts % 8, used = full;
    fputs(p->style[MST_STYLE_BAR], p->file);
    for (size_t i = 0; i < full; i++) fputs(p->unicode ? "█" : "=", p->file);
    if (p->unicode && rest > 0) {
        fputs(eighths[rest], p->file);
        used++;
    }
    fputs(p->style[MST_STYLE_PLAIN], p->file);
    fputs(p->style[MST_STYLE_DIM], p->file);
    for (; used < cells; used++) fputs(p->unicode ? "·" : "-", p->file);
    fputs(p->style[MST_STYLE_PLAIN], p->file);
}

/* Draws what fits, the least important left out first: FLOP/s, then speed, then the bar, then the time left.
 */
static void draw(mst_progress *p) {
    words w;
    put_words(p, &w);
    size_t columns = mst_terminal_columns(p->file, COLUMNS_UNKNOWN), gap = 2;
    size_t room =
        columns > 10 ? columns - 3 : columns - 1; /* a terminal echoes ^C at the end; it must not wrap */
    char percent[8] = "";
    if (p->total > 0)
        snprintf(percent, sizeof percent, "%3.0f%%", floor(100.0 * (double)p->step / (double)p->total));
    const char *parts[] = {w.loss, w.left, w.speed, w.flops}; /* most important first */
    bool shown[4] = {false};
    size_t used = strlen(w.step), bar = 0;
    if (percent[0] != '\0') used += gap + strlen(percent);
    for (size_t i = 0; i < 4; i++) {
        size_t wanted = parts[i][0] != '\0' ? gap + strlen(parts[i]) : 0;
        if (i == 2 && p->total > 0 && used + gap + BAR_LEAST <= room) used += bar = gap + BAR_LEAST;
        shown[i] = wanted > 0 && used + wanted <= room;
        if (shown[i]) used += wanted;
    }
    if (used > room && percent[0] != '\0') percent[0] = '\0';

    fputs("\r\033[K", p->file);
    fprintf(p->file, "%.*s", (int)room, w.step);
    if (bar > 0) {
        size_t spare = room - used,
               cells = BAR_LEAST + (spare < BAR_MOST - BAR_LEAST ? spare : BAR_MOST - BAR_LEAST);
        fputs("  ", p->file);
        print_bar(p, cells);
    }
    if (percent[0] != '\0') fprintf(p->file, "  %s", percent);
    static const int order[] = {0, 2, 3, 1};
    for (size_t i = 0; i < 4; i++) {
        int part = order[i];
        if (!shown[part]) continue;
        mst_style style = part != 0 ? MST_STYLE_PLAIN : p->skipped ? MST_STYLE_NOTE : MST_STYLE_HEADING;
        fprintf(p->file, "  %s%s%s", style != MST_STYLE_PLAIN ? p->style[style] : "", parts[part],
                style != MST_STYLE_PLAIN ? p->style[MST_STYLE_PLAIN] : "");
    }
    fflush(p->file);
    p->drawn = true;
}

/* ---- what others call ---- */

static bool locale_is_utf8(void) {
    static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *value = getenv(names[i]);
        if (value == NULL || *value == '\0') continue;
        return strcasestr(value, "utf-8") != NULL || strcasestr(value, "utf8") != NULL;
    }
    return false;
}

mst_status mst_progress_begin(FILE *file, mst_progress **progress_out) {
    mst_progress *p = calloc(1, sizeof *p);
    if (p == NULL) return mst_error(MST_ENOMEM, "progress display: no memory");
    p->file = file;
    p->live = mst_terminal_live(file);
    for (int style = 0; style < MST_STYLES; style++)
        p->style[style] = mst_terminal_style(file, (mst_style)style);
    p->unicode = locale_is_utf8();
    p->last_step = mst_clock_now();
    *progress_out = p;
    return MST_OK;
}

void mst_progress_step(mst_progress *p, const mst_metrics_step_fields *fields) {
    if (p == NULL) return;
    double time = mst_clock_now();
    p->step = fields->position->step;
    p->total = fields->steps;
    p->loss = fields->report->loss;
    p->grad_norm = fields->report->grad_norm;
    p->learning_rate = fields->report->rate;
    p->skipped = !fields->report->updated;
    p->flops = fields->flops;
    p->peak_share = fields->peak_share;
    rate_add(&p->tokens, fields->tokens_per_second * fields->seconds, fields->seconds, SMOOTH_SECONDS);
    rate_add(&p->work, fields->flops * fields->seconds, fields->seconds, SMOOTH_SECONDS);
    rate_add(&p->steps, 1, p->any ? time - p->last_step : fields->seconds, LEFT_SMOOTH_SECONDS);
    p->last_step = time;
    p->pending = true;

    bool last = p->total > 0 && p->step >= p->total;
    bool due = !p->any || last || time - p->last_shown >= (p->live ? REDRAW_SECONDS : PLAIN_SECONDS);
    p->any = true;
    if (!due) return;
    p->last_shown = time;
    if (p->live)
        draw(p);
    else
        print_plain(p, !last);
}

void mst_progress_message(mst_progress *p, const char *format, ...) {
    FILE *file = p != NULL ? p->file : stderr;
    bool redraw = p != NULL && p->drawn;
    char message[MESSAGE_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    if (p != NULL) hide(p);
    mst_terminal_message(file, message);
    fflush(file);
    if (redraw) draw(p);
}

void mst_progress_end(mst_progress **progress) {
    mst_progress *p = *progress;
    if (p == NULL) return;
    hide(p);
    if (p->any && p->pending) print_plain(p, false);
    fflush(p->file);
    free(p);
    *progress = NULL;
}
