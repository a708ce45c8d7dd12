/* A copy of a rank's shards, in fp32: what is written while training goes on. */
#ifndef CHECKPOINT_SNAPSHOT_H
#define CHECKPOINT_SNAPSHOT_H

#include "context.h"

typedef struct ckpt_snapshot {
    mst_shard *shards; /* [units] ranges as those it was made for; all point into `memory` */
    void *memory;
    size_t bytes;
} ckpt_snapshot;

/** Makes room for a copy of shards, and takes a first one: memory that is missing shows here.
 * @retval MST_ENOMEM with the number of bytes */
mst_status ckpt_snapshot_create(const mst_checkpoint_context *context, const mst_layout *layout,
                                const mst_shard *shards, ckpt_snapshot *snapshot_out);
void ckpt_snapshot_clear(ckpt_snapshot *snapshot);

/** Copies the shards with the queue's threads. Not collective; allocates nothing. */
mst_status ckpt_snapshot_take(const mst_checkpoint_context *context, const mst_layout *layout,
                              const mst_shard *shards, const ckpt_snapshot *snapshot);

#endif
