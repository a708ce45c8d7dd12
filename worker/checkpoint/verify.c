/* Every byte of a checkpoint: what a digest covers must have it, and nothing is without one. */
#include "verify.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "reader.h"

typedef struct verify {
    const mst_checkpoint_context *context;
    const char *path;
    char name[CKPT_PATH_MAX]; /* of the manifest's file */
    const mst_manifest *manifest;
    const ckpt_sink *sink;     /* NULL: nobody listens */
    float *buffer;             /* [PART_BLOCKS * MST_BLOCK] for the sink */
    void *digests, *checksums; /* digests.bin; checksums.bin or NULL */
    ckpt_reader *reader;
} verify;

enum { PART_BLOCKS = 256 }; /* that the sink gets at a time: 4 MiB */

/* model.h5 and tokenizer.json: one digest for the whole of each. */
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

/* digests.bin and checksums.bin: the same, and kept. */
static mst_status read_whole(const verify *v, const mst_manifest_file *expected, void **content_out) {
    mst_status status = MST_OK;
    ckpt_file file = CKPT_FILE_CLOSED(v->context);
    mst_digest found;
    MST_TRY(ckpt_part_open(v->path, v->manifest, expected, &file));
    MST_TRY(ckpt_part_check_size(&file, v->manifest, expected));
    void *content = *content_out = malloc(expected->bytes + 1);
    MST_CHECK(content != NULL, MST_ENOMEM, "%s: no memory for %" PRIu64 " bytes", file.path, expected->bytes);
    MST_TRY(ckpt_file_read(&file, content, expected->bytes, expected->offset));
    MST_TRY(mst_digest_of(content, expected->bytes, &found));
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

/* The blocks of one piece, some at a time, each time for the sink. */
static mst_status feed_piece(const verify *v, const mst_manifest_piece *piece, const mst_digest *digests,
                             const uint64_t *checksums) {
    mst_status status = MST_OK;
    const uint64_t most = (uint64_t)PART_BLOCKS * MST_BLOCK;
    for (uint64_t at = 0, some; at < piece->count; at += some) {
        some = piece->count - at < most ? piece->count - at : most;
        const size_t block = at / MST_BLOCK;
        MST_TRY(ckpt_reader_add(v->reader, piece, piece->first + at, some, v->buffer, digests + block,
                                checksums != NULL ? checksums + block : NULL));
        MST_TRY(ckpt_reader_finish(v->reader));
        MST_TRY(v->sink->put(v->sink->context, piece, piece->first + at, v->buffer, some, digests + block));
    }
done:
    return status;
}

static mst_status check_pieces(const verify *v, size_t kinds) {
    mst_status status = MST_OK;
    const mst_manifest *m = v->manifest;
    for (size_t i = 0; i < m->first_piece[kinds * m->tensor_count]; i++) {
        const mst_manifest_piece *piece = &m->pieces[i];
        const uint64_t number =
            piece->kind * m->blocks + m->tensors[piece->tensor].first_block + piece->first / MST_BLOCK;
        const mst_digest *digests = (const mst_digest *)v->digests + number;
        const uint64_t *checksums = v->checksums != NULL ? (const uint64_t *)v->checksums + number : NULL;
        if (v->sink != NULL)
            MST_TRY(feed_piece(v, piece, digests, checksums));
        else
            MST_TRY(ckpt_reader_add(v->reader, piece, piece->first, piece->count, NULL, digests, checksums));
    }
    MST_TRY(ckpt_reader_finish(v->reader));
done:
    return status;
}

/* The digest of a kind follows from those of its blocks. */
static mst_status check_kind(const verify *v, mst_tensor_kind kind, mst_hasher *hasher) {
    mst_status status = MST_OK;
    const mst_manifest *m = v->manifest;
    mst_digest found;
    MST_TRY(ckpt_kind_begin(hasher));
    for (size_t t = 0; t < m->tensor_count; t++) {
        const mst_manifest_tensor *tensor = &m->tensors[t];
        const mst_digest *digests = (const mst_digest *)v->digests + kind * m->blocks + tensor->first_block;
        MST_TRY(ckpt_kind_tensor(hasher, tensor->name, tensor->dims, tensor->shape));
        MST_TRY(mst_hasher_update(hasher, digests, ckpt_blocks(tensor->count) * sizeof *digests));
    }
    MST_TRY(mst_hasher_finish(hasher, &found));
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
    if (manifest.checksums.name[0] != '\0')
        MST_TRY(check_whole(&v, &manifest.digests)); /* loading took these */
    MST_TRY(check_rest(&v));
done:
    mst_manifest_clear(&manifest);
    return status;
}

mst_status ckpt_verify(const mst_checkpoint_context *context, const char *path, const mst_manifest *manifest,
                       size_t kinds, const ckpt_sink *sink) {
    mst_status status = MST_OK;
    const mst_manifest *m = manifest;
    verify v = {.context = context, .path = path, .manifest = m, .sink = sink};
    mst_hasher *hasher = NULL;
    MST_TRY(ckpt_manifest_name(path, v.name));
    MST_TRY(read_whole(&v, &m->digests, &v.digests));
    if (m->checksums.name[0] != '\0') MST_TRY(read_whole(&v, &m->checksums, &v.checksums));
    MST_TRY(check_rest(&v));
    if (sink != NULL) v.buffer = malloc((size_t)PART_BLOCKS * MST_BLOCK * sizeof *v.buffer);
    MST_CHECK(sink == NULL || v.buffer != NULL, MST_ENOMEM, "%s: no memory for %d blocks", path, PART_BLOCKS);
    MST_TRY(ckpt_reader_create(context, path, m, &v.reader));
    MST_TRY(check_pieces(&v, kinds));
    MST_TRY(mst_hasher_create(&hasher));
    for (size_t kind = 0; kind < kinds; kind++) MST_TRY(check_kind(&v, (mst_tensor_kind)kind, hasher));
    MST_TRY(ckpt_state_check(m, v.name));
done:
    mst_hasher_destroy(&hasher);
    ckpt_reader_destroy(&v.reader);
    free(v.buffer);
    free(v.digests);
    free(v.checksums);
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
