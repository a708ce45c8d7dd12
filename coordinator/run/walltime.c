#include "walltime.h"

#include <math.h>
#include <stdio.h>
#include <time.h>

/* A node that swaps, a file server that others use: the next one may take longer than any of late. */
static const double margin = 1.5;
static const double leaving = 5; /* seconds: metrics, MPI, the batch script */
/* Bytes a second of the first save, which nobody has measured: less than most file servers give to one client. */
static const double first_save_rate = 200e6;
/* Share of the difference by which a smaller cost lowers the expected one: some 20 steps forget a slow one. */
static const double decay = 0.05;

static void name_end(walltime *w, double elapsed) {
    const time_t now = time(NULL), end = now + (time_t)(w->end - elapsed);
    struct tm utc;
    gmtime_r(&end, &utc);
    strftime(w->clock, sizeof w->clock, w->end - elapsed < 86400 ? "%H:%M:%S UTC" : "%Y-%m-%d %H:%M UTC",
             &utc);
}

void walltime_begin(walltime *w, double minutes, double job_end, double elapsed, double save_bytes) {
    *w = (walltime){.end = INFINITY, .save_guess = save_bytes / first_save_rate};
    if (minutes > 0) w->end = 60 * minutes;
    const double job = elapsed + (job_end - (double)time(NULL));
    w->of_job = job < w->end;
    if (w->of_job) w->end = job;
    if (isfinite(w->end)) name_end(w, elapsed);
}

static void expect(double *cost, double seconds) {
    *cost = fmax(seconds, *cost - decay * (*cost - seconds));
}

void walltime_step(walltime *w, double seconds) {
    expect(&w->step, seconds);
}

void walltime_save(walltime *w, double seconds) {
    expect(&w->save, seconds);
}

void walltime_evaluation(walltime *w, double seconds) {
    expect(&w->evaluation, seconds);
}

double walltime_needs(const walltime *w, walltime_ahead ahead) {
    const double save = w->save > 0 ? w->save : w->save_guess;
    /* an evaluation that was not measured yet: most are shorter than a few steps */
    const double evaluation = w->evaluation > 0 ? w->evaluation : 3 * w->step;
    return margin * (2 * w->step + ahead.saves * save + ahead.evaluations * evaluation) + leaving;
}

bool walltime_is_up(walltime *w, double elapsed, walltime_ahead ahead) {
    if (!w->up) w->up = elapsed + walltime_needs(w, ahead) > w->end;
    return w->up;
}
