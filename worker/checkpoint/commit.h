/* Rank 0's part of a save: from the files of all ranks to a checkpoint that exists. */
#ifndef CHECKPOINT_COMMIT_H
#define CHECKPOINT_COMMIT_H

#include "digests.h"
#include "folder.h"
#include "shard.h"

/* What rank 0 knows once all ranks have written. Nothing is owned. */
typedef struct ckpt_written {
    const mst_checkpoint_context *context;
    const mst_layout *layout;
    const size_t *order; /* tensors by name */
    const mst_checkpoint_meta *meta;
    const ckpt_paths *paths;
    ckpt_gathering *gathering;
    const char *records; /* ckpt_record of each rank, one after the other */
    const size_t *record_bytes;
    bool leaves; /* the run goes on from an older step: what stands at this one is set aside, not replaced */
} ckpt_written;

/**
 * Names the files, writes all others, and publishes the folder; or, when the same checkpoint stands there already,
 * whole, keeps that one. Not collective: rank 0 alone. After a failure the folder is gone.
 * @param set_aside_out how many were
 */
mst_status ckpt_commit(const ckpt_written *written, ckpt_sums *sums_out, size_t *set_aside_out);

#endif
