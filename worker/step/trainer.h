/* A trainer at work: what the files of this room share. */
#ifndef STEP_TRAINER_H
#define STEP_TRAINER_H

#include "muster/clock.h"
#include "muster/frozen.h"
#include "muster/shared.h"
#include "muster/step.h"
#include "speeds.h"

/* What one rank says at a step's end. */
typedef struct mst_step_message {
    uint64_t stop_requested;
    double elapsed;
    double pace;      /* seconds of this rank's passes in this step, per microbatch; 0: it had none */
    uint64_t deal;    /* rank 0: the lanes are to be dealt anew before the next step */
    uint64_t culprit; /* this rank's first microbatch whose gradient is not finite; UINT64_MAX: none */
} mst_step_message;

struct mst_trainer {
    mst_trainer_config config;
    mst_comm *comm; /* not owned, like the next four */
    mst_data *data;
    mst_queue *queue;
    mst_kernels kernels;
    mst_watchdog *watchdog;
    mst_layout model_layout; /* of the model that computes */
    mst_layout layout;       /* of what is trained: the model, or its adapters */
    mst_frozen *frozen;      /* the model's weights where adapters are trained; else NULL, like the next */
    mst_shared *shared;      /* their memory */
    mst_exchange *exchange;
    mst_optimizer *optimizer;
    mst_model *model;
    mst_position position;
    size_t first_lane, lanes;  /* this rank's, in every round */
    double loss_scale;         /* constant of the config: keeps summed gradients near the size of mean ones */
    int32_t *tokens, *targets; /* [micro * seq_len] */
    int32_t *starts;    /* [micro * seq_len] where documents begin; NULL: samples are pieces of a stream */
    void **gradients;   /* [units] accumulators of the current lane */
    mst_loss *mine;     /* [microbatches] this rank's records, in order: as many as it has */
    mst_loss *gathered; /* [microbatches] in rank order */
    mst_loss *records;  /* [microbatches] in order */
    double *values;     /* [microbatches] one field of the records */
    mst_step_message *messages;          /* [ranks] */
    size_t *bytes_of, *bytes_of_message; /* [ranks] */
    double computing;    /* seconds of passes in this step so far, without waits for other ranks */
    double *paces;       /* [ranks] of the last step */
    mst_speeds speeds;   /* rank 0: what the ranks took lately */
    bool deal_announced; /* rank 0 has said that the lanes are to be dealt anew */
    size_t *lane_counts; /* [ranks] as they are dealt */
};

/** Owners write their blocks of the weights from the masters; then all see them. Collective. */
mst_status mst_trainer_publish(mst_trainer *trainer);

/** Takes the dealing of the exchange: which lanes this rank computes, what each rank's records take. Not
 * collective. */
void mst_trainer_take_lanes(mst_trainer *trainer);

/** Rank 0, once a step: notes what the ranks took, and whether lanes had better be dealt anew. Not
 * collective; allocates nothing. @param step_seconds the whole step on this rank */
void mst_trainer_watch_speeds(mst_trainer *trainer, double step_seconds);

/** Microbatches of a step, of all ranks. */
size_t mst_trainer_microbatches(const mst_trainer *trainer);

/** Where passes find their weights, those that are frozen and those that are trained. Lives as long as the trainer. */
mst_weight_source mst_trainer_weights(mst_trainer *trainer);

/** A gradient sink's `unit_done` in the last pass of a lane; context is the trainer. */
mst_status mst_trainer_hand_over(void *context, size_t unit);

/** Begins a pass; with sharded weights together with all other ranks, which it may wait for. */
mst_status mst_trainer_begin_pass(mst_trainer *trainer, mst_pass_kind kind);

/** Begins and ends a pass in which this rank computes nothing: the others may need its weights and its part of sums.
 * With sharded weights every rank takes part in every pass, by one of these. */
mst_status mst_trainer_stand_by(mst_trainer *trainer, mst_pass_kind kind);

/** Ends a pass that was begun. @param status what it came to on this rank @return the first failure */
mst_status mst_trainer_end_pass(mst_trainer *trainer, mst_status status);

/**
 * One pass forward and backward over microbatch `index` of the step, whatever came before: where that failed this rank stands by,
 * and the failure is what it returns.
 * @param sink with a unit_done: the lane's last pass
 * @param record_out there with mst_trainer_settle
 */
mst_status mst_trainer_compute(mst_trainer *trainer, size_t index, mst_status before,
                               const mst_gradient_sink *sink, mst_loss *record_out);

/** Waits until the device has computed this rank's passes, whose losses then stand in place. @param before as of mst_model_settle */
mst_status mst_trainer_settle(mst_trainer *trainer, mst_status before);

#endif
