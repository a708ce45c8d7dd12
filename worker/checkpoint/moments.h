/*
 * Checkpoints hold fp32. Moments that the optimizer keeps in bf16 are widened when they are saved and narrowed when they are
 * loaded, both without loss.
 */
#ifndef CHECKPOINT_MOMENTS_H
#define CHECKPOINT_MOMENTS_H

#include "context.h"

/** Type in which a shard keeps a kind. */
static inline mst_dtype ckpt_shard_dtype(const mst_shard *shard, mst_tensor_kind kind) {
    return kind == MST_KIND_MASTER ? MST_F32 : shard->moments;
}

/** Whether some shard has something else than fp32. */
bool ckpt_is_narrow(const mst_layout *layout, const mst_shard *shards);

/** Copies a shard's data of a kind from the device to host memory, as fp32. Not collective; allocates nothing.
 * @param to [blocks * MST_BLOCK] */
mst_status ckpt_widen(const mst_checkpoint_context *context, const mst_shard *shard, mst_tensor_kind kind,
                      float *to);

/** The other way; `from` is overwritten. Not collective. @param from [blocks * MST_BLOCK] values that the shard's type holds */
mst_status ckpt_narrow(const mst_checkpoint_context *context, float *from, const mst_shard *shard,
                       mst_tensor_kind kind);

#endif
