/* Every byte of a checkpoint: what a digest covers must have it, and nothing is without one. */
#include "verify.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "reader.h"

/* What is checked at a time: as much as the reader's threads share, 64 MiB; what the sink gets at a time: 4 MiB. However large
 * a manifest says that its tensors are, no more memory is taken. */
enum { PART_BLOCKS = 4096, SINK_BLOCKS = 256 };

typedef struct verify {
    const mst_checkpoint_context *context;
    const char *path;
    char name[CKPT_PATH_MAX]; /* of the manifest's file */
    const mst_manifest *manifest;
    const ckpt_sink *sink;           /* NULL: nobody listens */
    float *buffer;                   /* [SINK_BLOCKS * MST_BLOCK] for the sink */
    ckpt_file digest_file;           /* digests.bin */
    ckpt_file checksum_file;         /* checksums.bin; closed: the checkpoint has none */
    mst_digest digests[PART_BLOCKS]; /* of the part that is being checked */
    uint64_t checksums[PART_BLOCKS]; /* likewise */
    ckpt_reader *reader;
} verify;

/* model.h5, tokenizer.json, huggingface.tar, digests.bin and checksums.bin: one digest for the whole of each. */
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

/* What is to be found in some blocks of a kind's tensors, counted through all kinds. */
static mst_status read_expected(verify *v, uint64_t first, size_t blocks) {
    mst_status status = MST_OK;
    const mst_manifest *m = v->manifest;
    MST_TRY(ckpt_file_read(&v->digest_file, v->digests, blocks * sizeof *v->digests,
                           m->digests.offset + first * sizeof *v->digests));
    if (v->checksum_file.fd >= 0)
        MST_TRY(ckpt_file_read(&v->checksum_file, v->checksums, blocks * sizeof *v->checksums,
                               m->checksums.offset + first * sizeof *v->checksums));
done:
    return status;
}

/* The blocks of one piece, some at a time, each time for the sink. */
static mst_status check_piece(verify *v, const mst_manifest_piece *piece) {
    mst_status status = MST_OK;
    const mst_manifest *m = v->manifest;
    const uint64_t most = (uint64_t)(v->sink != NULL ? SINK_BLOCKS : PART_BLOCKS) * MST_BLOCK,
                   block = piece->kind * m->blocks + m->tensors[piece->tensor].first_block +
                           piece->first / MST_BLOCK;
    for (uint64_t at = 0, some; at < piece->count; at += some) {
        some = piece->count - at < most ? piece->count - at : most;
        MST_TRY(read_expected(v, block + at / MST_BLOCK, mst_blocks_of(some)));
        MST_TRY(ckpt_reader_add(v->reader, piece, piece->first + at, some, v->buffer, v->digests,
                                v->checksum_file.fd >= 0 ? v->checksums : NULL));
        MST_TRY(ckpt_reader_finish(v->reader));
        if (v->sink != NULL)
            MST_TRY(v->sink->put(v->sink->context, piece, piece->first + at, v->buffer, some, v->digests));
    }
done:
    return status;
}

/* The digest of a kind follows from those of its blocks. */
static mst_status check_kind(verify *v, mst_tensor_kind kind, mst_hasher *hasher) {
    mst_status status = MST_OK;
    const mst_manifest *m = v->manifest;
    mst_digest found;
    MST_TRY(ckpt_kind_begin(hasher));
    for (size_t t = 0; t < m->tensor_count; t++) {
        const mst_manifest_tensor *tensor = &m->tensors[t];
        const uint64_t first = kind * m->blocks + tensor->first_block, blocks = mst_blocks_of(tensor->count);
        MST_TRY(ckpt_kind_tensor(hasher, tensor->name, tensor->dims, tensor->shape));
        for (uint64_t at = 0, some; at < blocks; at += some) {
            some = blocks - at < PART_BLOCKS ? blocks - at : PART_BLOCKS;
            MST_TRY(ckpt_file_read(&v->digest_file, v->digests, (size_t)some * sizeof *v->digests,
                                   m->digests.offset + (first + at) * sizeof *v->digests));
            MST_TRY(mst_hasher_update(hasher, v->digests, (size_t)some * sizeof *v->digests));
        }
    }
    MST_TRY(mst_hasher_finish(hasher, &found));
    MST_CHECK(memcmp(&found, &m->kinds[kind], sizeof found) == 0, MST_EFORMAT,
              "%s is wrong: its digest of %s is not that of the tensors", v->name,
              mst_tensor_kind_name(kind));
done:
    return status;
}

/* digests.bin and checksums.bin are as the manifest says, and open. */
static mst_status open_expected(verify *v) {
    mst_status status = MST_OK;
    const mst_manifest *m = v->manifest;
    MST_TRY(check_whole(v, &m->digests));
    MST_TRY(ckpt_part_open(v->path, m, &m->digests, &v->digest_file));
    if (m->checksums.name[0] == '\0') goto done;
    MST_TRY(check_whole(v, &m->checksums));
    MST_TRY(ckpt_part_open(v->path, m, &m->checksums, &v->checksum_file));
done:
    return status;
}

/* What training does not read. */
static mst_status check_rest(const verify *v) {
    mst_status status = MST_OK;
    const mst_manifest *m = v->manifest;
    if (m->model.name[0] != '\0') MST_TRY(check_whole(v, &m->model));
    if (m->tokenizer.name[0] != '\0') MST_TRY(check_whole(v, &m->tokenizer));
    if (m->companions.name[0] != '\0') MST_TRY(check_whole(v, &m->companions));
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
    if (manifest.checksums.name[0] !=
        '\0') { /* loading took them, but did not look what stands behind them */
        MST_TRY(check_whole(&v, &manifest.checksums));
        MST_TRY(check_whole(&v, &manifest.digests));
    }
    MST_TRY(check_rest(&v));
done:
    mst_manifest_clear(&manifest);
    return status;
}

static mst_status verify_all(verify *v, size_t kinds) {
    mst_status status = MST_OK;
    const mst_manifest *m = v->manifest;
    mst_hasher *hasher = NULL;
    MST_TRY(ckpt_manifest_name(v->path, v->name));
    MST_TRY(open_expected(v));
    MST_TRY(check_rest(v));
    if (v->sink != NULL) v->buffer = malloc((size_t)SINK_BLOCKS * MST_BLOCK * sizeof *v->buffer);
    MST_CHECK(v->sink == NULL || v->buffer != NULL, MST_ENOMEM, "%s: no memory for %d blocks", v->path,
              SINK_BLOCKS);
    MST_TRY(ckpt_reader_create(v->context, v->path, m, &v->reader));
    for (size_t i = 0; i < m->first_piece[kinds * m->tensor_count]; i++)
        MST_TRY(check_piece(v, &m->pieces[i]));
    MST_TRY(mst_hasher_create(&hasher));
    for (size_t kind = 0; kind < kinds; kind++) MST_TRY(check_kind(v, (mst_tensor_kind)kind, hasher));
    MST_TRY(ckpt_state_check(m, v->name));
done:
    mst_hasher_destroy(&hasher);
    ckpt_reader_destroy(&v->reader);
    free(v->buffer);
    if (v->digest_file.fd >= 0) ckpt_system.close(v->digest_file.fd);
    if (v->checksum_file.fd >= 0) ckpt_system.close(v->checksum_file.fd);
    return status;
}

mst_status ckpt_verify(const mst_checkpoint_context *context, const char *path, const mst_manifest *manifest,
                       size_t kinds, const ckpt_sink *sink) {
    mst_status status = MST_OK;
    verify *v = malloc(sizeof *v);
    MST_CHECK(v != NULL, MST_ENOMEM, "%s: no memory to check it", path);
    *v = (verify){.context = context,
                  .path = path,
                  .manifest = manifest,
                  .sink = sink,
                  .digest_file = CKPT_FILE_CLOSED(context),
                  .checksum_file = CKPT_FILE_CLOSED(context)};
    MST_TRY(verify_all(v, kinds));
done:
    free(v);
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

/* --- the weights, for others --- */

typedef struct listener {
    const mst_manifest *manifest;
    mst_weights_fn *give;
    void *context;
} listener;

static mst_status give_on(void *context, const mst_manifest_piece *piece, uint64_t first, const float *data,
                          uint64_t count, const mst_digest *digests) {
    const listener *l = context;
    (void)digests;
    return l->give(l->context, &l->manifest->tensors[piece->tensor], first, data, count);
}

mst_status mst_checkpoint_weights(const mst_checkpoint_context *context, const char *path,
                                  mst_weights_fn *give, void *give_context) {
    mst_status status = MST_OK;
    mst_manifest manifest;
    listener l = {.manifest = &manifest, .give = give, .context = give_context};
    const ckpt_sink sink = {.context = &l, .put = give_on};
    MST_TRY(mst_manifest_read(path, &manifest));
    MST_TRY(ckpt_verify(context, path, &manifest, 1, &sink));
done:
    mst_manifest_clear(&manifest);
    return status;
}
