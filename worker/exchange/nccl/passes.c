/*
 * Passes over NCCL: weights are gathered straight into their place on the device, gradients go from device to device. A group begins
 * after all work that was queued before it, so a place is free, and what leaves is complete; it ends before the work that needs
 * it is queued. The order of the groups is that of the pass's program, on all ranks.
 */
#include <stdlib.h>

#include "../sharded.h"
#include "../stream.h"
#include "transport.h"

/* ---- life ---- */

/* A piece is complete in the pass over its last lane. Ranks begin all passes together. */
static void find_due(const mst_exchange *x, mst_nccl *s) {
    for (size_t i = 0; i < x->plan.piece_count; i++) {
        const mst_piece *piece = &x->plan.pieces[i];
        const size_t pass = piece->first_lane + ((size_t)1 << piece->level) - 1 - x->runs[piece->rank].first;
        if (pass > s->due[piece->number]) s->due[piece->number] = pass;
    }
}

static mst_status open_passes(mst_exchange *x) {
    mst_status status = MST_OK;
    mst_nccl *s = x->state;
    s->due = calloc(s->numbers, sizeof *s->due);
    MST_CHECK(s->due, MST_ENOMEM, "opening passes over NCCL: no memory");
    find_due(x, s);
done:
    return status;
}

static void close_passes(mst_exchange *x) {
    mst_nccl *s = x->state;
    free(s->due);
    s->due = NULL;
}

/* ---- weights ---- */

/* From here on all ranks are in the pass: whoever waits in it waits for transfers, and for passes' kernels, no longer than
 * mst_comm_patience. When a rank has given NCCL up, all stop here. */
static mst_status begin(mst_exchange *x) {
    const mst_nccl *s = x->state;
    return mst_comm_agree(x->comm, s->given_up ? mst_error(MST_EPEER, "%s", s->reason) : MST_OK);
}

static mst_status gather(mst_exchange *x, size_t unit, size_t place) {
    mst_nccl *s = x->state;
    const mst_status status = mst_nccl_put(x, MST_NCCL_GATHER, unit, place);
    s->arrived[unit] = s->put;
    return status;
}

static mst_status gathered(mst_exchange *x, size_t unit) {
    const mst_nccl *s = x->state;
    return mst_nccl_wait_ended(x, s->arrived[unit]);
}

/* They came to their place. */
static mst_status deliver(mst_exchange *x, size_t unit, size_t place) {
    (void)x, (void)unit, (void)place;
    return MST_OK;
}

/* ---- gradients ---- */

static mst_status sum(mst_exchange *x, size_t unit) {
    mst_status status = MST_OK;
    mst_nccl *s = x->state;
    for (size_t number = 0; number < s->numbers; number++)
        if (s->due[number] == s->pass) MST_TRY(mst_nccl_put(x, MST_NCCL_SUM, unit, number));
    if (unit == 0) { /* the pass ends, and others may need what is in line */
        s->pass++;
        MST_TRY(mst_nccl_wait_launched(x, s->put));
    }
done:
    return status;
}

static mst_status nothing(mst_exchange *x, size_t unit) {
    (void)x, (void)unit;
    return MST_OK;
}

static mst_status exchange(mst_exchange *x, size_t unit) {
    mst_nccl *s = x->state;
    const mst_status status = mst_nccl_put(x, MST_NCCL_SUM, unit, 0);
    s->summed[unit] = s->put;
    return status;
}

static mst_status exchanged(mst_exchange *x, size_t unit) {
    const mst_nccl *s = x->state;
    return mst_nccl_wait_ended(x, s->summed[unit]);
}

const mst_pass_ops mst_passes_nccl = {
    .open = open_passes,
    .close = close_passes,
    .renew = mst_exchange_nothing,
    .begin = begin,
    .gather = gather,
    .gathered = gathered,
    .deliver = deliver,
    .sum = sum,
    .expect = nothing,
    .stage = nothing,
    .exchange = exchange,
    .exchanged = exchanged,
};

/* ---- streamed gradients as a transport ---- */

static mst_status prepare_stream(mst_exchange *x) {
    mst_status status = MST_OK;
    MST_TRY(mst_nccl_prepare(x));
    MST_TRY(mst_stream_open(x));
done:
    return status;
}

static mst_status open_stream(mst_exchange *x) {
    mst_status status = MST_OK;
    MST_TRY(mst_comm_agree(x->comm, prepare_stream(x)));
    MST_TRY(mst_nccl_connect(x));
done:
    return status;
}

static void close_stream(mst_exchange *x) {
    mst_nccl_leave(x);
    mst_stream_close(x);
    mst_nccl_clear(x);
}

const mst_transport_ops mst_transport_nccl_stream = {
    .name = "nccl",
    .passes = &mst_passes_nccl,
    .open = open_stream,
    .close = close_stream,
    .give_up = mst_nccl_give_up,
    .begin_round = mst_exchange_nothing,
    .send = mst_stream_send,
    .receive = mst_exchange_nothing,
    .shard = mst_stream_shard,
    .fence = mst_exchange_nothing,
    .publish = mst_sharded_publish,
};
