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

/**
 * Sees to it that the launcher that started this rank (mpirun, or its daemon on this host) ends, too: Open MPI's waits for
 * ever for a host that does not answer any more. A process of its own gives it some seconds, and then ends it.
 * Returns at once. Not collective.
 */
void mst_end_launcher(void);

#endif
