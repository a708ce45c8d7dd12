#include "digests.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
    char hex[MST_KIND_COUNT][MST_DIGEST_HEX], data[MST_DIGEST_HEX], text[1024];
    for (int kind = 0; kind < MST_KIND_COUNT; kind++) mst_digest_to_hex(&kinds[kind], hex[kind]);
    mst_digest_to_hex(&meta->data, data);
    int length = snprintf(text, sizeof text,
                          "muster state 1\nweights %s\nexp_avg %s\nexp_avg_sq %s\nstep %" PRIu64
                          "\nupdates %" PRIu64 "\nsamples %" PRIu64 "\ndata %s\n",
                          hex[MST_KIND_MASTER], hex[MST_KIND_EXP_AVG], hex[MST_KIND_EXP_AVG_SQ], meta->step,
                          meta->updates, meta->samples, data);
    return mst_digest_of(text, (size_t)length, state_out);
}

/* Between two reports: 64 MiB. */
enum { DIGEST_ELEMENTS = 4096 * MST_BLOCK };

static mst_status digest_piece(const mst_checkpoint_context *context, const float *data, uint64_t count,
                               mst_digest *digests_out) {
    mst_status status = MST_OK;
    for (uint64_t first = 0; first < count; first += DIGEST_ELEMENTS) {
        const uint64_t left = count - first;
        const mst_block_digest_args args = {.count = left < DIGEST_ELEMENTS ? left : DIGEST_ELEMENTS,
                                            .dtype = MST_F32,
                                            .data = data + first,
                                            .digest = digests_out + first / MST_BLOCK};
        MST_TRY(context->kernels->block_digest(context->queue, &args));
        MST_TRY(mst_queue_sync(context->queue));
        ckpt_report(context, false);
    }
done:
    return status;
}

mst_status ckpt_pieces_digest(const mst_checkpoint_context *context, const ckpt_pieces *pieces,
                              const mst_layout *layout, const mst_shard *shards) {
    mst_status status = MST_OK;
    for (int kind = 0; kind < MST_KIND_COUNT; kind++) {
        for (size_t i = 0; i < pieces->count; i++) {
            const ckpt_piece *piece = &pieces->pieces[i];
            const mst_shard *shard = &shards[layout->tensors[piece->tensor].unit];
            MST_TRY(digest_piece(context, ckpt_shard_data(shard, kind) + piece->at, piece->count,
                                 pieces->digests[kind] + pieces->first_digest[i]));
        }
    }
done:
    return status;
}

/* What rank 0 does with the digests of one tensor's blocks. */
typedef struct collector {
    const ckpt_file *file; /* NULL: digests.bin is not wanted */
    uint64_t bytes;        /* written */
    mst_hasher *kind, *whole;
} collector;

static mst_status collect(collector *to, const mst_tensor *tensor, const mst_digest *digests) {
    mst_status status = MST_OK;
    size_t bytes = ckpt_blocks(tensor->count) * sizeof *digests;
    MST_TRY(ckpt_kind_tensor(to->kind, tensor->name, tensor->dims, tensor->shape));
    MST_TRY(mst_hasher_update(to->kind, digests, bytes));
    MST_TRY(mst_hasher_update(to->whole, digests, bytes));
    if (to->file != NULL) MST_TRY(ckpt_file_write(to->file, digests, bytes, to->bytes));
    to->bytes += bytes;
done:
    return status;
}

/* Gathers the digests of one tensor's blocks on rank 0. Ranks hold consecutive blocks,
 * so rank order is block order. */
static mst_status gather_tensor(const mst_checkpoint_context *context, const mst_layout *layout,
                                size_t tensor, const mst_digest *mine, size_t *bytes_of, mst_digest *all) {
    int size = mst_comm_size(context->comm);
    for (int rank = 0; rank < size; rank++) {
        ckpt_piece piece;
        bool any = ckpt_piece_of_rank(layout, tensor, rank, size, &piece);
        bytes_of[rank] = any ? ckpt_blocks(piece.count) * sizeof(mst_digest) : 0;
    }
    return ckpt_gather(context, mine, bytes_of, all);
}

/* The collective loop: a rank that failed goes on taking part, and says so at the end. */
static mst_status gather_kinds(const mst_checkpoint_context *context, const mst_layout *layout,
                               const size_t *order, const ckpt_pieces *pieces, size_t *bytes_of,
                               mst_digest *all, collector *to, ckpt_sums *sums) {
    bool root = mst_comm_rank(context->comm) == 0;
    mst_status status = MST_OK;
    for (int kind = 0; kind < MST_KIND_COUNT; kind++) {
        if (root && status == MST_OK) status = ckpt_kind_begin(to->kind);
        for (size_t i = 0, mine = 0; i < layout->tensor_count; i++) {
            bool have = mine < pieces->count && pieces->pieces[mine].place == i;
            const mst_digest *digests = pieces->digests[kind] + pieces->first_digest[mine];
            mst_status gathered = gather_tensor(context, layout, order[i], digests, bytes_of, all);
            if (have) mine++;
            if (status == MST_OK) status = gathered;
            if (root && status == MST_OK) status = collect(to, &layout->tensors[order[i]], all);
        }
        if (root && status == MST_OK) status = mst_hasher_finish(to->kind, &sums->kinds[kind]);
    }
    return status;
}

mst_status ckpt_sums_gather(const mst_checkpoint_context *context, const mst_layout *layout,
                            const size_t *order, const ckpt_pieces *pieces, const mst_checkpoint_meta *meta,
                            const ckpt_file *file, ckpt_sums *sums_out) {
    mst_status status = MST_OK;
    bool root = mst_comm_rank(context->comm) == 0;
    ckpt_sums sums = {0};
    collector to = {.file = file};
    mst_digest *all = NULL;
    size_t most = 0;
    for (size_t i = 0; i < layout->tensor_count; i++) {
        size_t blocks = ckpt_blocks(layout->tensors[i].count);
        if (blocks > most) most = blocks;
    }
    size_t *bytes_of = calloc((size_t)mst_comm_size(context->comm), sizeof *bytes_of);
    if (root) all = calloc(most + 1, sizeof *all);
    if (bytes_of == NULL || (root && all == NULL))
        status = mst_error(MST_ENOMEM, "checkpoint: no memory to gather the digests of %zu blocks", most);
    if (root && status == MST_OK) status = mst_hasher_create(&to.kind);
    if (root && status == MST_OK) status = mst_hasher_create(&to.whole);
    status = ckpt_agree(context, status);
    if (status != MST_OK || bytes_of == NULL) goto done;

    status = gather_kinds(context, layout, order, pieces, bytes_of, all, &to, &sums);
    if (root && status == MST_OK) status = mst_hasher_finish(to.whole, &sums.file);
    if (root && status == MST_OK) status = ckpt_state_digest(sums.kinds, meta, &sums.state);
    sums.bytes = to.bytes;
    MST_TRY(ckpt_agree(context, status));
    MST_TRY(ckpt_broadcast(context, &sums, sizeof sums));
    *sums_out = sums;
done:
    mst_hasher_destroy(&to.kind);
    mst_hasher_destroy(&to.whole);
    free(all);
    free(bytes_of);
    return status;
}
