#include "speeds.h"

#include <stdlib.h>
#include <string.h>

/* A dealing is worth its cost when a step gets shorter by more than this part. */
static const double worth = 0.05;

mst_status mst_speeds_init(mst_speeds *s, size_t ranks) {
    mst_status status = MST_OK;
    *s = (mst_speeds){.ranks = ranks, .patience = MST_SPEEDS_WINDOW};
    s->paces = calloc(MST_SPEEDS_WINDOW * ranks, sizeof *s->paces);
    s->medians = calloc(ranks, sizeof *s->medians);
    s->counts = calloc(ranks, sizeof *s->counts);
    MST_CHECK(s->paces && s->medians && s->counts, MST_ENOMEM, "speeds of %zu ranks: no memory", ranks);
done:
    return status;
}

void mst_speeds_clear(mst_speeds *s) {
    free(s->paces);
    free(s->medians);
    free(s->counts);
    *s = (mst_speeds){0};
}

void mst_speeds_deal(size_t lanes, size_t ranks, const double *paces, size_t *counts) {
    for (size_t rank = 0; rank < ranks; rank++) counts[rank] = 1;
    /* Each lane goes to the rank that is done with it first: no other dealing ends earlier. */
    for (size_t left = lanes - ranks; left > 0; left--) {
        size_t best = 0;
        for (size_t rank = 1; rank < ranks; rank++)
            if ((double)(counts[rank] + 1) * paces[rank] < (double)(counts[best] + 1) * paces[best])
                best = rank;
        counts[best]++;
    }
}

/* The longest work of a rank, for each microbatch of a lane. */
static double longest(const mst_speeds *s, const size_t *counts) {
    double most = 0;
    for (size_t rank = 0; rank < s->ranks; rank++) {
        const double seconds = (double)counts[rank] * s->medians[rank];
        if (seconds > most) most = seconds;
    }
    return most;
}

static double median(const double *values, size_t stride) {
    double sorted[MST_SPEEDS_WINDOW];
    for (size_t i = 0; i < MST_SPEEDS_WINDOW; i++) {
        size_t place = i;
        for (; place > 0 && sorted[place - 1] > values[i * stride]; place--)
            sorted[place] = sorted[place - 1];
        sorted[place] = values[i * stride];
    }
    return sorted[MST_SPEEDS_WINDOW / 2];
}

/* What a step would take: as it is, less what its slowest rank's lanes take less. */
static void decide(mst_speeds *s, size_t lanes, size_t microbatches, const size_t *counts) {
    for (size_t rank = 0; rank < s->ranks; rank++) {
        s->medians[rank] = median(s->paces + rank, s->ranks);
        if (!(s->medians[rank] > 0)) return; /* a rank without lanes: nothing is known of it */
    }
    mst_speeds_deal(lanes, s->ranks, s->medians, s->counts);
    s->before = median(s->step_seconds, 1);
    s->after = s->before - (double)microbatches * (longest(s, counts) - longest(s, s->counts));
    s->deal = s->after < (1 - worth) * s->before;
}

void mst_speeds_note(mst_speeds *s, size_t lanes, size_t microbatches, const size_t *counts,
                     const double *paces, double step_seconds) {
    const size_t place = s->seen++ % MST_SPEEDS_WINDOW;
    memcpy(s->paces + place * s->ranks, paces, s->ranks * sizeof *paces);
    s->step_seconds[place] = step_seconds;
    s->deal = false;
    if (s->seen >= s->patience) decide(s, lanes, microbatches, counts);
}

void mst_speeds_dealt(mst_speeds *s) {
    s->seen = 0;
    s->deal = false;
    s->patience = 2 * s->patience < MST_SPEEDS_PATIENCE ? 2 * s->patience : MST_SPEEDS_PATIENCE;
}
