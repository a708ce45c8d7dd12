/*
 * Ranks whose GPU is broken leave a run; the others go on without them, in the same processes: they end this start of the run, as
 * after any failure, and begin another one on fewer ranks, from the newest checkpoint, to the same bits.
 */
#ifndef RUN_LEAVE_H
#define RUN_LEAVE_H

#include "muster/comm.h"

enum { LEAVE_FAULT_MAX = 256 };

/* Who left a run of the ranks `from`. */
typedef struct leave {
    const mst_comm *from; /* not owned */
    char (*faults)
        [LEAVE_FAULT_MAX]; /* [ranks of `from`] what each one's GPU said; "": it stays. NULL: nobody left */
    mst_comm *rest;        /* the ranks that go on; NULL: this one does not */
    struct leave *
        before; /* who left a start before, of which the one after it did not come to speak; NULL: none. Not owned */
    bool saved; /* the newest checkpoint is of that run, or what it went on from itself */
    bool said;
    double begun; /* when this process began to train, monotonic clock, seconds */
} leave;

/** Frees what leave_agree made, `rest` with it. Collective over `rest`. */
void leave_clear(leave *l);

/** A failure that may come before leave_say does: its message names who left. Not collective. @retval failure */
mst_status leave_explain(const leave *l, mst_status failure);

#endif
