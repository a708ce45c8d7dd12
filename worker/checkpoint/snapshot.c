#include "snapshot.h"

#include <stdlib.h>

#include "moments.h"
#include "pieces.h"

mst_status ckpt_snapshot_create(const mst_checkpoint_context *context, const mst_layout *layout,
                                const mst_shard *shards, ckpt_snapshot *snapshot_out) {
    mst_status status = MST_OK;
    ckpt_snapshot copy = {.shards = calloc(layout->unit_count, sizeof *copy.shards)};
    MST_CHECK(copy.shards != NULL, MST_ENOMEM, "checkpoint: no memory for a list of %zu units",
              layout->unit_count);
    size_t blocks = 0;
    for (size_t u = 0; u < layout->unit_count; u++) blocks += shards[u].blocks;
    copy.bytes = MST_KIND_COUNT * blocks * MST_BLOCK * sizeof(float);
    status = mst_memory_alloc(MST_SPACE_HOST, copy.bytes, &copy.memory);
    MST_CHECK(
        status == MST_OK, MST_ENOMEM,
        "no memory for the copy that is saved while training goes on (%zu bytes a rank); use more ranks, "
        "or checkpoint.async=false, which needs none",
        copy.bytes);
    float *next = copy.memory;
    for (size_t u = 0; u < layout->unit_count; u++) {
        const size_t count = shards[u].blocks * MST_BLOCK;
        copy.shards[u] = (mst_shard){.first_block = shards[u].first_block,
                                     .blocks = shards[u].blocks,
                                     .master = next,
                                     .m = next + count,
                                     .v = next + 2 * count};
        next += MST_KIND_COUNT * count;
    }
    MST_TRY(ckpt_snapshot_take(context, layout, shards, &copy));
    *snapshot_out = copy;
    copy = (ckpt_snapshot){0};
done:
    ckpt_snapshot_clear(&copy);
    return status;
}

void ckpt_snapshot_clear(ckpt_snapshot *snapshot) {
    mst_memory_free(MST_SPACE_HOST, &snapshot->memory);
    free(snapshot->shards);
    *snapshot = (ckpt_snapshot){0};
}

mst_status ckpt_snapshot_take(const mst_checkpoint_context *context, const mst_layout *layout,
                              const mst_shard *shards, const ckpt_snapshot *snapshot) {
    mst_status status = MST_OK;
    for (size_t u = 0; u < layout->unit_count; u++) {
        for (int kind = 0; kind < MST_KIND_COUNT; kind++) {
            MST_TRY(ckpt_widen(context, &shards[u], (mst_tensor_kind)kind,
                               ckpt_shard_data(&snapshot->shards[u], (mst_tensor_kind)kind)));
            ckpt_report(context, false);
        }
    }
done:
    return status;
}
