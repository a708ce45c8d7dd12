/* One rank's part of a training step: its microbatches, the ordered sum, clip, update, publish. */
#ifndef MUSTER_STEP_H
#define MUSTER_STEP_H

#include "muster/data.h"
#include "muster/exchange.h"
#include "muster/frozen.h"
#include "muster/model.h"
#include "muster/optimizer.h"
#include "muster/watchdog.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Who computes which lanes: EVEN as even as can be; AUTO by what each rank's lanes take. */
typedef enum mst_balance { MST_BALANCE_EVEN, MST_BALANCE_AUTO } mst_balance;

typedef struct mst_trainer_config {
    mst_model_config model;
    mst_lora lora; /* rank not 0: its adapters are trained, and the model is frozen */
    mst_sum_shape shape;
    mst_transport transport;
    mst_balance balance;
    size_t micro, seq_len; /* sequences of a microbatch, tokens of a sequence */
    mst_packing packing;   /* of the data */
    mst_dtype precision;   /* of weights and activations: F32 or BF16 */
    mst_recompute recompute;
    size_t head_rows;           /* of logits at a time, as mst_model_options has it */
    size_t attention_workspace; /* bytes, as mst_model_options has it */
    bool graphs;                /* as mst_model_options has it; no effect on the result */
    double z_coefficient;
    mst_optimizer_config optimizer;
    mst_schedule schedule;
    uint64_t seed;
} mst_trainer_config;

/* Where a run stands: with the masters and moments this is all that a step depends on. */
typedef struct mst_position {
    uint64_t step;    /* steps done */
    uint64_t updates; /* optimizer updates done: steps less those skipped */
    uint64_t samples; /* training samples consumed */
    uint64_t tokens;  /* valid tokens trained on */
} mst_position;

/* What every rank wants to say, and rank 0 to decide, at a step's end. All ranks see the same values. */
typedef struct mst_notice {
    bool stop_requested; /* in: on this rank; out: on any */
    double elapsed;      /* in: seconds on rank 0's clock; out: rank 0's */
} mst_notice;

/* A step's result: the same bits on every rank, for every rank count. */
typedef struct mst_step_report {
    double loss, zloss; /* mean over valid tokens: cross-entropy in nats, squared log-sum-exp */
    double grad_norm;   /* of the mean gradient, before clipping */
    double clip;        /* coefficient that was applied, at most 1 */
    double rate;        /* learning rate */
    uint64_t valid;     /* valid tokens */
    bool updated;       /* false: no valid token, or not finite */
    bool finite;        /* loss and gradient */
    size_t culprit;     /* when not finite: the first microbatch whose loss or gradient is not;
                           SIZE_MAX: only the sum is */
} mst_step_report;

typedef struct mst_trainer mst_trainer;

/**
 * Allocates everything a step needs; a step allocates nothing after the first.
 *
 * Collective.
 * @param config copied
 * @param data, comm, queue, kernels, watchdog kept by reference; watchdog may be NULL
 * @retval MST_ENOMEM, MST_ECONFIG, MST_EMPI, MST_EUNSUPPORTED as the rooms below say; the same on every rank
 */
mst_status mst_trainer_create(const mst_trainer_config *config, mst_comm *comm, mst_data *data,
                              mst_queue *queue, const mst_kernels *kernels, mst_watchdog *watchdog,
                              mst_trainer **trainer_out);
/** Collective. */
void mst_trainer_destroy(mst_trainer **trainer);
/** After a failure that all ranks know of, before anything waits for the device: as mst_exchange_give_up. */
void mst_trainer_give_up(mst_trainer *trainer, mst_comm *rest);

/** The weights that are not trained, for the caller to fill before anything is computed, on those ranks that fill them; the
 * trainer's. NULL where the whole model is trained. */
mst_frozen *mst_trainer_frozen(mst_trainer *trainer);
bool mst_trainer_fills_frozen(const mst_trainer *trainer);
/** They are filled, on all ranks that do so: all may read them. Collective. */
mst_status mst_trainer_frozen_filled(mst_trainer *trainer);

/** Fills masters with initial values and moments with zero, at position 0,
 * and publishes the weights. Collective. */
mst_status mst_trainer_init(mst_trainer *trainer);

/** Publishes the weights after masters and moments were filled from a checkpoint,
 * and takes its position. Collective. */
mst_status mst_trainer_restore(mst_trainer *trainer, const mst_position *position);

/**
 * Computes one microbatch, forward and backward and then as an evaluation does, and forgets it: between two steps, so
 * that rank 0's device meets what it will have to compute (mst_queue_choices).
 *
 * Collective: the others only take part in gathering weights, where these are sharded. The status is of this rank alone.
 * @retval as mst_trainer_step
 */
mst_status mst_trainer_rehearse(mst_trainer *trainer);

/**
 * One training step. On a loss or gradient that is not finite nothing is updated, the position moves past the
 * step's samples, and the report says so: what follows from it is the caller's decision, alike on every rank.
 *
 * Collective.
 * @retval MST_OK also for a step that is not finite; otherwise the same failure on every rank
 */
mst_status mst_trainer_step(mst_trainer *trainer, mst_notice *notice, mst_step_report *report_out);

/* What mst_trainer_balance did. Seconds of a step, before as it was measured and after as it is expected. */
typedef struct mst_rebalance {
    bool changed;
    double before, after;
} mst_rebalance;

/**
 * Between two steps, after mst_trainer_step: where the ranks' speeds differ so that a step would take at least
 * 5 % less with lanes dealt otherwise, and rank 0 has said so in the step's messages, all ranks change to that
 * dealing, which allocates gradients anew. No result changes by it. Does nothing with MST_BALANCE_EVEN.
 *
 * Collective. @retval as mst_trainer_deal
 */
mst_status mst_trainer_balance(mst_trainer *trainer, mst_rebalance *change_out);

/**
 * Deals the lanes anew between two steps: memory of the exchange is allocated anew, weights are published again.
 * Where there is no memory for it, the dealing before is kept.
 *
 * Collective. @param lane_counts [ranks] lanes of each rank, the same on all ranks
 * @retval MST_EINVAL they are not all lanes; the dealing before is kept @retval MST_ENOMEM, MST_EMPI not
 * even the dealing before could be made again: the trainer can only be destroyed
 */
mst_status mst_trainer_deal(mst_trainer *trainer, const size_t *lane_counts);

/** The lanes of each rank as they are dealt. [ranks], the trainer's. */
const size_t *mst_trainer_lanes(const mst_trainer *trainer);

/**
 * Loss over `batches` microbatches of the held-out split, evenly spread (all when it has fewer), dealt to the
 * ranks, summed in order of microbatches. Collective; the same bits for every rank count.
 */
mst_status mst_trainer_evaluate(mst_trainer *trainer, uint64_t batches, mst_heldout *heldout_out);

const mst_position *mst_trainer_position(const mst_trainer *trainer);
/** Of what is trained: the model, or its adapters. */
const mst_layout *mst_trainer_layout(const mst_trainer *trainer);
/** Of the model that computes. */
const mst_layout *mst_trainer_model_layout(const mst_trainer *trainer);
/** This rank's shards of all units: what a checkpoint saves and loads. Owned by the trainer. */
mst_shard *mst_trainer_shards(mst_trainer *trainer);
const char *mst_trainer_transport(const mst_trainer *trainer);
/** Samples and microbatches of a step. */
size_t mst_trainer_samples_per_step(const mst_trainer *trainer);
/** Why this rank's passes are no longer recorded, as mst_model_graphs_failure. Not collective. */
const char *mst_trainer_graphs_failure(const mst_trainer *trainer);
/** Bytes that this rank allocated for weights, gradients, optimizer state and activations. */
size_t mst_trainer_bytes(const mst_trainer *trainer);
/** What each rank's forward and backward passes took in the last step, [ranks] seconds per microbatch; 0 for a rank that had
 * no microbatch. The same on all ranks. Owned by the trainer. */
const double *mst_trainer_paces(const mst_trainer *trainer);
mst_flops mst_trainer_flops(const mst_trainer *trainer);

#ifdef __cplusplus
}
#endif
#endif
