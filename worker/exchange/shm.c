/*
 * Ranks of one node: all slots and the published weights stand in one shared-memory window, and an owner
 * reads its shards of the partial sums where the other ranks computed them.
 */
#include <stdlib.h>

#include "window.h"

static void close_shm(mst_exchange *x) {
    mst_window *w = x->state;
    if (!w) return;
    mst_window_clear(x, w);
    free(w);
    x->state = NULL;
}

static mst_status open_shm(mst_exchange *x) {
    mst_status status = MST_OK;
    mst_window *w = calloc(1, sizeof *w);
    if (w)
        w->window = MPI_WIN_NULL;
    else
        status = mst_error(MST_ENOMEM, "opening shared memory for %d ranks: no memory", x->size);
    x->state = w;
    MST_TRY(mst_comm_agree(x->comm, status));
    MST_TRY(mst_window_init(x, w));
done:
    return status;
}

static mst_status fence_shm(mst_exchange *x) {
    return mst_window_fence(x->state);
}

static const void *peer_shard(const mst_exchange *x, size_t unit, size_t piece) {
    return mst_window_blocks(x, x->state, &x->plan.pieces[piece], unit, x->owned[unit].first_block);
}

static mst_status publish_shm(mst_exchange *x) {
    mst_status status = MST_OK;
    MST_TRY(mst_comm_agree(x->comm, fence_shm(x)));
    MST_TRY(fence_shm(x));
done:
    return status;
}

const mst_transport_ops mst_transport_shm = {
    .name = "shm",
    .open = open_shm,
    .close = close_shm,
    .begin_round = mst_exchange_nothing,
    .send = mst_exchange_send_nothing,
    .receive = fence_shm,
    .shard = peer_shard,
    .fence = fence_shm,
    .publish = publish_shm,
};
