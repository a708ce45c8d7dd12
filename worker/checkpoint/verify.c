/* Every byte of a checkpoint: what a digest covers must have it, and nothing is without one. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "digests.h"
#include "manifest.h"

typedef struct verify {
    const mst_checkpoint_context *context;
    const char *path;
    mst_manifest manifest;
    ckpt_checker checker;
    ckpt_file digests; /* digests.bin */
    mst_hasher *hasher;
} verify;

/* digests.bin, model.h5 and tokenizer.json: one digest for the whole file. */
static mst_status check_whole(const verify *v, const mst_manifest_file *expected) {
    mst_status status = MST_OK;
    ckpt_file file = CKPT_FILE_CLOSED(v->context);
    mst_digest found;
    MST_TRY(ckpt_file_open(v->path, expected->name, &file));
    MST_TRY(ckpt_manifest_check_size(&file, expected));
    MST_TRY(ckpt_file_digest(&file, expected->bytes, &found));
    MST_CHECK(memcmp(&found, &expected->digest, sizeof found) == 0, MST_EFORMAT,
              "%s is damaged: its SHA-256 is not the manifest's", file.path);
done:
    if (file.fd >= 0) ckpt_system.close(file.fd);
    return status;
}

/* A shard file's size, and all its bytes that are not elements of tensors.
 * pieces: numbers in by_place, [count]. */
static mst_status check_outside(const verify *v, const mst_manifest_file *shard, const size_t *pieces,
                                size_t count) {
    mst_status status = MST_OK;
    ckpt_file file = CKPT_FILE_CLOSED(v->context);
    mst_digest found;
    ckpt_extent *extents = malloc((count + 1) * sizeof *extents);
    MST_CHECK(extents != NULL, MST_ENOMEM, "verify: no memory for %zu extents", count);
    for (size_t i = 0; i < count; i++) {
        const mst_manifest_piece *piece = &v->manifest.pieces[pieces[i]];
        extents[i] = (ckpt_extent){piece->offset, piece->count * 4};
    }
    MST_TRY(ckpt_file_open(v->path, shard->name, &file));
    MST_TRY(ckpt_manifest_check_size(&file, shard));
    MST_TRY(ckpt_outside_digest(&file, shard->bytes, extents, count, &found));
    MST_CHECK(memcmp(&found, &shard->digest, sizeof found) == 0, MST_EFORMAT,
              "%s is damaged: its HDF5 structure does not have the manifest's SHA-256", file.path);
done:
    if (file.fd >= 0) ckpt_system.close(file.fd);
    free(extents);
    return status;
}

static mst_status check_shards(const verify *v) {
    mst_status status = MST_OK;
    const mst_manifest *m = &v->manifest;
    size_t first = 0;
    for (size_t shard = 0; shard < m->shard_count; shard++) {
        size_t end = first;
        while (end < m->piece_count && m->pieces[m->by_place[end]].shard == shard) end++;
        MST_TRY(check_outside(v, &m->shards[shard], m->by_place + first, end - first));
        first = end;
    }
done:
    return status;
}

/* The blocks of one piece against digests.bin, whose digests go into the kind's. */
static mst_status check_piece(verify *v, const mst_manifest_piece *piece) {
    mst_status status = MST_OK;
    const mst_manifest_tensor *tensor = &v->manifest.tensors[piece->tensor];
    ckpt_file file = CKPT_FILE_CLOSED(v->context);
    mst_digest expected[CKPT_CHECK_BLOCKS];
    const size_t blocks = ckpt_blocks(piece->count);
    uint64_t number = piece->kind * v->manifest.blocks + tensor->first_block + piece->first / MST_BLOCK;
    MST_TRY(ckpt_file_open(v->path, v->manifest.shards[piece->shard].name, &file));
    for (size_t block = 0, some; block < blocks; block += some) {
        some = blocks - block < CKPT_CHECK_BLOCKS ? blocks - block : CKPT_CHECK_BLOCKS;
        uint64_t at = (uint64_t)block * MST_BLOCK, left = piece->count - at,
                 full = (uint64_t)some * MST_BLOCK;
        size_t bad;
        MST_TRY(ckpt_file_read(&v->digests, expected, some * sizeof *expected,
                               (number + block) * sizeof *expected));
        MST_TRY(mst_hasher_update(v->hasher, expected, some * sizeof *expected));
        MST_TRY(ckpt_checker_stored(&v->checker, &file, piece->offset + at * 4, left < full ? left : full,
                                    expected, &bad));
        MST_CHECK(bad == some, MST_EFORMAT,
                  "%s is damaged: %s of %s, elements from %" PRIu64 " on do not have their digest", file.path,
                  mst_tensor_kind_name(piece->kind), tensor->name,
                  piece->first + at + (uint64_t)bad * MST_BLOCK);
    }
done:
    if (file.fd >= 0) ckpt_system.close(file.fd);
    return status;
}

static mst_status check_kind(verify *v, mst_tensor_kind kind) {
    mst_status status = MST_OK;
    const mst_manifest *m = &v->manifest;
    mst_digest found;
    MST_TRY(ckpt_kind_begin(v->hasher));
    for (size_t t = 0; t < m->tensor_count; t++) {
        const mst_manifest_tensor *tensor = &m->tensors[t];
        const size_t *range = &m->first_piece[kind * m->tensor_count + t];
        MST_TRY(ckpt_kind_tensor(v->hasher, tensor->name, tensor->dims, tensor->shape));
        for (size_t i = range[0]; i < range[1]; i++) MST_TRY(check_piece(v, &m->pieces[i]));
    }
    MST_TRY(mst_hasher_finish(v->hasher, &found));
    MST_CHECK(memcmp(&found, &m->kinds[kind], sizeof found) == 0, MST_EFORMAT,
              "%s/manifest.json is wrong: its digest of %s is not that of the tensors", v->path,
              mst_tensor_kind_name(kind));
done:
    return status;
}

mst_status mst_checkpoint_verify(const mst_checkpoint_context *context, const char *path,
                                 mst_checkpoint_digests *digests_out) {
    mst_status status = MST_OK;
    verify v = {.context = context, .path = path, .digests = CKPT_FILE_CLOSED(context)};
    mst_digest state;
    MST_TRY(mst_manifest_read(path, &v.manifest));
    MST_TRY(check_whole(&v, &v.manifest.digests));
    MST_TRY(check_whole(&v, &v.manifest.model));
    if (v.manifest.tokenizer.name[0] != '\0') MST_TRY(check_whole(&v, &v.manifest.tokenizer));
    MST_TRY(check_shards(&v));
    MST_TRY(ckpt_checker_create(context, &v.checker));
    MST_TRY(mst_hasher_create(&v.hasher));
    MST_TRY(ckpt_file_open(path, v.manifest.digests.name, &v.digests));
    for (int kind = 0; kind < MST_KIND_COUNT; kind++) MST_TRY(check_kind(&v, (mst_tensor_kind)kind));
    MST_TRY(ckpt_state_digest(v.manifest.kinds, &v.manifest.meta, &state));
    MST_CHECK(memcmp(&state, &v.manifest.state, sizeof state) == 0, MST_EFORMAT,
              "%s/manifest.json is wrong: its state digest does not follow from the tensors and counters",
              path);
    *digests_out = (mst_checkpoint_digests){v.manifest.kinds[MST_KIND_MASTER], state};
done:
    if (v.digests.fd >= 0) ckpt_system.close(v.digests.fd);
    mst_hasher_destroy(&v.hasher);
    ckpt_checker_clear(&v.checker);
    mst_manifest_clear(&v.manifest);
    return status;
}
