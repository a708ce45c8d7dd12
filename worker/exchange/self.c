/* One rank alone: every piece is its own, and nothing travels. */
#include "transport.h"

static mst_status open_self(mst_exchange *x) {
    mst_status status = MST_OK;
    size_t weights = x->layout->blocks * MST_BLOCK * mst_dtype_size(x->weight_dtype);
    MST_TRY(mst_exchange_alloc(x, MST_SPACE_DEVICE, x->plan.slots * mst_exchange_slot_bytes(x), "gradients",
                               &x->slots));
    MST_TRY(mst_exchange_alloc(x, MST_SPACE_DEVICE, weights, "weights", &x->weights));
done:
    return status;
}

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
    const char *slot = (const char *)x->slots + x->plan.pieces[piece].slot * mst_exchange_slot_bytes(x);
    return slot + mst_exchange_unit_offset(x, unit);
}

const mst_transport_ops mst_transport_self = {
    .name = "self",
    .open = open_self,
    .close = close_self,
    .begin_round = nothing,
    .send = send_nothing,
    .receive = nothing,
    .shard = own_shard,
    .fence = nothing,
    .publish = nothing,
};
