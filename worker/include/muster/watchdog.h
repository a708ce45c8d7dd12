/* The abort watchdog: a rank that dies or stalls ends the whole job, by name, in a stated time. */
#ifndef MUSTER_WATCHDOG_H
#define MUSTER_WATCHDOG_H

#include <stdint.h>

#include "muster/comm.h"
#include "muster/queue.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mst_watchdog mst_watchdog;

typedef struct mst_watchdog_options {
    double seconds; /* how long a rank may be silent or make no progress; 0: no watchdog */
    const char
        *device; /* what this rank computes on, for messages ("cpu x86-64-v4, 2 threads"); copied; or NULL */
    const char
        *interfaces; /* those of rank 0's host that heartbeats use: names and subnets, with commas between;
                               NULL: where the routes between the hosts lead */
    const mst_queue
        *queue; /* its tasks count as progress of the main thread while that works; must outlive the watchdog;
                               or NULL */
} mst_watchdog_options;

/**
 * Starts this rank's watchdog thread.
 *
 * Collective. Every rank's thread holds one TCP connection to rank 0's and sends a heartbeat with the rank's
 * phase and progress each second, with a MAC under a key that travels over MPI only. A rank whose process has ended, or
 * whose connection closes without farewell and does not come back, is dead; one whose heartbeats stop, or whose main thread
 * works without progress for `seconds`, is stalled; it is warned of at half that time. Rank 0 (or, when
 * rank 0 itself is gone, every other rank) then names it on stderr - rank, host, process, device, phase, step,
 * seconds - and ends the whole job with exit code 1 by all means it has: MPI_Abort, SIGKILL to ranks on its
 * host, scancel of the Slurm step. From death or stall to the end of the job: at most seconds + 10 s.
 * @param watchdog_out NULL when options->seconds is 0
 * @retval MST_EIO no socket; MST_ECONFIG the interfaces are not there; MST_EMPI
 * Threads: one thread; it calls no MPI function until it aborts. The caller's is the main thread.
 * All functions below accept NULL and then do nothing.
 */
mst_status mst_watchdog_start(mst_comm *comm, const mst_watchdog_options *options,
                              mst_watchdog **watchdog_out);

/** As mst_watchdog_start, with no option but `seconds`. Collective. */
mst_status mst_watchdog_create(mst_comm *comm, double seconds, mst_watchdog **watchdog_out);

/** Ends the watchdog in peace: the other ranks will not take this rank's silence for death. Collective. */
void mst_watchdog_destroy(mst_watchdog **watchdog);

/**
 * Says that the main thread makes progress. Not collective; costs one atomic store.
 * @param phase static string such as "forward", "checkpoint"
 * @param step the step it works on
 */
void mst_watchdog_progress(mst_watchdog *watchdog, const char *phase, uint64_t step);

/** As progress, in work on one unit of the model, which the watchdog then names, too. */
void mst_watchdog_unit(mst_watchdog *watchdog, const char *phase, size_t unit, uint64_t step);

/** As progress, for a phase in which this rank waits for others:
 * a rank that waits is not blamed while another is late. */
void mst_watchdog_waiting(mst_watchdog *watchdog, const char *phase, uint64_t step);

#ifdef __cplusplus
}
#endif
#endif
