/* One rank alone: every piece is its own, and nothing travels. */
#include "transport.h"

static void close_self(mst_exchange *x) {
    mst_memory_free(MST_SPACE_DEVICE, &x->slots);
    mst_memory_free(MST_SPACE_DEVICE, &x->weights);
}

static const void *own_shard(const mst_exchange *x, size_t unit, size_t piece) {
    return mst_exchange_shard_at(x, NULL, unit, piece);
}

const mst_transport_ops mst_transport_self = {
    .name = "self",
    .open = mst_exchange_alloc_private,
    .close = close_self,
    .begin_round = mst_exchange_nothing,
    .send = mst_exchange_send_nothing,
    .receive = mst_exchange_nothing,
    .shard = own_shard,
    .fence = mst_exchange_nothing,
    .publish = mst_exchange_nothing,
};
