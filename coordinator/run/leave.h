/*
 * Ranks whose GPU is broken leave a run; the others go on without them, in the same processes: they end this start of the run, as
 * after any failure, and begin another one on fewer ranks, from the newest checkpoint, to the same bits.
 */
#ifndef RUN_LEAVE_H
#define RUN_LEAVE_H

#include "muster/comm.h"

/* What a rank's GPU said; "": it is not broken. */
typedef struct leave_fault {
    char text[256];
} leave_fault;

/* Who left a start of a run. */
typedef struct leave {
    const mst_comm *from; /* its ranks. Not owned */
    leave_fault *faults;  /* [ranks of `from`]; NULL: nobody left */
    mst_comm *rest;       /* the ranks that go on; NULL: this one does not */
    bool saved;           /* the newest checkpoint is one that this start made, or went on from */
    double begun;         /* when this process began to train, monotonic clock, seconds */
    double seconds;       /* of the watchdog */
    bool said;
    struct leave *before; /* who left the start before, which this one did not come to say; else NULL */
} leave;

/** Frees what training_leave made, `rest` with it. Collective over `rest`. */
void leave_clear(leave *l);

/** A failure that may have come before training_say_left: then its message names who left. Not collective. @retval failure */
mst_status leave_explain(const leave *l, mst_status failure);

#endif
