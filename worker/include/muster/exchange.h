/*
 * The ordered sum between ranks. Every rank computes lanes of gradients; the owner of a shard
 * receives that shard of every partial sum and finishes the tree in its fixed order.
 * docs/ordered-sum.md has the definition.
 */
#ifndef MUSTER_EXCHANGE_H
#define MUSTER_EXCHANGE_H

#include "muster/comm.h"
#include "muster/kernels.h"
#include "muster/layout.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum mst_transport {
    MST_TRANSPORT_AUTO,
    MST_TRANSPORT_SELF,
    MST_TRANSPORT_SHM,
    MST_TRANSPORT_MPI,
    MST_TRANSPORT_NODE,
    MST_TRANSPORT_NCCL,
    MST_TRANSPORT_PEER
} mst_transport;

/** "auto", "self", "shm" and so on, as configs have it. */
const char *mst_transport_name(mst_transport transport);

/* What the ranks share of a run, each having a part. STATE: masters, moments and the gradient's sum. ALL: the weights that passes
 * read, too, which are gathered unit by unit; and gradients, which are summed unit by unit where a rank has no more than one
 * microbatch a round. No effect on the result. */
typedef enum mst_sharding { MST_SHARDING_STATE, MST_SHARDING_ALL } mst_sharding;

/* The shape of a step's sum, from the config, never from the rank count.
 * leaf * lanes * rounds microbatches a step. */
typedef struct mst_sum_shape {
    size_t leaf;   /* microbatches of a lane, added in order */
    size_t lanes;  /* of a round, a power of two up to 256: the leaves of its balanced binary tree */
    size_t rounds; /* of a step, added in order at the owner */
    mst_dtype wire;
    mst_sharding sharding; /* the one thing here that no result depends on */
} mst_sum_shape;

/** The even dealing of lanes: of `size` ranks the one in place `rank` has the contiguous lanes
 * [lanes * rank / size, lanes * (rank + 1) / size) for size <= lanes;
 * with more ranks than lanes, those from `lanes` on have none. Not collective. */
void mst_lanes_of(size_t lanes, int rank, int size, size_t *first_out, size_t *count_out);

/** Number of microbatch `leaf_index` of a lane of a round within its step:
 * (round * lanes + lane) * leaf + leaf_index. */
size_t mst_microbatch_index(const mst_sum_shape *shape, size_t round, size_t lane, size_t leaf_index);

/** Sums one value per microbatch in the order of the gradient sum (no rounding): the step's loss.
 * Not collective.
 * @param value [leaf * lanes * rounds] */
double mst_ordered_sum_values(const mst_sum_shape *shape, const double *value);

typedef struct mst_exchange mst_exchange;

/**
 * Allocates gradient accumulators, partial sums and the published weights.
 *
 * Collective.
 * @param transport one rank alone always uses SELF, so that a config runs on any number of ranks, and NODE is
 * SHM where all ranks share one node. AUTO: where /dev/shm has room, SHM for one node and NODE for several
 * with more than one rank on some; else MPI. On GPUs AUTO is NCCL where it is installed and no two ranks share a GPU,
 * else MPI. CPUs that share ALL use MPI
 * @param lane_counts [ranks] lanes of each rank, the same on all ranks; NULL: as even as can be
 * @param weight_dtype of the published weights: F32 or BF16
 * @param layout, comm, queue, kernels kept by reference
 * @retval MST_ENOMEM with bytes and, for shared memory, what /dev/shm has free; MST_ECONFIG SELF with
 * several ranks, SHM or PEER across nodes, NCCL where it cannot work, ranks that share ALL with any but MPI or NCCL;
 * MST_EINVAL lane_counts that are not all lanes; MST_EMPI
 */
mst_status mst_exchange_create(mst_comm *comm, mst_transport transport, const mst_sum_shape *shape,
                               const size_t *lane_counts, mst_dtype weight_dtype, const mst_layout *layout,
                               mst_queue *queue, const mst_kernels *kernels, mst_exchange **exchange_out);
/** Collective. */
void mst_exchange_destroy(mst_exchange **exchange);

/**
 * After a failure that all ranks know of, before anything waits for the device: ends the transfers that may wait for ever for a rank
 * that is lost. The exchange can only be destroyed then, by all its ranks.
 *
 * @param rest the ranks that go on (mst_comm_part): what they can use again is kept with it, for the exchange that is created next.
 * Collective over them. NULL: this rank does not go on, or nobody does; not collective
 */
void mst_exchange_give_up(mst_exchange *exchange, mst_comm *rest);

/** The lanes that a rank computes, in every round. Not collective. */
void mst_exchange_lanes(const mst_exchange *exchange, int rank, size_t *first_out, size_t *count_out);

/** Whether ranks of a node have their weights in memory that they share: one copy. */
bool mst_transport_shares(mst_transport transport);
bool mst_exchange_shares(const mst_exchange *exchange);

/** "self", "shm", "mpi", "node", "nccl" or "peer". */
const char *mst_exchange_transport(const mst_exchange *exchange);
/** Bytes that this rank allocated. */
size_t mst_exchange_bytes(const mst_exchange *exchange);

/** The unit's published weights, whole, flat, in weight_dtype. Not with MST_SHARDING_ALL on several ranks. */
void *mst_exchange_weights(mst_exchange *exchange, size_t unit);
/** This rank's blocks of them: the owner writes them (the optimizer does), then publishes. */
void *mst_exchange_own_weights(mst_exchange *exchange, size_t unit);

/* A pass over a microbatch: forward; forward and back; or with gradients that are handed over by mst_exchange_unit_done. */
typedef enum mst_pass_kind { MST_PASS_FORWARD, MST_PASS_BACKWARD, MST_PASS_SUMMED } mst_pass_kind;

/**
 * Begins a pass, for which weights are acquired in the order of the model.
 *
 * With MST_SHARDING_ALL all ranks begin and end passes of one kind together, also a rank that has no microbatch, or failed
 * before: collective, with NCCL it waits for all. Otherwise it does nothing. A pass may end on one rank when it has not on another.
 * @retval MST_EMPI; MST_EPEER a rank lost another before
 */
mst_status mst_exchange_begin_pass(mst_exchange *exchange, mst_pass_kind kind);
/** The unit's published weights, whole; valid until the pass acquires the one after the next. Waits for ranks that have not
 * come as far. Not collective. @retval MST_EMPI, MST_EPEER an owner is lost, named; MST_EINTERNAL it is not this unit's turn */
mst_status mst_exchange_acquire(mst_exchange *exchange, size_t unit, const void **weights_out);
/** Ends a pass, wherever it stands: takes part in what other ranks still have to gather and to sum. Not collective. */
mst_status mst_exchange_end_pass(mst_exchange *exchange);

/** The most lanes that a rank has: so many times leaf passes are begun in every round, on every rank. Not collective. */
size_t mst_exchange_most_lanes(const mst_exchange *exchange);

/**
 * Begins a lane: gives the zeroed accumulators of all units, fp32, for the lane's microbatches to add to.
 *
 * Not collective. Lanes of a round are begun in order, rounds in order.
 * @param gradients_out [unit_count]
 */
mst_status mst_exchange_begin_lane(mst_exchange *exchange, size_t round, size_t lane, void **gradients_out);

/**
 * Gives zeroed accumulators outside any round, to compute single microbatches once more for a
 * diagnosis; nothing is combined or sent. Not collective. Only after the last round's end,
 * and only on a rank that has lanes.
 * @param gradients_out [unit_count]
 */
mst_status mst_exchange_clear_lane(mst_exchange *exchange, void **gradients_out);

/** The unit's gradient of the current lane is complete (the lane's last microbatch): it may be combined and
 * sent. Not collective; starts transfers, and waits for none, but where gradients are streamed for those of the unit before. Each unit
 * once per lane. */
mst_status mst_exchange_unit_done(mst_exchange *exchange, size_t unit);

/** Ends a round: receives what this rank owns and finishes the tree; from the second round on adds to the
 * batch. Collective (ranks without lanes too): agrees on the status. A rank whose own work failed calls it
 * all the same, and no other waits in vain; after a failure the exchange can only be destroyed.
 * @retval MST_EINVAL a rank has not completed its lanes of this round; MST_EMPI */
mst_status mst_exchange_end_round(mst_exchange *exchange, size_t round);

/** After the last round: the summed gradient of this rank's shard of a unit,
 * fp32 [blocks * MST_BLOCK]. Not collective. */
const float *mst_exchange_gradient(const mst_exchange *exchange, size_t unit);

/** After the last round: the sum of squares of the whole gradient, from per-block fp64 partials added in
 * block order. Collective; the same bits on every rank. */
mst_status mst_exchange_norm2(mst_exchange *exchange, double *norm2_out);

/** Makes every owner's new weights visible to all ranks, unit by unit: mst_exchange_acquire waits for one. Collective. */
mst_status mst_exchange_publish(mst_exchange *exchange);

#ifdef __cplusplus
}
#endif
#endif
