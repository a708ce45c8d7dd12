/*
 * One writer: who trains in a run folder holds its lease, the file lease-EPOCH.json. docs/run-folder.md tells the rules.
 * Rank 0 holds it for all ranks. No file is locked: NFS and Lustre refuse that.
 */
#ifndef RUN_LEASE_H
#define RUN_LEASE_H

#include "muster/status.h"

typedef struct lease lease;

/* Seconds: from one renewal to the next; without one until another process may take over; between two looks at a lease
 * that may be left behind. The seam at which a test shortens them; nothing else writes to it. */
typedef struct lease_times {
    double renew, stale, look;
} lease_times;
extern lease_times lease_timing;

/** Hears what the user should know: that somebody's lease is looked at, or was taken over; NULL: it is still looked at. */
typedef void lease_say_fn(void *context, const char *text);

/**
 * Takes the lease of a run folder that exists, and renews it from then on. One whose process has ended is taken over at
 * once, also one of this Slurm job from before it was queued again; one of another host after it was seen not to change
 * for lease_timing.stale seconds of this host's clock. Of several processes that try at once one gets it.
 *
 * Not collective: rank 0 alone.
 * @param folder kept as a copy
 * @param host of this process, for messages
 * @param lease_out given back with lease_release
 * @retval MST_ECONFIG another process holds it: the message names it; MST_ESTOPPED a signal came while waiting; MST_EIO
 * Threads: one, which blocks signals and calls no MPI function.
 */
mst_status lease_take(const char *folder, const char *host, lease_say_fn *say, void *say_context,
                      lease **lease_out);

/** Whether this process still holds the lease, by a look at the file: to be asked before anything is published or removed.
 * The argument is a lease; mst_checkpoint_context's permit is meant. Any thread.
 * @retval MST_ELOST it was taken over, or is gone; the message says which; MST_EIO it cannot be read */
mst_status lease_permit(void *lease);

/** As lease_permit, but without a look as long as the last one is not two renewals old: for every step. Any thread. */
mst_status lease_held(lease *l);

/** Gives the lease back, if it is still held. Accepts NULL inside, resets the pointer. */
void lease_release(lease **l);

#endif
