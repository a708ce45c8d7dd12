/*
 * Saving checkpoints while training goes on: a copy of the state at a step's end, written by a thread of each
 * rank, committed by rank 0's. mst_checkpoint_save is the same, driven to its end at once.
 */
#ifndef MUSTER_SAVER_H
#define MUSTER_SAVER_H

#include "muster/checkpoint.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mst_saver mst_saver;

typedef struct mst_saver_options {
    const char *folder; /* the run's checkpoints folder, made if missing */
    bool copies; /* the state may change while it is saved: a copy of the shards is kept for it. Without,
                           mst_saver_begin is to be followed by mst_saver_wait */
    bool tidies; /* after each save as mst_checkpoint_set_aside, and as mst_checkpoint_prune with: */
    mst_checkpoint_wishes wishes;
} mst_saver_options;

/* What came of a save. Seconds count from mst_saver_begin. */
typedef struct mst_saved {
    uint64_t step;
    mst_checkpoint_digests digests;
    char path[4096];
    double stalled; /* until training could go on */
    double written; /* until the shards of all ranks were on the disk */
    double seconds; /* until the checkpoint was committed */
    size_t set_aside;
    char warning[512]; /* the checkpoint stands, but something could not be tidied up; "": nothing */
} mst_saved;

/**
 * Makes the folder, clears what killed jobs left in it, allocates all that a save needs, starts the threads.
 *
 * Collective: all ranks agree on the status.
 * @param context copied; its progress is called from the thread that calls the functions below, its permit also
 *        from another one
 * @param layout, shards kept by reference; ranges as mst_shard_range gives them for this rank
 * @retval MST_ENOMEM says how much; MST_EIO, MST_EINVAL other ranges
 * Threads: one that writes, one that hashes beside it; they get no signals. Only the first calls HDF5.
 */
mst_status mst_saver_create(const mst_checkpoint_context *context, const mst_layout *layout,
                            const mst_shard *shards, const mst_saver_options *options, mst_saver **saver_out);

/** Waits for this rank's threads and ends them; a save in flight is not committed. Not collective. */
void mst_saver_destroy(mst_saver **saver);

/** Bytes that this rank keeps for the copy and for digests. */
size_t mst_saver_bytes(const mst_saver *saver);
/** What mst_saver_bytes would be on a rank of `size`, with or without `copies`. Not collective. */
size_t mst_saver_bytes_of(const mst_layout *layout, bool copies, mst_dtype moments, int rank, int size);

/**
 * Begins to save the state as it is now: copies it, and gives the copy to the thread that writes.
 *
 * Collective. No save is in flight. The stall is that of the copy.
 * @param meta copied; its texts are the caller's and stay until the save is over
 * @retval MST_EIO the checkpoint's folder cannot be made; then no save is in flight
 */
mst_status mst_saver_begin(mst_saver *saver, const mst_checkpoint_meta *meta);

/** Says that the run goes on from the checkpoint of a step: those beyond it are left, and the next save that tidies sets
 * them aside. No save is in flight. Not collective. */
void mst_saver_goes_on_from(mst_saver *saver, uint64_t step);

/** Whether a save is in flight; the same on all ranks. Not collective. */
bool mst_saver_busy(const mst_saver *saver);
/** The step of the save in flight, or of the last one. */
uint64_t mst_saver_step(const mst_saver *saver);

/**
 * Moves the save in flight on where it waits for nothing but this call. To be called between steps.
 *
 * Collective, and cheap: one small message a rank, a gathering of digests once a save.
 * @param over_out the save is over: committed and described in saved_out, or failed
 * @return as mst_checkpoint_save, when the save is over
 */
mst_status mst_saver_poll(mst_saver *saver, bool *over_out, mst_saved *saved_out);

/**
 * Drives the save in flight to its end. Collective. Progress is reported only while this rank's threads make some,
 * so that a watchdog sees a disk that hangs. @return as mst_checkpoint_save
 */
mst_status mst_saver_wait(mst_saver *saver, mst_saved *saved_out);

#ifdef __cplusplus
}
#endif
#endif
