/* What a group is: the sends, receives and gatherings that NCCL gets at once. */
#include "../sharded.h"
#include "../stream.h"
#include "transport.h"

mst_status mst_nccl_check(const mst_exchange *x, const char *call, ncclResult_t result) {
    const mst_nccl *s = x->state;
    if (result == ncclSuccess || result == ncclInProgress) return MST_OK;
    return mst_error(MST_ELIBRARY, "%s: %s", call, s->library->ncclGetErrorString(result));
}

/* ---- sums ---- */

/* This rank's piece of a unit, whole. */
static const char *piece_of(const mst_exchange *x, size_t unit, size_t number) {
    const mst_nccl *s = x->state;
    if (x->stream) return mst_stream_leaving(x, unit);
    const size_t slot = x->plan.pieces[s->first_piece[x->rank] + number].slot;
    return (const char *)x->slots + slot * mst_exchange_slot_bytes(x) + mst_exchange_unit_offset(x, unit);
}

/* Where this rank's shard of another's piece comes in. */
static char *received_at(const mst_exchange *x, size_t unit, size_t piece) {
    const mst_nccl *s = x->state;
    if (x->stream) return mst_stream_received_at(x, unit, piece);
    return s->received + mst_exchange_received_at(x, unit, piece);
}

/* A piece to and from every other rank; those that have none of this number, or own nothing, are passed over. */
static mst_status launch_sums(mst_exchange *x, const mst_nccl_group *group) {
    mst_status status = MST_OK;
    const mst_nccl *s = x->state;
    const size_t block = mst_exchange_wire_block(x), owned = x->owned[group->unit].blocks;
    const bool sends = group->number < s->own_count[x->rank];
    for (int peer = 0; peer < x->size; peer++) {
        size_t first, blocks;
        if (peer == x->rank) continue;
        mst_shard_range(&x->layout->units[group->unit], peer, x->size, &first, &blocks);
        if (sends && blocks > 0)
            MST_TRY_NCCL(ncclSend, piece_of(x, group->unit, group->number) + first * block, blocks * block,
                         ncclUint8, peer, s->comm, s->stream);
        if (group->number < s->own_count[peer] && owned > 0)
            MST_TRY_NCCL(ncclRecv, received_at(x, group->unit, s->first_piece[peer] + group->number),
                         owned * block, ncclUint8, peer, s->comm, s->stream);
    }
done:
    return status;
}

/* ---- weights ---- */

/* One all-gather where all ranks own as much of the unit, else a broadcast for each owner: the same messages. */
static mst_status launch_weights(mst_exchange *x, const mst_nccl_group *group) {
    mst_status status = MST_OK;
    const mst_nccl *s = x->state;
    const mst_unit *unit = &x->layout->units[group->unit];
    const size_t block = mst_exchange_weight_block(x);
    const char *own = mst_exchange_own_weights(x, group->unit);
    char *all = group->kind == MST_NCCL_GATHER ? x->sharded->places[group->number]
                                               : mst_exchange_weights(x, group->unit);
    if (unit->blocks % (size_t)x->size == 0) {
        MST_TRY_NCCL(ncclAllGather, own, all, x->owned[group->unit].blocks * block, ncclUint8, s->comm,
                     s->stream);
        goto done;
    }
    for (int owner = 0; owner < x->size; owner++) {
        size_t first, blocks;
        mst_shard_range(unit, owner, x->size, &first, &blocks);
        char *shard = all + first * block;
        if (blocks > 0)
            MST_TRY_NCCL(ncclBroadcast, owner == x->rank ? own : shard, shard, blocks * block, ncclUint8,
                         owner, s->comm, s->stream);
    }
done:
    return status;
}

/* ---- all kinds ---- */

mst_status mst_nccl_launch(mst_exchange *x, const mst_nccl_group *group) {
    mst_status status = MST_OK;
    const mst_nccl *s = x->state;
    MST_TRY(mst_nccl_check(x, "ncclGroupStart", s->library->ncclGroupStart()));
    status = group->kind == MST_NCCL_SUM ? launch_sums(x, group) : launch_weights(x, group);
    const ncclResult_t ended = s->library->ncclGroupEnd(); /* also after a failure: it is the thread's */
    if (status == MST_OK) status = mst_nccl_check(x, "ncclGroupEnd", ended);
done:
    return status;
}

bool mst_nccl_needs(const mst_exchange *x, const mst_nccl_group *group, int rank) {
    const mst_nccl *s = x->state;
    size_t first, theirs;
    if (rank == x->rank) return false;
    mst_shard_range(&x->layout->units[group->unit], rank, x->size, &first, &theirs);
    if (group->kind != MST_NCCL_SUM) return theirs > 0;
    return (group->number < s->own_count[rank] && x->owned[group->unit].blocks > 0) ||
           (group->number < s->own_count[x->rank] && theirs > 0);
}
