/* One rank alone: every piece is its own, and nothing travels. */
#include "transport.h"

static void close_self(mst_exchange *x) {
    mst_memory_free(MST_SPACE_DEVICE, &x->slots);
    mst_memory_free(MST_SPACE_DEVICE, &x->weights);
}

static mst_status nothing(mst_exchange *x) {
    (void)x;
    return MST_OK;
}

static mst_status send_nothing(mst_exchange *x, size_t unit, size_t piece) {
    (void)x, (void)unit, (void)piece;
    return MST_OK;
}

static const void *own_shard(const mst_exchange *x, size_t unit, size_t piece) {
    return mst_exchange_shard_at(x, NULL, unit, piece);
}

const mst_transport_ops mst_transport_self = {
    .name = "self",
    .open = mst_exchange_alloc_private,
    .close = close_self,
    .begin_round = nothing,
    .send = send_nothing,
    .receive = nothing,
    .shard = own_shard,
    .fence = nothing,
    .publish = nothing,
};
