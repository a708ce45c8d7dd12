/* The abort watchdog: a rank that dies or stalls ends the whole job, by name, in a stated time. */
#ifndef MUSTER_WATCHDOG_H
#define MUSTER_WATCHDOG_H

#include <stdint.h>

#include "muster/comm.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mst_watchdog mst_watchdog;

/**
 * Starts this rank's watchdog thread.
 *
 * Collective. Every rank's thread holds one TCP connection to rank 0's and sends a heartbeat with the rank's
 * phase and progress each second. A rank whose connection closes without farewell is dead; one whose
 * heartbeats stop, or whose main thread works without progress for `seconds`, is stalled. Rank 0 (or, when
 * rank 0 itself is gone, every other rank) then names it on stderr - rank, host, process, phase, step,
 * seconds - and ends the whole job with exit code 1 by all means it has: MPI_Abort, SIGKILL to ranks on its
 * host, scancel of the Slurm step. From death or stall to the end of the job: at most seconds + 10 s.
 * @param seconds how long a rank may be silent or make no progress; 0: no watchdog
 * (watchdog_out is set to NULL)
 * @retval MST_EIO no socket, MST_EMPI
 * Threads: one thread; it calls no MPI function until it aborts.
 * All functions below accept NULL and then do nothing.
 */
mst_status mst_watchdog_create(mst_comm *comm, double seconds, mst_watchdog **watchdog_out);

/** Ends the watchdog in peace: the other ranks will not take this rank's silence for death. Collective. */
void mst_watchdog_destroy(mst_watchdog **watchdog);

/**
 * Says that the main thread makes progress. Not collective; costs one atomic store.
 * @param phase static string such as "forward", "checkpoint"
 * @param step the step it works on
 */
void mst_watchdog_progress(mst_watchdog *watchdog, const char *phase, uint64_t step);

/** As progress, for a phase in which this rank waits for others:
 * a rank that waits is not blamed while another is late. */
void mst_watchdog_waiting(mst_watchdog *watchdog, const char *phase, uint64_t step);

#ifdef __cplusplus
}
#endif
#endif
