/* A rank that computes slower than the others holds all of them up, since a step waits for its last microbatch. */
#ifndef RUN_STRAGGLER_H
#define RUN_STRAGGLER_H

#include "muster/status.h"

enum { STRAGGLER_STEPS = 5 }; /* running, before a rank is named */

typedef struct straggler straggler;

/** @retval MST_ENOMEM. Not collective. */
mst_status straggler_create(int ranks, straggler **straggler_out);
/** Accepts NULL inside, resets the pointer. */
void straggler_destroy(straggler **s);

/**
 * Looks at a step. A rank counts as slow in it when its microbatches took over 1.5 times the median of the other ranks',
 * and that cost the step more than 10 ms: less is the system's noise.
 *
 * Not collective; allocates nothing.
 * @param paces [ranks] seconds per microbatch; 0: the rank had none
 * @param microbatches of a step, of all ranks
 * @param median_out of the others, when a rank is named
 * @return the rank that has been slow for STRAGGLER_STEPS steps running, once; -1: none
 */
int straggler_look(straggler *s, const double *paces, double microbatches, double *median_out);

#endif
