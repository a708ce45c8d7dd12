#include "pieces.h"

#include <stdlib.h>
#include <string.h>

static int compare_names(const void *left, const void *right, void *context) {
    const mst_layout *layout = context;
    return strcmp(layout->tensors[*(const size_t *)left].name, layout->tensors[*(const size_t *)right].name);
}

mst_status ckpt_name_order(const mst_layout *layout, size_t **order_out) {
    mst_status status = MST_OK;
    size_t *order = malloc((layout->tensor_count + 1) * sizeof *order);
    MST_CHECK(order != NULL, MST_ENOMEM, "checkpoint: no memory for the order of %zu tensors",
              layout->tensor_count);
    for (size_t i = 0; i < layout->tensor_count; i++) order[i] = i;
    qsort_r(order, layout->tensor_count, sizeof *order, compare_names, (void *)(uintptr_t)layout);
    for (size_t i = 1; i < layout->tensor_count; i++) {
        const char *name = layout->tensors[order[i]].name;
        MST_CHECK(strcmp(layout->tensors[order[i - 1]].name, name) != 0, MST_EINVAL,
                  "checkpoint: two tensors of the model have the name %s", name);
    }
    *order_out = order;
    order = NULL;
done:
    free(order);
    return status;
}

mst_status ckpt_check_ranges(const mst_layout *layout, const mst_shard *shards, int rank, int size) {
    for (size_t u = 0; u < layout->unit_count; u++) {
        size_t first, blocks;
        mst_shard_range(&layout->units[u], rank, size, &first, &blocks);
        if (shards[u].first_block != first || shards[u].blocks != blocks)
            return mst_error(
                MST_EINVAL,
                "checkpoint: the shard of unit %s begins at block %zu, not at %zu as this rank's does",
                layout->units[u].name, shards[u].first_block, first);
    }
    return MST_OK;
}

bool ckpt_piece_within(const mst_layout *layout, size_t tensor, size_t first_block, size_t blocks,
                       ckpt_piece *piece_out) {
    const mst_tensor *t = &layout->tensors[tensor];
    size_t tensor_first = t->offset / MST_BLOCK, tensor_end = tensor_first + mst_blocks_of(t->count);
    size_t first = tensor_first > first_block ? tensor_first : first_block;
    size_t end = tensor_end < first_block + blocks ? tensor_end : first_block + blocks;
    if (first >= end) return false;
    uint64_t from = (uint64_t)(first - tensor_first) * MST_BLOCK,
             to = (uint64_t)(end - tensor_first) * MST_BLOCK;
    if (to > t->count) to = t->count;
    *piece_out = (ckpt_piece){
        .tensor = tensor, .first = from, .count = to - from, .at = (first - first_block) * MST_BLOCK};
    return true;
}

bool ckpt_piece_of_rank(const mst_layout *layout, size_t tensor, int rank, int size, ckpt_piece *piece_out) {
    size_t first_block, blocks;
    mst_shard_range(&layout->units[layout->tensors[tensor].unit], rank, size, &first_block, &blocks);
    return ckpt_piece_within(layout, tensor, first_block, blocks, piece_out);
}

mst_status ckpt_pieces_list(const mst_layout *layout, const size_t *order, const mst_shard *shards,
                            ckpt_pieces *pieces_out) {
    mst_status status = MST_OK;
    ckpt_pieces list = {0};
    list.pieces = calloc(layout->tensor_count + 1, sizeof *list.pieces);
    list.first_digest = calloc(layout->tensor_count + 1, sizeof *list.first_digest);
    MST_CHECK(list.pieces != NULL && list.first_digest != NULL, MST_ENOMEM,
              "checkpoint: no memory for a list of %zu tensors", layout->tensor_count);
    for (size_t i = 0; i < layout->tensor_count; i++) {
        const mst_shard *shard = &shards[layout->tensors[order[i]].unit];
        ckpt_piece *piece = &list.pieces[list.count];
        if (!ckpt_piece_within(layout, order[i], shard->first_block, shard->blocks, piece)) continue;
        piece->place = i;
        list.first_digest[list.count + 1] = list.first_digest[list.count] + mst_blocks_of(piece->count);
        list.count++;
    }
    size_t blocks = list.first_digest[list.count];
    list.digests[0] = calloc(MST_KIND_COUNT * blocks + 1, CKPT_SUM_BYTES);
    MST_CHECK(list.digests[0] != NULL, MST_ENOMEM, "checkpoint: no memory for the digests of %zu blocks",
              blocks);
    list.checksums[0] = (uint64_t *)(void *)(list.digests[0] + MST_KIND_COUNT * blocks);
    for (int kind = 1; kind < MST_KIND_COUNT; kind++) {
        list.digests[kind] = list.digests[kind - 1] + blocks;
        list.checksums[kind] = list.checksums[kind - 1] + blocks;
    }
    *pieces_out = list;
    list = (ckpt_pieces){0};
done:
    ckpt_pieces_clear(&list);
    return status;
}

void ckpt_pieces_clear(ckpt_pieces *pieces) {
    free(pieces->pieces);
    free(pieces->first_digest);
    free(pieces->digests[0]);
    *pieces = (ckpt_pieces){0};
}
