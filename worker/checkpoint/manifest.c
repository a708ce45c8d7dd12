/* The manifest as a whole: does every element of every tensor stand in exactly one place? */
#include "manifest.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "pieces.h"

const char *mst_tensor_kind_name(mst_tensor_kind kind) {
    static const char *const names[] = {"master", "exp_avg", "exp_avg_sq"};
    return kind < MST_KIND_COUNT ? names[kind] : "unknown";
}

void mst_checkpoint_meta_clear(mst_checkpoint_meta *meta) {
    free(meta->run_id);
    free(meta->device_class);
    free(meta->config);
    free(meta->versions);
    *meta = (mst_checkpoint_meta){0};
}

void mst_manifest_clear(mst_manifest *manifest) {
    mst_checkpoint_meta_clear(&manifest->meta);
    free(manifest->shards);
    free(manifest->tensors);
    free(manifest->pieces);
    free(manifest->first_piece);
    free(manifest->by_place);
    *manifest = (mst_manifest){0};
}

mst_status ckpt_manifest_check_size(const ckpt_file *file, const mst_manifest_file *expected) {
    uint64_t bytes;
    mst_status status = ckpt_file_size(file, &bytes);
    if (status == MST_OK && bytes != expected->bytes)
        status = mst_error(MST_EFORMAT, "%s is damaged: it has %" PRIu64 " bytes, the manifest says %" PRIu64,
                           file->path, bytes, expected->bytes);
    return status;
}

/* Of a whole model; far from overflow when multiplied by sizes. */
static const uint64_t most_blocks = (uint64_t)1 << 48;

static mst_status number_blocks(mst_manifest *manifest, const char *name) {
    manifest->blocks = 0;
    for (size_t i = 0; i < manifest->tensor_count; i++) {
        mst_manifest_tensor *tensor = &manifest->tensors[i];
        if (i > 0 && strcmp(tensor[-1].name, tensor->name) >= 0)
            return mst_error(MST_EFORMAT, "%s: tensors[%zu].name: '%s' does not come after '%s'", name, i,
                             tensor->name, tensor[-1].name);
        tensor->first_block = manifest->blocks;
        manifest->blocks += ckpt_blocks(tensor->count);
        if (manifest->blocks > most_blocks)
            return mst_error(MST_EFORMAT, "%s: tensors[%zu]: together they are too large", name, i);
    }
    uint64_t bytes = MST_KIND_COUNT * manifest->blocks * MST_DIGEST_BYTES;
    if (manifest->digests.bytes != bytes)
        return mst_error(MST_EFORMAT, "%s: block_digests.bytes: %llu are given, the tensors need %llu", name,
                         (unsigned long long)manifest->digests.bytes, (unsigned long long)bytes);
    return MST_OK;
}

/* Every tensor of every kind, element by element, in the order in which pieces must stand. */
static mst_status check_cover(mst_manifest *manifest, const char *name) {
    size_t next = 0, slots = MST_KIND_COUNT * manifest->tensor_count;
    for (size_t slot = 0; slot < slots; slot++) {
        size_t kind = slot / manifest->tensor_count, number = slot % manifest->tensor_count;
        const mst_manifest_tensor *tensor = &manifest->tensors[number];
        manifest->first_piece[slot] = next;
        uint64_t covered = 0;
        while (covered < tensor->count) {
            const mst_manifest_piece *piece = &manifest->pieces[next];
            if (next == manifest->piece_count || piece->kind != kind || piece->tensor != number ||
                piece->first != covered)
                return mst_error(MST_EFORMAT, "%s: pieces: element %llu of %s of %s stands nowhere", name,
                                 (unsigned long long)covered, mst_tensor_kind_name((mst_tensor_kind)kind),
                                 tensor->name);
            uint64_t left = tensor->count - covered;
            if (piece->count == 0 || piece->count > left ||
                (piece->count % MST_BLOCK != 0 && piece->count != left))
                return mst_error(
                    MST_EFORMAT, "%s: pieces[%zu].count: %llu of %s are not whole blocks of %llu elements",
                    name, next, (unsigned long long)piece->count, tensor->name, (unsigned long long)left);
            covered += piece->count;
            next++;
        }
    }
    manifest->first_piece[slots] = next;
    if (next != manifest->piece_count)
        return mst_error(MST_EFORMAT, "%s: pieces[%zu]: all tensors are already covered", name, next);
    return MST_OK;
}

static int compare_places(const void *left, const void *right, void *context) {
    const mst_manifest_piece *pieces = context, *a = &pieces[*(const size_t *)left],
                             *b = &pieces[*(const size_t *)right];
    if (a->shard != b->shard) return (a->shard > b->shard) - (a->shard < b->shard);
    return (a->offset > b->offset) - (a->offset < b->offset);
}

static mst_status check_places(mst_manifest *manifest, const char *name) {
    for (size_t i = 0; i < manifest->piece_count; i++) manifest->by_place[i] = i;
    qsort_r(manifest->by_place, manifest->piece_count, sizeof *manifest->by_place, compare_places,
            manifest->pieces);
    const mst_manifest_piece *before = NULL;
    for (size_t i = 0; i < manifest->piece_count; i++) {
        const mst_manifest_piece *piece = &manifest->pieces[manifest->by_place[i]];
        const mst_manifest_file *shard = &manifest->shards[piece->shard];
        if (piece->offset > shard->bytes || piece->count > (shard->bytes - piece->offset) / 4)
            return mst_error(MST_EFORMAT, "%s: pieces[%zu]: lies beyond the end of %s", name,
                             manifest->by_place[i], shard->name);
        if (before != NULL && before->shard == piece->shard &&
            before->offset + before->count * 4 > piece->offset)
            return mst_error(MST_EFORMAT, "%s: pieces[%zu]: overlaps another piece in %s", name,
                             manifest->by_place[i], shard->name);
        before = piece;
    }
    return MST_OK;
}

mst_status ckpt_manifest_index(mst_manifest *manifest, const char *name) {
    mst_status status = MST_OK;
    manifest->first_piece =
        calloc(MST_KIND_COUNT * manifest->tensor_count + 1, sizeof *manifest->first_piece);
    manifest->by_place = calloc(manifest->piece_count + 1, sizeof *manifest->by_place);
    MST_CHECK(manifest->first_piece != NULL && manifest->by_place != NULL, MST_ENOMEM,
              "%s: no memory for %zu pieces", name, manifest->piece_count);
    MST_TRY(number_blocks(manifest, name));
    MST_TRY(check_cover(manifest, name));
    MST_TRY(check_places(manifest, name));
done:
    return status;
}
