/* How the watchdog ends a job whose main threads may hang anywhere. Private to the room. */
#ifndef MUSTER_ENDING_H
#define MUSTER_ENDING_H

#include "watch.h"

/** Sends SIGKILL, which ends stopped processes too, to the other ranks on this
 * rank's host. Not collective. */
void mst_kill_neighbours(const mst_introduction *known, int rank, int size);

/** Asks Slurm, if this is one of its steps, to kill the whole step,
 * and does not wait for it. Not collective. */
void mst_cancel_step(void);

#endif
