/* The inside of an exchange, and what a transport must do for it. Private to the room. */
#ifndef MUSTER_EXCHANGE_TRANSPORT_H
#define MUSTER_EXCHANGE_TRANSPORT_H

#include "muster/exchange.h"
#include "plan.h"

struct mst_pass_ops; /* sharded.h */

/* How partial sums reach their owners and weights reach everybody. */
typedef struct mst_transport_ops {
    const char *name;
    bool by_mpi; /* messages of passes go by MPI, which moves them only inside of its calls */
    const struct mst_pass_ops *passes; /* how weights that are sharded travel; NULL: it has no way for them */
    /* Allocates x->slots and x->weights (by mst_exchange_alloc where they are private memory) and what else
     * it needs. Collective: agrees on its status. */
    mst_status (*open)(mst_exchange *x);
    void (*close)(mst_exchange *x);
    /* As mst_exchange_give_up, for what else than MPI's messages is on its way; NULL: nothing is. */
    void (*give_up)(mst_exchange *x, mst_comm *rest);
    /* This rank begins a round: its slots are free. Not collective. */
    mst_status (*begin_round)(mst_exchange *x);
    /* A piece of this rank is complete in one unit: it may be sent. Not collective; waits for this rank's own work at most, and
     * where gradients are streamed for ranks that have not come to the unit before. */
    mst_status (*send)(mst_exchange *x, size_t unit, size_t piece);
    /* All ranks have sent: makes every piece readable. Not collective. */
    mst_status (*receive)(mst_exchange *x);
    /* This rank's shard of a source of a unit, in the wire type; after receive, until end_round ends. */
    const void *(*shard)(const mst_exchange *x, size_t unit, size_t source);
    /* Orders this rank's writes before, and its reads after, the agreement that
     * separates them; what has not been sent is sent. Not collective. */
    mst_status (*fence)(mst_exchange *x);
    /* Brings every owner's weights to all. Collective. */
    mst_status (*publish)(mst_exchange *x);
    /* Waits until a unit's published weights are here; NULL: all are when publish returns. Not collective. */
    mst_status (*acquire)(mst_exchange *x, size_t unit);
} mst_transport_ops;

extern const mst_transport_ops mst_transport_self, mst_transport_shm, mst_transport_mpi, mst_transport_node,
    mst_transport_stream, mst_transport_peer;
#ifdef MST_NCCL
extern const mst_transport_ops mst_transport_nccl, mst_transport_nccl_stream;
#endif

/* This rank's shard of one unit. */
typedef struct mst_owned {
    size_t first_block, blocks; /* within the unit */
    size_t offset;              /* blocks of this rank's shards before it */
} mst_owned;

struct mst_exchange {
    const mst_transport_ops *transport;
    void *state; /* the transport's own */
    mst_comm *comm;
    const mst_layout *layout;
    mst_queue *queue;
    const mst_kernels *kernels;
    mst_sum_shape shape;
    mst_dtype weight_dtype;
    int rank, size;
    mst_lane_run *runs; /* [size] */
    mst_sum_plan plan;

    void *slots; /* wire type, [plan.slots][layout->blocks * MST_BLOCK]: a unit stands at its first_block */
    /* the running lane, [layout->blocks * MST_BLOCK]; NULL: with an fp32 wire it is a slot */
    float *lane_sum;
    void *weights; /* weight_dtype, [layout->blocks * MST_BLOCK]; sharded: [owned_blocks * MST_BLOCK] */
    struct mst_sharded *sharded; /* NULL: every rank has all weights */
    struct mst_stream *stream;   /* NULL: gradients stand in slots */
    bool streams;                /* they are to be streamed */
    mst_owned *owned;            /* [unit_count] */
    size_t owned_blocks;
    float *gradient;       /* [owned_blocks * MST_BLOCK] */
    bool gradient_is_slot; /* it stands in a slot: one rank, one round */
    double *block_norm2;   /* [owned_blocks] */
    double *all_norm2;     /* rank 0: of all ranks, in rank order */
    size_t *norm2_bytes;   /* [size] of each rank's */
    size_t *norm2_next;    /* [size] the block of each rank that comes next, while rank 0 adds */
    /* What an owner adds, in lane order: the pieces, or fewer where a transport adds some on the way. */
    size_t sources;
    const void **source; /* [sources] for the ordered sum */
    uint8_t *level;      /* [sources] */
    size_t bytes;        /* allocated by this rank */

    double next_move;   /* when messages are moved again, by mst_clock_now */
    size_t round, lane; /* that come next */
    bool lane_begun;
    bool *unit_done; /* [unit_count] of the lane that was begun */
    size_t units_left;
};

/** Sets x->transport: what is wanted, or what suits best. Collective. @retval MST_ECONFIG it cannot be had here */
mst_status mst_transport_choose(mst_exchange *x, mst_transport wanted);

/* Bytes of one slot, and where a unit stands in it. */
size_t mst_exchange_slot_bytes(const mst_exchange *x);
size_t mst_exchange_unit_offset(const mst_exchange *x, size_t unit);

/** Bytes of a block of gradients as they travel, and of published weights. */
static inline size_t mst_exchange_wire_block(const mst_exchange *x) {
    return MST_BLOCK * mst_dtype_size(x->shape.wire);
}
static inline size_t mst_exchange_weight_block(const mst_exchange *x) {
    return MST_BLOCK * mst_dtype_size(x->weight_dtype);
}

/** What a transport does where it has nothing to do; of a piece: it stands where its owner will look for it. */
mst_status mst_exchange_nothing(mst_exchange *x);
mst_status mst_exchange_send_nothing(mst_exchange *x, size_t unit, size_t piece);

/** A unit's gradient, rounded to the wire. Not collective. @param source fp32 @param result wire type, [blocks * MST_BLOCK] */
mst_status mst_exchange_round_unit(mst_exchange *x, size_t unit, const void *source, void *result);

/** Finishes the tree over this rank's shard of one unit, whose sources can be read. Not collective. */
mst_status mst_exchange_finish_unit(mst_exchange *x, size_t unit);

/** From now on the thread that computes moves messages between its tasks, or no longer. Not collective. */
void mst_exchange_keep_moving(mst_exchange *x);
void mst_exchange_stop_moving(mst_exchange *x);

/** Zeroed memory of a space that counts in mst_exchange_bytes. Not collective. @retval MST_ENOMEM naming `what` */
mst_status mst_exchange_alloc(mst_exchange *x, mst_space space, size_t bytes, const char *what,
                              void **memory_out);

/** x->slots and x->weights in memory of this rank alone. Not collective. @retval MST_ENOMEM */
mst_status mst_exchange_alloc_private(mst_exchange *x);

/* Where messages bring pieces of other ranks, in the wire type, [foreign pieces][owned_blocks * MST_BLOCK]: bytes from its
 * start to this rank's shard of a unit. */
size_t mst_exchange_received_at(const mst_exchange *x, size_t unit, size_t piece);
/* This rank's shard of a piece: in its own slot, or in `received`. */
const void *mst_exchange_shard_at(const mst_exchange *x, const char *received, size_t unit, size_t piece);

/** Fills memory with zeros on the queue's threads, in fixed pieces: each thread touches what it will use. */
mst_status mst_exchange_zero(mst_queue *queue, void *memory, size_t bytes);

#endif
