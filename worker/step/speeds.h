/* How fast the ranks are, and what dealing of lanes follows from it: arithmetic alone. Private to the room. */
#ifndef STEP_SPEEDS_H
#define STEP_SPEEDS_H

#include <stdbool.h>
#include <stddef.h>

#include "muster/status.h"

enum {
    MST_SPEEDS_WINDOW = 5,      /* steps whose median counts: one that was disturbed does not */
    MST_SPEEDS_PATIENCE = 1024, /* steps at most between a dealing and the next */
};

/* What was measured since lanes were dealt. */
typedef struct mst_speeds {
    size_t ranks;
    double *paces;                          /* [WINDOW][ranks] seconds per microbatch */
    double step_seconds[MST_SPEEDS_WINDOW]; /* of whole steps */
    size_t seen;                            /* steps since lanes were dealt */
    size_t patience;                        /* steps to see before they are dealt again: doubles each time */
    double *medians;                        /* [ranks] */
    size_t *counts;                         /* [ranks] the dealing that would be best now */
    double before, after;                   /* seconds of a step: as it is, and with `counts` */
    bool deal;                              /* `counts` is better by so much that it is to be taken */
} mst_speeds;

/** @retval MST_ENOMEM */
mst_status mst_speeds_init(mst_speeds *speeds, size_t ranks);
void mst_speeds_clear(mst_speeds *speeds);

/**
 * The dealing that makes the slowest rank's work shortest; every rank gets at least one lane.
 *
 * @param lanes at least `ranks` @param paces [ranks] seconds per microbatch, positive @param counts_out [ranks]
 */
void mst_speeds_deal(size_t lanes, size_t ranks, const double *paces, size_t *counts_out);

/** Notes a step and decides. Allocates nothing.
 * @param lanes of a round, at least `ranks` @param microbatches of a lane, in all rounds of a step
 * @param counts [ranks] as they are dealt @param paces [ranks] seconds per microbatch */
void mst_speeds_note(mst_speeds *speeds, size_t lanes, size_t microbatches, const size_t *counts,
                     const double *paces, double step_seconds);

/** The lanes were dealt anew: what was measured before no longer counts. */
void mst_speeds_dealt(mst_speeds *speeds);

#endif
