/* Every byte of a checkpoint: what a digest covers must have it, and nothing is without one. */
#include "verify.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef struct verify {
    const mst_checkpoint_context *context;
    const char *path;
    char name[CKPT_PATH_MAX]; /* of the manifest's file */
    const mst_manifest *manifest;
    const ckpt_sink *sink; /* NULL: nobody listens */
    ckpt_checker checker;
    ckpt_file digests; /* digests.bin */
    mst_hasher *hasher;
} verify;

/* digests.bin, model.h5 and tokenizer.json: one digest for the whole of each. */
static mst_status check_whole(const verify *v, const mst_manifest_file *expected) {
    mst_status status = MST_OK;
    ckpt_file file = CKPT_FILE_CLOSED(v->context);
    mst_digest found;
    MST_TRY(ckpt_part_open(v->path, v->manifest, expected, &file));
    MST_TRY(ckpt_part_check_size(&file, v->manifest, expected));
    MST_TRY(ckpt_file_digest(&file, expected->offset, expected->bytes, &found));
    MST_CHECK(memcmp(&found, &expected->digest, sizeof found) == 0, MST_EFORMAT,
              "%s is damaged: the SHA-256 of %s is not the manifest's", file.path, expected->name);
done:
    if (file.fd >= 0) ckpt_system.close(file.fd);
    return status;
}

/* A shard file's size, and all its bytes that have no other digest. */
static mst_status check_outside(const verify *v, const mst_manifest_file *shard,
                                const mst_manifest_place *places, size_t count) {
    mst_status status = MST_OK;
    ckpt_file file = CKPT_FILE_CLOSED(v->context);
    mst_digest found;
    MST_TRY(ckpt_part_open(v->path, v->manifest, shard, &file));
    MST_TRY(ckpt_part_check_size(&file, v->manifest, shard));
    MST_TRY(ckpt_outside_digest(&file, shard->bytes, places, count, &found));
    MST_CHECK(memcmp(&found, &shard->digest, sizeof found) == 0, MST_EFORMAT,
              "%s is damaged: its HDF5 structure does not have the manifest's SHA-256", file.path);
done:
    if (file.fd >= 0) ckpt_system.close(file.fd);
    return status;
}

static mst_status check_shards(const verify *v) {
    mst_status status = MST_OK;
    const mst_manifest *m = v->manifest;
    size_t first = 0;
    for (size_t shard = 0; shard < m->shard_count; shard++) {
        size_t end = first;
        while (end < m->place_count && m->places[end].shard == shard) end++;
        MST_TRY(check_outside(v, &m->shards[shard], m->places + first, end - first));
        first = end;
    }
done:
    return status;
}

/* The blocks of one piece against digests.bin, whose digests go into the kind's. */
static mst_status check_piece(verify *v, const mst_manifest_piece *piece) {
    mst_status status = MST_OK;
    const mst_manifest *m = v->manifest;
    const mst_manifest_tensor *tensor = &m->tensors[piece->tensor];
    ckpt_file file = CKPT_FILE_CLOSED(v->context);
    mst_digest expected[CKPT_CHECK_BLOCKS];
    const size_t blocks = ckpt_blocks(piece->count);
    uint64_t number = piece->kind * m->blocks + tensor->first_block + piece->first / MST_BLOCK;
    MST_TRY(ckpt_part_open(v->path, m, &m->shards[piece->shard], &file));
    for (size_t block = 0, some; block < blocks; block += some) {
        some = blocks - block < CKPT_CHECK_BLOCKS ? blocks - block : CKPT_CHECK_BLOCKS;
        uint64_t at = (uint64_t)block * MST_BLOCK, left = piece->count - at,
                 full = (uint64_t)some * MST_BLOCK, count = left < full ? left : full;
        size_t bad;
        MST_TRY(ckpt_file_read(&v->digests, expected, some * sizeof *expected,
                               m->digests.offset + (number + block) * sizeof *expected));
        MST_TRY(mst_hasher_update(v->hasher, expected, some * sizeof *expected));
        MST_TRY(ckpt_checker_stored(&v->checker, &file, piece->offset + at * 4, count, expected, &bad));
        MST_CHECK(bad == some, MST_EFORMAT,
                  "%s is damaged: %s of %s, elements from %" PRIu64 " on do not have their digest", file.path,
                  mst_tensor_kind_name(piece->kind), tensor->name,
                  piece->first + at + (uint64_t)bad * MST_BLOCK);
        if (v->sink != NULL)
            MST_TRY(
                v->sink->put(v->sink->context, piece, piece->first + at, v->checker.buffer, count, expected));
    }
done:
    if (file.fd >= 0) ckpt_system.close(file.fd);
    return status;
}

static mst_status check_kind(verify *v, mst_tensor_kind kind) {
    mst_status status = MST_OK;
    const mst_manifest *m = v->manifest;
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
              "%s is wrong: its digest of %s is not that of the tensors", v->name,
              mst_tensor_kind_name(kind));
done:
    return status;
}

/* What training does not read. */
static mst_status check_rest(const verify *v) {
    mst_status status = MST_OK;
    const mst_manifest *m = v->manifest;
    if (m->model.name[0] != '\0') MST_TRY(check_whole(v, &m->model));
    if (m->tokenizer.name[0] != '\0') MST_TRY(check_whole(v, &m->tokenizer));
    MST_TRY(check_shards(v));
done:
    return status;
}

mst_status mst_checkpoint_verify_rest(const mst_checkpoint_context *context, const char *path) {
    mst_status status = MST_OK;
    mst_manifest manifest;
    verify v = {.context = context, .path = path, .manifest = &manifest};
    MST_TRY(mst_manifest_read(path, &manifest));
    MST_TRY(ckpt_manifest_name(path, v.name));
    MST_TRY(check_rest(&v));
done:
    mst_manifest_clear(&manifest);
    return status;
}

mst_status ckpt_verify(const mst_checkpoint_context *context, const char *path, const mst_manifest *manifest,
                       size_t kinds, const ckpt_sink *sink) {
    mst_status status = MST_OK;
    const mst_manifest *m = manifest;
    verify v = {
        .context = context, .path = path, .manifest = m, .sink = sink, .digests = CKPT_FILE_CLOSED(context)};
    mst_digest state;
    MST_TRY(ckpt_manifest_name(path, v.name));
    MST_TRY(check_whole(&v, &m->digests));
    MST_TRY(check_rest(&v));
    MST_TRY(ckpt_checker_create(context, &v.checker));
    MST_TRY(mst_hasher_create(&v.hasher));
    MST_TRY(ckpt_part_open(path, m, &m->digests, &v.digests));
    for (size_t kind = 0; kind < kinds; kind++) MST_TRY(check_kind(&v, (mst_tensor_kind)kind));
    MST_TRY(ckpt_state_digest(m->kinds, &m->meta, &state));
    MST_CHECK(memcmp(&state, &m->state, sizeof state) == 0, MST_EFORMAT,
              "%s is wrong: its state digest does not follow from the tensors and counters", v.name);
done:
    if (v.digests.fd >= 0) ckpt_system.close(v.digests.fd);
    mst_hasher_destroy(&v.hasher);
    ckpt_checker_clear(&v.checker);
    return status;
}

mst_status mst_checkpoint_verify(const mst_checkpoint_context *context, const char *path,
                                 mst_checkpoint_digests *digests_out) {
    mst_status status = MST_OK;
    mst_manifest manifest;
    MST_TRY(mst_manifest_read(path, &manifest));
    MST_TRY(ckpt_verify(context, path, &manifest, mst_manifest_kinds(&manifest), NULL));
    *digests_out = (mst_checkpoint_digests){manifest.kinds[MST_KIND_MASTER], manifest.state};
done:
    mst_manifest_clear(&manifest);
    return status;
}
