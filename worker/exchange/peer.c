/*
 * GPUs of one node: an owner's kernel reads its shards of the partial sums from the memory of the GPUs that computed
 * them, and copies new weights from there. Nothing is sent, and nothing happens before all ranks are done.
 */
#include <stdlib.h>

#include "muster/transfer.h"
#include "transport.h"

/* What a rank lets the others reach. */
typedef struct shared_names {
    mst_shared_memory slots, weights;
} shared_names;

/* Another rank's memory as this rank's device sees it. */
typedef struct peer_memory {
    void *slots, *weights; /* NULL: it has none, or is this rank */
} peer_memory;

typedef struct peer_state {
    peer_memory *peers; /* [size] */
} peer_state;

static bool has_slots(const mst_exchange *x, int rank) {
    return x->runs[rank].count > 0;
}

/* ---- opening ---- */

static mst_status share(mst_exchange *x, shared_names *names_out) {
    mst_status status = MST_OK;
    peer_state *s = x->state = calloc(1, sizeof *s);
    MST_CHECK(s, MST_ENOMEM, "opening the peer transport: no memory");
    s->peers = calloc((size_t)x->size, sizeof *s->peers);
    MST_CHECK(s->peers, MST_ENOMEM, "opening the peer transport: no memory for %d ranks", x->size);
    MST_TRY(mst_exchange_alloc_private(x));
    MST_TRY(mst_memory_share(x->queue, x->slots, &names_out->slots));
    MST_TRY(mst_memory_share(x->queue, x->weights, &names_out->weights));
done:
    return status;
}

static mst_status join(mst_exchange *x, const shared_names *names) {
    mst_status status = MST_OK;
    const peer_state *s = x->state;
    for (int rank = 0; rank < x->size; rank++) {
        if (rank == x->rank) continue;
        if (has_slots(x, rank)) MST_TRY(mst_memory_join(x->queue, &names[rank].slots, &s->peers[rank].slots));
        MST_TRY(mst_memory_join(x->queue, &names[rank].weights, &s->peers[rank].weights));
    }
done:
    return status == MST_OK ? status
                            : mst_error_context(status, "reaching the GPUs of other ranks (transport peer)");
}

static mst_status open_peer(mst_exchange *x) {
    mst_status status = MST_OK;
    shared_names mine = {.slots = {{0}}}, *names = NULL;
    MST_TRY(mst_comm_agree(x->comm, share(x, &mine)));
    MST_TRY(mst_comm_allgather_equal(x->comm, &mine, sizeof mine, (void **)&names));
    MST_TRY(mst_comm_agree(x->comm, join(x, names)));
done:
    free(names);
    return status;
}

/* ---- closing ---- */

static void close_peer(mst_exchange *x) {
    peer_state *s = x->state;
    for (int rank = 0; s && s->peers && rank < x->size; rank++) {
        mst_memory_leave(x->queue, &s->peers[rank].slots);
        mst_memory_leave(x->queue, &s->peers[rank].weights);
    }
    mst_comm_barrier(x->comm); /* from here on nobody reaches this rank's memory */
    if (s) free(s->peers);
    free(s);
    x->state = NULL;
    mst_memory_free(MST_SPACE_DEVICE, &x->slots);
    mst_memory_free(MST_SPACE_DEVICE, &x->weights);
}

/* ---- rounds ---- */

/* Work of this rank has ended before it says so. */
static mst_status fence_peer(mst_exchange *x) {
    return mst_queue_sync(x->queue);
}

static const void *shard_of(const mst_exchange *x, size_t unit, size_t piece) {
    const peer_state *s = x->state;
    const mst_piece *p = &x->plan.pieces[piece];
    const char *slots = p->rank == x->rank ? x->slots : s->peers[p->rank].slots;
    const size_t first = x->owned[unit].first_block * mst_exchange_wire_block(x);
    return slots + p->slot * mst_exchange_slot_bytes(x) + mst_exchange_unit_offset(x, unit) + first;
}

static mst_status copy_unit(mst_exchange *x, size_t unit) {
    mst_status status = MST_OK;
    const peer_state *s = x->state;
    const size_t block = mst_exchange_weight_block(x);
    for (int owner = 0; owner < x->size; owner++) {
        size_t first, blocks;
        mst_shard_range(&x->layout->units[unit], owner, x->size, &first, &blocks);
        const size_t place = (x->layout->units[unit].first_block + first) * block;
        if (owner == x->rank || blocks == 0) continue;
        MST_TRY(mst_memory_copy_later(x->queue, (char *)x->weights + place,
                                      (const char *)s->peers[owner].weights + place, blocks * block));
    }
done:
    return status;
}

/* Owners write their weights again only after the next sum, which begins when all have copied. */
static mst_status publish_peer(mst_exchange *x) {
    mst_status status = MST_OK;
    MST_TRY(mst_comm_agree(x->comm, fence_peer(x)));
    for (size_t unit = 0; unit < x->layout->unit_count && status == MST_OK; unit++)
        status = copy_unit(x, unit);
    if (status == MST_OK) status = fence_peer(x);
    MST_TRY(mst_comm_agree(x->comm, status));
done:
    return status;
}

const mst_transport_ops mst_transport_peer = {
    .name = "peer",
    .open = open_peer,
    .close = close_peer,
    .begin_round = mst_exchange_nothing,
    .send = mst_exchange_send_nothing,
    .receive = mst_exchange_nothing,
    .shard = shard_of,
    .fence = fence_peer,
    .publish = publish_peer,
};
