/* AdamW over this rank's shards: fp32 masters and moments of the blocks that it owns. */
#ifndef MUSTER_OPTIMIZER_H
#define MUSTER_OPTIMIZER_H

#include "muster/layout.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mst_optimizer_config {
    double beta1, beta2, eps, weight_decay;
    double clip_norm; /* 0: no clipping */
    bool decay_norms; /* weight decay applies to vectors (norms, biases) too */
    bool
        decay_embeddings; /* and to embeddings, which also are the head when it is tied; to matrices always */
    mst_dtype moments;    /* how they are kept: F32, or BF16, rounded stochastically */
    bool
        offload; /* where the device's memory is apart: masters and moments stand in host memory, and the CPU updates; the
                     same bits */
} mst_optimizer_config;

/** Whether weight decay applies to a tensor. */
bool mst_optimizer_decays(const mst_optimizer_config *config, const mst_tensor *tensor);

typedef enum mst_schedule_kind {
    MST_SCHEDULE_CONSTANT,
    MST_SCHEDULE_LINEAR,
    MST_SCHEDULE_COSINE,
    MST_SCHEDULE_WSD, /* warm-up, stable, decay */
} mst_schedule_kind;

typedef struct mst_schedule {
    mst_schedule_kind kind;
    double peak;      /* learning rate after warm-up */
    double min_ratio; /* of the peak, at the end */
    uint64_t warmup;  /* steps: step 0 has peak / warmup, step warmup - 1 has the peak */
    uint64_t decay;   /* WSD: steps of the final linear decay */
    uint64_t steps;   /* of the whole run */
} mst_schedule;

/** The learning rate of a step (counted from 0); from `steps` on the minimum. Pure:
 * the same bits everywhere. Not collective. */
double mst_schedule_rate(const mst_schedule *schedule, uint64_t step);

typedef struct mst_optimizer mst_optimizer;

/** Allocates zeroed masters and moments of this rank's shards of all units. Not collective.
 * @retval MST_ENOMEM with the bytes asked for */
mst_status mst_optimizer_create(const mst_optimizer_config *config, const mst_layout *layout, int rank,
                                int size, mst_queue *queue, const mst_kernels *kernels,
                                mst_optimizer **optimizer_out);
void mst_optimizer_destroy(mst_optimizer **optimizer);
size_t mst_optimizer_bytes(const mst_optimizer *optimizer);
/** What `offload` takes beside masters and moments. */
size_t mst_optimizer_offload_bytes(void);

/** This rank's shards, [unit_count]; owned by the optimizer. */
mst_shard *mst_optimizer_shards(mst_optimizer *optimizer);

/**
 * Updates this rank's shard of one unit and writes its blocks of the published weights.
 *
 * Not collective.
 * @param gradient [blocks * MST_BLOCK] summed, not normalised
 * @param gradient_scale normalisation times clip coefficient
 * @param rate learning rate; update_count number of this update, from 1 (bias correction)
 * @param shard_weights its blocks of the published weights, in weight_dtype
 */
mst_status mst_optimizer_update(mst_optimizer *optimizer, size_t unit, const float *gradient,
                                double gradient_scale, double rate, uint64_t update_count,
                                void *shard_weights, mst_dtype weight_dtype);

/** Writes this rank's blocks of the published weights from the masters,
 * without an update (start and resume). */
mst_status mst_optimizer_write_weights(mst_optimizer *optimizer, size_t unit, void *shard_weights,
                                       mst_dtype weight_dtype);

#ifdef __cplusplus
}
#endif
#endif
