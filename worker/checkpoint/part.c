#include "part.h"

#include <stdlib.h>
#include <string.h>

#include "moments.h"

enum { PAGE = 4096, CHECK_BLOCKS = CKPT_CHECK_BYTES / (MST_BLOCK * (int)sizeof(float)) };

/* --- blocks, counted through the pieces of kind after kind --- */

/* Consecutive blocks of one piece. */
typedef struct run {
    mst_tensor_kind kind;
    const mst_tensor *tensor;
    size_t block, blocks; /* of the kind */
    uint64_t first;       /* element of the tensor */
    const void *stored;   /* [count] of type dtype */
    mst_dtype dtype;
    size_t count;
    uint64_t offset; /* in the file */
} run;

static size_t blocks_of_kind(const ckpt_part *p) {
    return p->pieces->first_digest[p->pieces->count];
}

static size_t all_blocks(const ckpt_part *p) {
    return MST_KIND_COUNT * blocks_of_kind(p);
}

/* The piece that has a block of its kind. */
static size_t piece_with(const ckpt_pieces *pieces, size_t block) {
    size_t low = 0, high = pieces->count;
    while (high - low > 1) {
        const size_t middle = low + (high - low) / 2;
        if (pieces->first_digest[middle] <= block)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* The first run of blocks [from, end). */
static run run_at(const ckpt_part *p, size_t from, size_t end) {
    const size_t of_kind = blocks_of_kind(p), kind = from / of_kind, block = from % of_kind,
                 i = piece_with(p->pieces, block), first_block = p->pieces->first_digest[i],
                 left = p->pieces->first_digest[i + 1] - block;
    const ckpt_piece *piece = &p->pieces->pieces[i];
    const size_t skipped = (block - first_block) * MST_BLOCK;
    run r = {.kind = (mst_tensor_kind)kind,
             .tensor = &p->layout->tensors[piece->tensor],
             .block = block,
             .blocks = end - from < left ? end - from : left,
             .first = piece->first + skipped,
             .offset = p->record->offsets[kind * p->pieces->count + i] + skipped * sizeof(float)};
    const size_t count = (size_t)piece->count - skipped;
    r.count = r.blocks * MST_BLOCK < count ? r.blocks * MST_BLOCK : count;
    const mst_shard *shard = &p->shards[r.tensor->unit];
    const char *data = ckpt_shard_data(shard, r.kind);
    r.dtype = ckpt_shard_dtype(shard, r.kind);
    r.stored = data + (piece->at + skipped) * mst_dtype_size(r.dtype);
    return r;
}

/* The run in fp32, as it is in the file: where it stands, or widened. @param wide [count] where bf16 is stored, else not used */
static const float *values_of(const run *r, float *wide) {
    if (r->dtype == MST_F32) return r->stored;
    for (size_t i = 0; i < r->count; i++) wide[i] = mst_bf16_to_f32(((const mst_bf16 *)r->stored)[i]);
    return wide;
}

/* Scratch memory of a thread that checks; behind the first CKPT_BUFFER bytes room for what it widens. */
static mst_status scratch_of(const ckpt_part *p, int thread, char **buffer_out) {
    mst_status status = MST_OK;
    const size_t bytes = CKPT_BUFFER + (p->wide ? CKPT_CHECK_BYTES : 0);
    *buffer_out = mst_queue_scratch(p->context->queue, thread, bytes);
    MST_CHECK(*buffer_out != NULL, MST_ENOMEM, "checkpoint: no memory for a buffer of %zu bytes", bytes);
done:
    return status;
}

static float *wide_of(char *buffer) {
    return (float *)(void *)(buffer + CKPT_BUFFER);
}

/* --- one writes --- */

mst_status ckpt_part_begin(ckpt_part *p, const char *folder, int rank) {
    mst_status status = MST_OK;
    char name[MST_FILE_NAME_MAX];
    p->file = CKPT_FILE_CLOSED(p->context);
    p->written = p->ended = false;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->moved, NULL);
    if (p->pieces->count == 0) return MST_OK;
    ckpt_part_name(rank, name);
    MST_TRY(ckpt_file_create(folder, name, &p->file));
    MST_TRY(ckpt_shard_make(&p->file, p->layout, p->pieces, p->record));
    ckpt_file_bypass(&p->file);
done:
    return status;
}

static void tell(ckpt_part *p, bool written) {
    pthread_mutex_lock(&p->lock);
    p->written = written;
    p->ended = true;
    pthread_cond_broadcast(&p->moved);
    pthread_mutex_unlock(&p->lock);
}

mst_status ckpt_part_write(ckpt_part *p) {
    mst_status status = MST_OK;
    if (p->pieces->count == 0) goto done; /* there is no file */
    for (size_t at = 0; at < all_blocks(p);) {
        const size_t end = p->wide && all_blocks(p) - at > CHECK_BLOCKS ? at + CHECK_BLOCKS : all_blocks(p);
        const run r = run_at(p, at, end);
        MST_TRY(ckpt_file_write(&p->file, values_of(&r, p->wide), r.count * sizeof(float), r.offset));
        at += r.blocks;
    }
    MST_TRY(ckpt_file_sync(&p->file));
    ckpt_file_forget(&p->file);
done:
    tell(p, status == MST_OK);
    return status;
}

/* --- others check --- */

/* False: it will not be. */
static bool wait_until_written(ckpt_part *p) {
    pthread_mutex_lock(&p->lock);
    while (!p->ended) pthread_cond_wait(&p->moved, &p->lock);
    const bool written = p->written;
    pthread_mutex_unlock(&p->lock);
    return written;
}

static size_t bytes_of_block(const run *r, size_t i) {
    const size_t left = r->count - i * MST_BLOCK;
    return (left < MST_BLOCK ? left : MST_BLOCK) * sizeof(float);
}

/* Of the block's bytes the first that differs from `found`: element of the tensor. @param wide as of values_of */
static uint64_t first_difference(const run *r, size_t i, const char *found, float *wide) {
    const char *written = (const char *)(values_of(r, wide) + i * MST_BLOCK);
    const size_t bytes = bytes_of_block(r, i);
    size_t at = 0;
    while (at + 1 < bytes && found[at] == written[at]) at++;
    return r->first + i * MST_BLOCK + at / sizeof(float);
}

/* By its checksums, so that what was written need not come through memory once more: training wants that, too.
 * @param buffer room for the run and a page before and behind it */
static mst_status compare_run(const ckpt_part *p, const run *r, char *buffer) {
    mst_status status = MST_OK;
    const size_t before = r->offset % PAGE;
    MST_TRY(ckpt_file_read_back(&p->file, buffer, before + r->count * sizeof(float), r->offset - before));
    for (size_t i = 0; i < r->blocks; i++) {
        const char *found = buffer + before + i * MST_BLOCK * sizeof(float);
        MST_CHECK(
            mst_checksum_of(found, bytes_of_block(r, i)) == p->pieces->checksums[r->kind][r->block + i],
            MST_EIO,
            "%s, read back, differs from what was written: %s of %s, element %llu; the disk or memory is "
            "failing",
            p->file.path, mst_tensor_kind_name(r->kind), r->tensor->name,
            (unsigned long long)first_difference(r, i, found, wide_of(buffer)));
    }
done:
    return status;
}

static mst_status hash_run(const ckpt_part *p, const run *r, float *wide) {
    mst_status status = MST_OK;
    const float *values = values_of(r, wide);
    for (size_t i = 0; i < r->blocks; i++) {
        const float *block = values + i * MST_BLOCK;
        MST_TRY(mst_digest_of(block, bytes_of_block(r, i), &p->pieces->digests[r->kind][r->block + i]));
        p->pieces->checksums[r->kind][r->block + i] = mst_checksum_of(block, bytes_of_block(r, i));
    }
done:
    return status;
}

static size_t checks(const ckpt_part *p) {
    return (all_blocks(p) + CHECK_BLOCKS - 1) / CHECK_BLOCKS;
}

static size_t end_of_check(const ckpt_part *p, size_t task) {
    const size_t end = (task + 1) * CHECK_BLOCKS;
    return end < all_blocks(p) ? end : all_blocks(p);
}

static mst_status hash_blocks(void *context, size_t task, int thread) {
    mst_status status = MST_OK;
    const ckpt_part *p = context;
    const size_t end = end_of_check(p, task);
    char *buffer;
    MST_TRY(scratch_of(p, thread, &buffer));
    for (size_t from = task * CHECK_BLOCKS; from < end;) {
        const run r = run_at(p, from, end);
        MST_TRY(hash_run(p, &r, wide_of(buffer)));
        from += r.blocks;
    }
done:
    ckpt_report(p->context, false);
    return status;
}

static mst_status compare_blocks(void *context, size_t task, int thread) {
    mst_status status = MST_OK;
    const ckpt_part *p = context;
    const size_t end = end_of_check(p, task);
    char *buffer;
    MST_TRY(scratch_of(p, thread, &buffer));
    for (size_t from = task * CHECK_BLOCKS; from < end;) {
        const run r = run_at(p, from, end);
        MST_TRY(compare_run(p, &r, buffer));
        from += r.blocks;
    }
done:
    ckpt_report(p->context, false);
    return status;
}

/* All are hashed, and then all compared. Reading back what is written while more is written was tried: the disk does not do both at
 * once, and the data was on it much later. */
mst_status ckpt_part_check(ckpt_part *p) {
    mst_status status = MST_OK;
    MST_TRY(mst_queue_for(p->context->queue, checks(p), hash_blocks, p));
    if (wait_until_written(p)) MST_TRY(mst_queue_for(p->context->queue, checks(p), compare_blocks, p));
done:
    return status;
}

/* --- the end --- */

static int compare_offsets(const void *left, const void *right) {
    uint64_t a = ((const mst_manifest_place *)left)->offset, b = ((const mst_manifest_place *)right)->offset;
    return (a > b) - (a < b);
}

/* HDF5's own structure is hashed for later checks. */
static mst_status hash_outside(ckpt_part *p) {
    mst_status status = MST_OK;
    const size_t count = MST_KIND_COUNT * p->pieces->count;
    mst_manifest_place *places = malloc(count * sizeof *places);
    MST_CHECK(places != NULL, MST_ENOMEM, "checkpoint: no memory for %zu places", count);
    for (size_t i = 0; i < count; i++)
        places[i] =
            (mst_manifest_place){.offset = p->record->offsets[i],
                                 .bytes = p->pieces->pieces[i % p->pieces->count].count * sizeof(float)};
    qsort(places, count, sizeof *places, compare_offsets);
    MST_TRY(ckpt_file_size(&p->file, &p->record->bytes));
    MST_TRY(ckpt_outside_digest(&p->file, p->record->bytes, places, count, &p->record->outside));
done:
    free(places);
    return status;
}

mst_status ckpt_part_end(ckpt_part *p, mst_status status) {
    if (status == MST_OK && p->pieces->count > 0) status = hash_outside(p);
    const mst_status closed = ckpt_file_close(&p->file);
    pthread_cond_destroy(&p->moved);
    pthread_mutex_destroy(&p->lock);
    return status != MST_OK ? status : closed;
}
