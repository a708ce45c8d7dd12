#include "digests.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "moments.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "checkpoints hold little-endian numbers, unconverted");

mst_status ckpt_kind_begin(mst_hasher *hasher) {
    static const char head[] = "muster tensors 1\n";
    return mst_hasher_update(hasher, head, sizeof head - 1);
}

mst_status ckpt_kind_tensor(mst_hasher *hasher, const char *name, size_t dims, const size_t shape[2]) {
    char line[MST_NAME_MAX + 64];
    int length = dims == 1 ? snprintf(line, sizeof line, "%s f32 %zu\n", name, shape[0])
                           : snprintf(line, sizeof line, "%s f32 %zu %zu\n", name, shape[0], shape[1]);
    return mst_hasher_update(hasher, line, (size_t)length);
}

mst_status ckpt_state_digest(const mst_digest kinds[MST_KIND_COUNT], const mst_checkpoint_meta *meta,
                             mst_digest *state_out) {
    char hex[MST_KIND_COUNT][MST_DIGEST_HEX], data[MST_DIGEST_HEX], base[MST_DIGEST_HEX], text[1024];
    for (int kind = 0; kind < MST_KIND_COUNT; kind++) mst_digest_to_hex(&kinds[kind], hex[kind]);
    mst_digest_to_hex(&meta->data, data);
    int length = snprintf(text, sizeof text,
                          "muster state 1\nweights %s\nexp_avg %s\nexp_avg_sq %s\nstep %" PRIu64
                          "\nupdates %" PRIu64 "\nsamples %" PRIu64 "\ndata %s\n",
                          hex[MST_KIND_MASTER], hex[MST_KIND_EXP_AVG], hex[MST_KIND_EXP_AVG_SQ], meta->step,
                          meta->updates, meta->samples, data);
    mst_digest_to_hex(&meta->base, base);
    if (meta->has_base) length += snprintf(text + length, sizeof text - (size_t)length, "base %s\n", base);
    return mst_digest_of(text, (size_t)length, state_out);
}

mst_status ckpt_state_check(const mst_manifest *manifest, const char *name) {
    mst_digest state;
    mst_status status = ckpt_state_digest(manifest->kinds, &manifest->meta, &state);
    if (status != MST_OK || memcmp(&state, &manifest->state, sizeof state) == 0) return status;
    return mst_error(MST_EFORMAT,
                     "%s is wrong: its state digest does not follow from the tensors and counters", name);
}

/* Between two reports: 64 MiB. */
enum { DIGEST_ELEMENTS = 4096 * MST_BLOCK };

static mst_status digest_piece(const mst_checkpoint_context *context, const float *data, uint64_t count,
                               mst_digest *digests_out, uint64_t *checksums_out) {
    mst_status status = MST_OK;
    for (uint64_t first = 0; first < count; first += DIGEST_ELEMENTS) {
        const uint64_t left = count - first;
        const mst_block_digest_args args = {.count = left < DIGEST_ELEMENTS ? left : DIGEST_ELEMENTS,
                                            .dtype = MST_F32,
                                            .data = data + first,
                                            .digest = digests_out + first / MST_BLOCK,
                                            .checksum = checksums_out + first / MST_BLOCK};
        MST_TRY(context->kernels->block_digest(context->queue, &args));
        MST_TRY(mst_queue_sync(context->queue));
        ckpt_report(context, false);
    }
done:
    return status;
}

enum { WIDENED = 256 * MST_BLOCK }; /* elements that are widened for their digests at a time */

/* Of bf16 data: the digests of the same values in fp32. @param wide [WIDENED] in the device's memory */
static mst_status digest_narrow(const mst_checkpoint_context *context, const mst_bf16 *data, uint64_t count,
                                float *wide, mst_digest *digests_out, uint64_t *checksums_out) {
    mst_status status = MST_OK;
    for (uint64_t first = 0; first < count; first += WIDENED) {
        const uint64_t left = count - first;
        const mst_cast_args cast = {.count = left < WIDENED ? left : WIDENED,
                                    .source = data + first,
                                    .source_dtype = MST_BF16,
                                    .result = wide,
                                    .result_dtype = MST_F32};
        MST_TRY(context->kernels->cast(context->queue, &cast));
        MST_TRY(digest_piece(context, wide, cast.count, digests_out + first / MST_BLOCK,
                             checksums_out + first / MST_BLOCK));
    }
done:
    return status;
}

mst_status ckpt_pieces_digest(const mst_checkpoint_context *context, const ckpt_pieces *pieces,
                              const mst_layout *layout, const mst_shard *shards) {
    mst_status status = MST_OK;
    void *wide = NULL;
    if (ckpt_is_narrow(layout, shards))
        MST_TRY(mst_memory_alloc(MST_SPACE_DEVICE, WIDENED * sizeof(float), &wide));
    for (int kind = 0; kind < MST_KIND_COUNT; kind++) {
        for (size_t i = 0; i < pieces->count; i++) {
            const ckpt_piece *piece = &pieces->pieces[i];
            const mst_shard *shard = &shards[layout->tensors[piece->tensor].unit];
            const void *data = ckpt_shard_data(shard, kind);
            mst_digest *digests = pieces->digests[kind] + pieces->first_digest[i];
            uint64_t *checksums = pieces->checksums[kind] + pieces->first_digest[i];
            if (ckpt_shard_dtype(shard, kind) == MST_F32)
                MST_TRY(
                    digest_piece(context, (const float *)data + piece->at, piece->count, digests, checksums));
            else
                MST_TRY(digest_narrow(context, (const mst_bf16 *)data + piece->at, piece->count, wide,
                                      digests, checksums));
        }
    }
done:
    mst_memory_free(MST_SPACE_DEVICE, &wide);
    return status;
}

/* --- of all ranks --- */

size_t ckpt_sum_bytes_of_rank(const mst_layout *layout, int rank, int size) {
    size_t sum = 0;
    for (size_t u = 0; u < layout->unit_count; u++) {
        size_t first, blocks;
        mst_shard_range(&layout->units[u], rank, size, &first, &blocks);
        sum += blocks;
    }
    return MST_KIND_COUNT * sum * CKPT_SUM_BYTES;
}

mst_status ckpt_gathering_create(const mst_layout *layout, int rank, int size,
                                 ckpt_gathering *gathering_out) {
    mst_status status = MST_OK;
    ckpt_gathering g = {.size = size};
    const size_t blocks = MST_KIND_COUNT * layout->blocks;
    g.bytes_of = calloc((size_t)size, sizeof *g.bytes_of);
    g.next = calloc((size_t)size, sizeof *g.next);
    if (rank == 0) g.all = calloc(blocks + 1, CKPT_SUM_BYTES);
    MST_CHECK(g.bytes_of != NULL && g.next != NULL && (rank != 0 || g.all != NULL), MST_ENOMEM,
              "checkpoint: no memory for the digests of %zu blocks", blocks);
    for (int r = 0; r < size; r++) g.bytes_of[r] = ckpt_sum_bytes_of_rank(layout, r, size);
    *gathering_out = g;
    g = (ckpt_gathering){0};
done:
    ckpt_gathering_clear(&g);
    return status;
}

void ckpt_gathering_clear(ckpt_gathering *gathering) {
    free(gathering->bytes_of);
    free(gathering->next);
    free(gathering->all);
    *gathering = (ckpt_gathering){0};
}

mst_status ckpt_gathering_receive(const mst_checkpoint_context *context, const ckpt_pieces *pieces,
                                  const ckpt_gathering *gathering) {
    return ckpt_gather(context, pieces->digests[0], gathering->bytes_of, gathering->all);
}

/* A file that entries of all blocks go into, in their order. */
typedef struct sum_file {
    const ckpt_file *file; /* NULL: it is not wanted */
    uint64_t bytes;        /* written */
    mst_hasher *hasher;
} sum_file;

static mst_status append(sum_file *to, const void *entries, size_t bytes) {
    mst_status status = MST_OK;
    MST_TRY(mst_hasher_update(to->hasher, entries, bytes));
    if (to->file != NULL) MST_TRY(ckpt_file_write(to->file, entries, bytes, to->bytes));
    to->bytes += bytes;
done:
    return status;
}

typedef struct collector {
    sum_file digests, checksums;
    mst_hasher *kind;
} collector;

/* One tensor: ranks hold consecutive blocks of it, so rank order is block order. */
static mst_status collect_tensor(collector *to, const mst_layout *layout, size_t number,
                                 ckpt_gathering *from) {
    mst_status status = MST_OK;
    const mst_tensor *tensor = &layout->tensors[number];
    MST_TRY(ckpt_kind_tensor(to->kind, tensor->name, tensor->dims, tensor->shape));
    for (int rank = 0; rank < from->size; rank++) {
        ckpt_piece piece;
        if (!ckpt_piece_of_rank(layout, number, rank, from->size, &piece)) continue;
        const size_t blocks = mst_blocks_of(piece.count);
        ckpt_next *next = &from->next[rank];
        MST_TRY(mst_hasher_update(to->kind, next->digest, blocks * sizeof *next->digest));
        MST_TRY(append(&to->digests, next->digest, blocks * sizeof *next->digest));
        MST_TRY(append(&to->checksums, next->checksum, blocks * sizeof *next->checksum));
        next->digest += blocks;
        next->checksum += blocks;
    }
done:
    return status;
}

/* The first block of each rank. */
static void find_next(const ckpt_gathering *gathering) {
    const char *at = (const char *)gathering->all;
    for (int rank = 0; rank < gathering->size; rank++) {
        const size_t blocks = gathering->bytes_of[rank] / CKPT_SUM_BYTES;
        const mst_digest *digests = (const mst_digest *)(const void *)at;
        gathering->next[rank] = (ckpt_next){digests, (const uint64_t *)(const void *)(digests + blocks)};
        at += gathering->bytes_of[rank];
    }
}

mst_status ckpt_gathering_sums(const mst_checkpoint_context *context, const mst_layout *layout,
                               const size_t *order, ckpt_gathering *gathering,
                               const mst_checkpoint_meta *meta, const ckpt_file *digests,
                               const ckpt_file *checksums, ckpt_sums *sums_out) {
    mst_status status = MST_OK;
    ckpt_sums sums = {0};
    collector to = {.digests = {.file = digests}, .checksums = {.file = checksums}};
    find_next(gathering);
    MST_TRY(mst_hasher_create(&to.kind));
    MST_TRY(mst_hasher_create(&to.digests.hasher));
    MST_TRY(mst_hasher_create(&to.checksums.hasher));
    for (int kind = 0; kind < MST_KIND_COUNT; kind++) {
        MST_TRY(ckpt_kind_begin(to.kind));
        for (size_t i = 0; i < layout->tensor_count; i++) {
            MST_TRY(collect_tensor(&to, layout, order[i], gathering));
            ckpt_report(context, false);
        }
        MST_TRY(mst_hasher_finish(to.kind, &sums.kinds[kind]));
    }
    MST_TRY(mst_hasher_finish(to.digests.hasher, &sums.digests));
    MST_TRY(mst_hasher_finish(to.checksums.hasher, &sums.checksums));
    MST_TRY(ckpt_state_digest(sums.kinds, meta, &sums.state));
    sums.blocks = to.checksums.bytes / sizeof(uint64_t);
    *sums_out = sums;
done:
    mst_hasher_destroy(&to.kind);
    mst_hasher_destroy(&to.digests.hasher);
    mst_hasher_destroy(&to.checksums.hasher);
    return status;
}

/* --- without saving --- */

mst_status mst_checkpoint_digest(const mst_checkpoint_context *context, const mst_layout *layout,
                                 const mst_shard *shards, const mst_checkpoint_meta *meta,
                                 mst_checkpoint_digests *digests_out) {
    mst_status status = MST_OK;
    const int rank = mst_comm_rank(context->comm), size = mst_comm_size(context->comm);
    size_t *order = NULL;
    ckpt_pieces pieces = {0};
    ckpt_gathering gathering = {0};
    ckpt_sums sums = {0};
    status = ckpt_check_ranges(layout, shards, rank, size);
    if (status == MST_OK) status = ckpt_name_order(layout, &order);
    if (status == MST_OK) status = ckpt_pieces_list(layout, order, shards, &pieces);
    if (status == MST_OK) status = ckpt_pieces_digest(context, &pieces, layout, shards);
    if (status == MST_OK) status = ckpt_gathering_create(layout, rank, size, &gathering);
    MST_TRY(ckpt_agree(context, status));
    status = ckpt_gathering_receive(context, &pieces, &gathering);
    if (status == MST_OK && rank == 0)
        status = ckpt_gathering_sums(context, layout, order, &gathering, meta, NULL, NULL, &sums);
    MST_TRY(ckpt_agree(context, status));
    MST_TRY(ckpt_broadcast(context, &sums, sizeof sums));
    *digests_out = (mst_checkpoint_digests){sums.kinds[MST_KIND_MASTER], sums.state};
done:
    ckpt_gathering_clear(&gathering);
    ckpt_pieces_clear(&pieces);
    free(order);
    return status;
}
