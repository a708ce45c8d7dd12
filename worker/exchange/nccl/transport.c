/*
 * Ranks with a GPU each: shards travel from device to device by grouped ncclSend and ncclRecv, unit by unit beside the
 * backward pass, and weights by an all-gather per unit beside the next forward pass. NCCL adds nothing: owners do.
 */
#include "transport.h"

#include <stdlib.h>

static mst_status check(const mst_exchange *x, const char *call, ncclResult_t result) {
    const mst_nccl *s = x->state;
    if (result == ncclSuccess || result == ncclInProgress) return MST_OK;
    return mst_error(MST_ELIBRARY, "%s: %s", call, s->library->ncclGetErrorString(result));
}

/* As MST_TRY, for a function of NCCL. */
#define MST_TRY_NCCL(function, ...) MST_TRY(check(x, #function, s->library->function(__VA_ARGS__)))

/* ---- what a group is ---- */

/* A piece of a unit to and from every other rank; those that have none of this number, or own nothing, are passed over. */
static mst_status launch_sums(mst_exchange *x, const mst_nccl_group *group) {
    mst_status status = MST_OK;
    const mst_nccl *s = x->state;
    const size_t block = mst_exchange_wire_block(x), owned = x->owned[group->unit].blocks;
    const bool sends = group->number < s->own_count[x->rank];
    const size_t own = s->first_piece[x->rank] + group->number;
    for (int peer = 0; peer < x->size; peer++) {
        size_t first, blocks;
        if (peer == x->rank) continue;
        mst_shard_range(&x->layout->units[group->unit], peer, x->size, &first, &blocks);
        if (sends && blocks > 0) {
            const char *slot = (const char *)x->slots + x->plan.pieces[own].slot * mst_exchange_slot_bytes(x);
            MST_TRY_NCCL(ncclSend, slot + mst_exchange_unit_offset(x, group->unit) + first * block,
                         blocks * block, ncclUint8, peer, s->comm, s->stream);
        }
        if (group->number < s->own_count[peer] && owned > 0) {
            const size_t place =
                mst_exchange_received_at(x, group->unit, s->first_piece[peer] + group->number);
            MST_TRY_NCCL(ncclRecv, s->received + place, owned * block, ncclUint8, peer, s->comm, s->stream);
        }
    }
done:
    return status;
}

/* One all-gather where all ranks own as much of the unit, else a broadcast for each owner: the same messages. */
static mst_status launch_weights(mst_exchange *x, const mst_nccl_group *group) {
    mst_status status = MST_OK;
    const mst_nccl *s = x->state;
    const mst_unit *unit = &x->layout->units[group->unit];
    const size_t block = mst_exchange_weight_block(x);
    char *weights = mst_exchange_weights(x, group->unit);
    size_t first, blocks;
    mst_shard_range(unit, x->rank, x->size, &first, &blocks);
    if (unit->blocks % (size_t)x->size == 0) {
        MST_TRY_NCCL(ncclAllGather, weights + first * block, weights, blocks * block, ncclUint8, s->comm,
                     s->stream);
        goto done;
    }
    for (int owner = 0; owner < x->size; owner++) {
        mst_shard_range(unit, owner, x->size, &first, &blocks);
        char *shard = weights + first * block;
        if (blocks > 0)
            MST_TRY_NCCL(ncclBroadcast, shard, shard, blocks * block, ncclUint8, owner, s->comm, s->stream);
    }
done:
    return status;
}

mst_status mst_nccl_launch(mst_exchange *x, const mst_nccl_list *list, const mst_nccl_group *group) {
    mst_status status = MST_OK;
    const mst_nccl *s = x->state;
    MST_TRY(check(x, "ncclGroupStart", s->library->ncclGroupStart()));
    status = list == &s->weights ? launch_weights(x, group) : launch_sums(x, group);
    const ncclResult_t ended = s->library->ncclGroupEnd(); /* also after a failure: it is the thread's */
    if (status == MST_OK) status = check(x, "ncclGroupEnd", ended);
done:
    return status;
}

/* ---- opening ---- */

static mst_status count_pieces(mst_exchange *x, mst_nccl *s, size_t *most_out) {
    mst_status status = MST_OK;
    *most_out = 0;
    s->first_piece = calloc((size_t)x->size, sizeof *s->first_piece);
    s->own_count = calloc((size_t)x->size, sizeof *s->own_count);
    MST_CHECK(s->first_piece && s->own_count, MST_ENOMEM, "opening the nccl transport: no memory");
    for (size_t piece = x->plan.piece_count; piece-- > 0;) {
        const int rank = x->plan.pieces[piece].rank;
        s->first_piece[rank] = piece; /* a rank's pieces follow each other */
        if (++s->own_count[rank] > *most_out) *most_out = s->own_count[rank];
    }
done:
    return status;
}

static mst_status make_list(mst_exchange *x, mst_nccl_list *list, const char *phase, size_t numbers) {
    mst_status status = MST_OK;
    const size_t units = x->layout->unit_count;
    list->phase = phase;
    list->groups = calloc(units * numbers, sizeof *list->groups);
    MST_CHECK(list->groups, MST_ENOMEM, "opening the nccl transport: no memory for %zu units", units);
    for (; list->count < units * numbers; list->count++) {
        list->groups[list->count] =
            (mst_nccl_group){.unit = list->count % units, .number = list->count / units};
        MST_TRY(mst_mark_create(x->queue, &list->groups[list->count].mark));
    }
    list->launched = list->ended = list->count; /* nothing has begun */
done:
    return status;
}

static mst_status prepare(mst_exchange *x) {
    mst_status status = MST_OK;
    size_t numbers;
    void *memory;
    mst_nccl *s = x->state = calloc(1, sizeof *s);
    MST_CHECK(s, MST_ENOMEM, "opening the nccl transport: no memory");
    MST_TRY(mst_nccl_load(&s->library));
    MST_TRY(mst_exchange_alloc_private(x));
    const size_t foreign = x->plan.piece_count - x->plan.own_pieces;
    MST_TRY(mst_exchange_alloc(x, MST_SPACE_DEVICE, foreign * x->owned_blocks * mst_exchange_wire_block(x),
                               "received gradients", &memory));
    s->received = memory;
    MST_TRY(mst_transfer_stream(x->queue, &s->stream));
    MST_TRY(count_pieces(x, s, &numbers));
    MST_TRY(make_list(x, &s->weights, "publish", 1));
    MST_TRY(make_list(x, &s->sums, "exchange", numbers));
    for (size_t i = 0; i < s->sums.count; i++) /* backward completes the last unit first */
        s->sums.groups[i].unit = x->layout->unit_count - 1 - s->sums.groups[i].unit;
done:
    return status;
}

static mst_status open_nccl(mst_exchange *x) {
    mst_status status = MST_OK;
    ncclUniqueId id = {{0}};
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    MST_TRY(mst_comm_agree(x->comm, prepare(x)));
    mst_nccl *s = x->state;
    if (x->rank == 0) status = check(x, "ncclGetUniqueId", s->library->ncclGetUniqueId(&id));
    MST_TRY(mst_comm_agree(x->comm, status));
    MST_TRY(mst_comm_broadcast(x->comm, 0, &id, sizeof id));
    status = check(x, "ncclCommInitRankConfig",
                   s->library->ncclCommInitRankConfig(&s->comm, x->size, id, x->rank, &config));
    if (status == MST_OK) status = mst_nccl_wait_comm(x, "open");
    MST_TRY(mst_comm_agree(x->comm, status));
done:
    return status;
}

/* ---- closing ---- */

/* Lets all that was begun end, and puts the communicator away; where a rank cannot, all end theirs at once. */
static void leave(mst_exchange *x, mst_nccl *s) {
    bool all = false;
    const bool whole = s && s->comm && s->sums.ended == s->sums.count &&
                       mst_nccl_wait_ended(x, &s->weights, s->weights.count) == MST_OK;
    if (mst_comm_all(x->comm, whole, &all) != MST_OK) all = false;
    if (all && check(x, "ncclCommFinalize", s->library->ncclCommFinalize(s->comm)) == MST_OK &&
        mst_nccl_wait_comm(x, "close") == MST_OK) {
        s->library->ncclCommDestroy(s->comm);
        s->comm = NULL;
    }
    if (s && s->comm) s->library->ncclCommAbort(s->comm);
}

static void clear_list(mst_exchange *x, mst_nccl_list *list) {
    for (size_t i = 0; list->groups && i < list->count; i++)
        mst_mark_destroy(x->queue, &list->groups[i].mark);
    free(list->groups);
}

static void close_nccl(mst_exchange *x) {
    mst_nccl *s = x->state;
    leave(x, s); /* collective, so also of a rank that never came to have one */
    if (s) {
        clear_list(x, &s->weights);
        clear_list(x, &s->sums);
        mst_memory_free(MST_SPACE_DEVICE, &s->received);
        free(s->first_piece);
        free(s->own_count);
        free(s);
        x->state = NULL;
    }
    mst_memory_free(MST_SPACE_DEVICE, &x->slots);
    mst_memory_free(MST_SPACE_DEVICE, &x->weights);
}

/* ---- rounds ---- */

static mst_status begin_round(mst_exchange *x) {
    mst_nccl *s = x->state;
    s->sums.launched = s->sums.ended = 0;
    for (size_t i = 0; i < s->sums.count; i++)
        s->sums.groups[i].ready = s->sums.groups[i].number >= s->own_count[x->rank];
    return mst_nccl_advance(x);
}

static mst_status send_piece(mst_exchange *x, size_t unit, size_t piece) {
    mst_nccl *s = x->state;
    const size_t units = x->layout->unit_count;
    s->sums.groups[x->plan.pieces[piece].number * units + units - 1 - unit].ready = true;
    return mst_nccl_advance(x);
}

static mst_status receive(mst_exchange *x) {
    mst_nccl *s = x->state;
    return mst_nccl_wait_ended(x, &s->sums, s->sums.count);
}

static const void *shard_of(const mst_exchange *x, size_t unit, size_t piece) {
    const mst_nccl *s = x->state;
    return mst_exchange_shard_at(x, s->received, unit, piece);
}

static mst_status launch_all_weights(mst_exchange *x) {
    mst_status status = MST_OK;
    mst_nccl *s = x->state;
    MST_TRY(mst_nccl_wait_ended(x, &s->weights, s->weights.count));
    s->weights.launched = s->weights.ended = 0;
    for (size_t i = 0; i < s->weights.count; i++) s->weights.groups[i].ready = true;
    MST_TRY(mst_nccl_wait_launched(x, &s->weights, s->weights.count));
done:
    return status;
}

/* All is launched when this returns, so that no peer waits for this rank to come back; it ends beside what follows. */
static mst_status publish(mst_exchange *x) {
    return mst_comm_agree(x->comm, launch_all_weights(x));
}

static mst_status acquire(mst_exchange *x, size_t unit) {
    mst_nccl *s = x->state;
    return s->weights.ended > unit ? MST_OK : mst_nccl_wait_ended(x, &s->weights, unit + 1);
}

const mst_transport_ops mst_transport_nccl = {
    .name = "nccl",
    .open = open_nccl,
    .close = close_nccl,
    .begin_round = begin_round,
    .send = send_piece,
    .receive = receive,
    .shard = shard_of,
    .fence = mst_exchange_nothing,
    .publish = publish,
    .acquire = acquire,
};
