/* Learning rates as pure functions of the step: the same bits with every compiler and C library. */
#include "muster/elementary.h"
#include "muster/optimizer.h"

/* (1 + cos(pi t)) / 2 for 0 <= t <= 1. */
static double cosine_shape(double t) {
    return 0.5 * (1.0 + mst_elementary_cos_turns(0.5 * t));
}

/* How far step is from begin to end, 0 to 1. */
static double part_of(uint64_t step, uint64_t begin, uint64_t end) {
    if (step <= begin) return 0.0;
    if (step >= end) return 1.0;
    return (double)(step - begin) / (double)(end - begin);
}

double mst_schedule_rate(const mst_schedule *schedule, uint64_t step) {
    const mst_schedule *s = schedule;
    if (step < s->warmup) return s->peak * ((double)(step + 1) / (double)s->warmup);
    uint64_t wsd_begin = s->steps > s->decay ? s->steps - s->decay : 0;
    if (wsd_begin < s->warmup) wsd_begin = s->warmup;
    double shape = 1.0; /* 1: the peak, 0: the minimum */
    switch (s->kind) {
    case MST_SCHEDULE_CONSTANT:
        break;
    case MST_SCHEDULE_LINEAR:
        shape = 1.0 - part_of(step, s->warmup, s->steps);
        break;
    case MST_SCHEDULE_COSINE:
        shape = cosine_shape(part_of(step, s->warmup, s->steps));
        break;
    case MST_SCHEDULE_WSD:
        shape = 1.0 - part_of(step, wsd_begin, s->steps);
        break;
    }
    return s->peak * shape + s->peak * s->min_ratio * (1.0 - shape); /* exact at both ends */
}
