/*
 * Ranks with a GPU each: shards travel from device to device by grouped ncclSend and ncclRecv, unit by unit beside the
 * backward pass, and weights by an all-gather per unit beside the next forward pass. NCCL adds nothing: owners do.
 */
#include "transport.h"

#include "../sharded.h"

/* ---- life ---- */

static mst_status prepare(mst_exchange *x) {
    mst_status status = MST_OK;
    void *memory;
    MST_TRY(mst_nccl_prepare(x));
    mst_nccl *s = x->state;
    const size_t foreign = x->plan.piece_count - x->plan.own_pieces;
    MST_TRY(mst_exchange_alloc(x, MST_SPACE_DEVICE, x->plan.slots * mst_exchange_slot_bytes(x), "gradients",
                               &x->slots));
    MST_TRY(mst_exchange_alloc(x, MST_SPACE_DEVICE, foreign * x->owned_blocks * mst_exchange_wire_block(x),
                               "received gradients", &memory));
    s->received = memory;
    if (x->shape.sharding == MST_SHARDING_ALL)
        MST_TRY(mst_sharded_open(x));
    else
        MST_TRY(mst_exchange_alloc(x, MST_SPACE_DEVICE, x->layout->blocks * mst_exchange_weight_block(x),
                                   "weights", &x->weights));
done:
    return status;
}

static mst_status open_nccl(mst_exchange *x) {
    mst_status status = MST_OK;
    MST_TRY(mst_comm_agree(x->comm, prepare(x)));
    MST_TRY(mst_nccl_connect(x));
done:
    return status;
}

static void close_nccl(mst_exchange *x) {
    mst_nccl_leave(x);
    mst_sharded_close(x);
    mst_nccl_clear(x);
    mst_memory_free(MST_SPACE_DEVICE, &x->slots);
    mst_memory_free(MST_SPACE_DEVICE, &x->weights);
}

/* ---- rounds ---- */

/* Of the numbers that this rank has no pieces of, it only receives. */
static mst_status put_foreign(mst_exchange *x) {
    mst_status status = MST_OK;
    const mst_nccl *s = x->state;
    for (size_t number = s->own_count[x->rank]; number < s->numbers; number++)
        for (size_t unit = x->layout->unit_count; unit-- > 0;)
            MST_TRY(mst_nccl_put(x, MST_NCCL_SUM, unit, number));
done:
    return status;
}

static mst_status begin_round(mst_exchange *x) {
    mst_nccl *s = x->state;
    s->round_open = true;
    return x->sharded || s->own_count[x->rank] > 0 ? MST_OK : put_foreign(x);
}

/* The order of groups is that of the backward pass, which completes the last unit first. */
static mst_status send_piece(mst_exchange *x, size_t unit, size_t piece) {
    mst_status status = MST_OK;
    const mst_nccl *s = x->state;
    const size_t number = x->plan.pieces[piece].number;
    if (x->sharded) goto done; /* passes send it, when all ranks have theirs */
    MST_CHECK(unit + 1 == x->units_left, MST_EINTERNAL,
              "exchange: the gradient of unit %zu is complete, that of unit %zu was next", unit,
              x->units_left - 1);
    MST_TRY(mst_nccl_put(x, MST_NCCL_SUM, unit, number));
    if (unit == 0 && number + 1 == s->own_count[x->rank]) MST_TRY(put_foreign(x));
done:
    return status;
}

static mst_status receive(mst_exchange *x) {
    mst_status status = MST_OK;
    mst_nccl *s = x->state;
    MST_TRY(mst_nccl_wait_ended(x, s->put));
    s->round_open = false;
    s->pass = 0;
done:
    return status;
}

static const void *shard_of(const mst_exchange *x, size_t unit, size_t piece) {
    const mst_nccl *s = x->state;
    return mst_exchange_shard_at(x, s->received, unit, piece);
}

static mst_status launch_all_weights(mst_exchange *x) {
    mst_status status = MST_OK;
    mst_nccl *s = x->state;
    MST_TRY(mst_nccl_wait_ended(x, s->put));
    for (size_t unit = 0; unit < x->layout->unit_count; unit++) {
        MST_TRY(mst_nccl_put(x, MST_NCCL_PUBLISH, unit, 0));
        s->arrived[unit] = s->put;
    }
    MST_TRY(mst_nccl_wait_launched(x, s->put));
done:
    return status;
}

/* All is launched when this returns, so that no peer waits for this rank to come back; it ends beside what follows. */
static mst_status publish(mst_exchange *x) {
    return x->sharded ? mst_sharded_publish(x) : mst_comm_agree(x->comm, launch_all_weights(x));
}

static mst_status acquire(mst_exchange *x, size_t unit) {
    const mst_nccl *s = x->state;
    return s->ended >= s->arrived[unit] ? MST_OK : mst_nccl_wait_ended(x, s->arrived[unit]);
}

const mst_transport_ops mst_transport_nccl = {
    .name = "nccl",
    .passes = &mst_passes_nccl,
    .open = open_nccl,
    .close = close_nccl,
    .give_up = mst_nccl_give_up,
    .begin_round = begin_round,
    .send = send_piece,
    .receive = receive,
    .shard = shard_of,
    .fence = mst_exchange_nothing,
    .publish = publish,
    .acquire = acquire,
};
