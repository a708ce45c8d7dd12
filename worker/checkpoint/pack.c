/*
 * A checkpoint as one file: HDF5 with every tensor whole, the block digests and the tokenizer, and the manifest in the user
 * block, where HDF5 does not look.
 *
 *  1. Read the source's manifest. What the new one says, but for offsets and digests of the file, follows from it.
 *  2. Let HDF5 write its structure, with room for the data: now every offset is known.
 *  3. Verify the source, and copy what was found right into that room. (What else may be a source: pack_weights.c.)
 *  4. fsync; hash what lies between the data; write the manifest at the beginning; fsync.
 *  5. Verify the new file, as any reader would.
 *
 * Until 4 the file begins with zeros, and nobody takes it for a checkpoint.
 */
#include "pack.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shard.h"

enum { USER_BLOCK_LEAST = 4096 };
static const uint64_t offset_most = (uint64_t)1 << 59; /* prints as long as any offset, or longer */

/* --- 1: the manifest --- */

static mst_status plan(ckpt_pack *p) {
    mst_status status = MST_OK;
    mst_manifest *to = &p->to;
    const mst_manifest *from = &p->from;
    *to = *from;
    to->checksums = (mst_manifest_file){0}; /* its blocks have digests only */
    to->packed = true;
    to->weights_only = p->weights_only;
    to->places = NULL;
    to->first_piece = NULL;
    to->model = (mst_manifest_file){0};
    to->piece_count = mst_manifest_kinds(to) * to->tensor_count;
    to->shard_count = 1;
    to->shards = calloc(1, sizeof *to->shards);
    to->pieces = calloc(to->piece_count + 1, sizeof *to->pieces);
    MST_CHECK(to->shards != NULL && to->pieces != NULL, MST_ENOMEM, "pack: no memory for %zu tensors",
              to->tensor_count);
    to->shards[0].bytes = to->digests.offset = to->tokenizer.offset = to->companions.offset = offset_most;
    to->digests.bytes = mst_manifest_kinds(to) * to->blocks * MST_DIGEST_BYTES;
    for (size_t i = 0; i < to->piece_count; i++) {
        const size_t tensor = i % to->tensor_count;
        to->pieces[i] = (mst_manifest_piece){.kind = (mst_tensor_kind)(i / to->tensor_count),
                                             .tensor = tensor,
                                             .count = to->tensors[tensor].count,
                                             .offset = offset_most};
        p->all += 2 * to->tensors[tensor].count * 4;
    }
done:
    return status;
}

/* --- 2: the structure --- */

/* A power of two with room for the manifest, whatever the offsets will be. */
static mst_status user_block(const ckpt_pack *p, uint64_t *bytes_out) {
    char *text = NULL;
    size_t bytes;
    mst_status status = ckpt_manifest_print(&p->to, &text, &bytes);
    if (status != MST_OK) return status;
    free(text);
    *bytes_out = USER_BLOCK_LEAST;
    while (*bytes_out < CKPT_HEAD_BYTES + bytes) *bytes_out *= 2;
    return MST_OK;
}

/* Room for a dataset. @param text its content, where it is written at once; else NULL */
static mst_status make_room(const ckpt_h5 *h5, hid_t group, const char *name, hid_t type, size_t dims,
                            const size_t shape[2], const char *text, uint64_t *offset_out) {
    mst_status status = MST_OK;
    const hsize_t extent[2] = {shape[0], shape[1]};
    hid_t space = -1, plain = -1, dataset = -1;
    CKPT_H5(h5, plain = ckpt_h5_plain_dataset(), "prepare", name);
    CKPT_H5(h5, space = dims > 0 ? H5Screate_simple((int)dims, extent, NULL) : H5Screate(H5S_SCALAR),
            "describe", name);
    CKPT_H5(h5, dataset = H5Dcreate2(group, name, type, space, H5P_DEFAULT, plain, H5P_DEFAULT), "create",
            name);
    if (text != NULL)
        CKPT_H5(h5, H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, text), "write", name);
    const haddr_t offset = H5Dget_offset(dataset);
    MST_CHECK(offset != HADDR_UNDEF, MST_EHDF5, "HDF5 says no place for %s in %s", name, h5->file->path);
    *offset_out = offset;
done:
    if (dataset >= 0) H5Dclose(dataset);
    if (space >= 0) H5Sclose(space);
    if (plain >= 0) H5Pclose(plain);
    return status;
}

/* A text of a fixed number of bytes, as one element. */
static mst_status make_text(const ckpt_h5 *h5, hid_t group, const char *name, size_t bytes, const char *text,
                            uint64_t *offset_out) {
    mst_status status = MST_OK;
    hid_t type = -1;
    CKPT_H5(h5, type = H5Tcopy(H5T_C_S1), "describe", name);
    CKPT_H5(h5, H5Tset_size(type, bytes), "describe", name);
    CKPT_H5(h5, H5Tset_strpad(type, H5T_STR_NULLPAD), "describe", name);
    CKPT_H5(h5, H5Tset_cset(type, H5T_CSET_UTF8), "describe", name);
    status = make_room(h5, group, name, type, 0, (const size_t[2]){1, 1}, text, offset_out);
done:
    if (type >= 0) H5Tclose(type);
    return status;
}

/* Weights in the root, moments under optimizer/, as in model.h5. */
static mst_status make_kind(ckpt_pack *p, const ckpt_h5 *h5, hid_t parent, mst_tensor_kind kind) {
    mst_status status = MST_OK;
    const char *name = mst_tensor_kind_name(kind);
    hid_t group = parent;
    if (kind != MST_KIND_MASTER) CKPT_H5(h5, group = ckpt_h5_group(parent, name), "create group", name);
    for (size_t i = 0; i < p->to.tensor_count; i++) {
        const mst_manifest_tensor *tensor = &p->to.tensors[i];
        MST_TRY(make_room(h5, group, tensor->name, H5T_IEEE_F32LE, tensor->dims, tensor->shape, NULL,
                          &p->to.pieces[kind * p->to.tensor_count + i].offset));
        ckpt_report(p->context, false);
    }
done:
    if (group >= 0 && group != parent) H5Gclose(group);
    return status;
}

static mst_status make_kinds(ckpt_pack *p, const ckpt_h5 *h5) {
    mst_status status = MST_OK;
    hid_t optimizer = -1;
    MST_TRY(make_kind(p, h5, h5->id, MST_KIND_MASTER));
    if (p->to.weights_only) goto done;
    CKPT_H5(h5, optimizer = ckpt_h5_group(h5->id, "optimizer"), "create group", "optimizer");
    MST_TRY(make_kind(p, h5, optimizer, MST_KIND_EXP_AVG));
    MST_TRY(make_kind(p, h5, optimizer, MST_KIND_EXP_AVG_SQ));
done:
    if (optimizer >= 0) H5Gclose(optimizer);
    return status;
}

static mst_status make_files(ckpt_pack *p, const ckpt_h5 *h5) {
    mst_status status = MST_OK;
    const char *config = p->to.meta.config;
    const size_t shape[2] = {p->to.digests.bytes / MST_DIGEST_BYTES, MST_DIGEST_BYTES},
                 length = strlen(config);
    uint64_t config_offset;
    hid_t files = -1;
    CKPT_H5(h5, files = ckpt_h5_group(h5->id, "files"), "create group", "files");
    MST_TRY(make_room(h5, files, CKPT_DIGESTS_NAME, H5T_STD_U8LE, 2, shape, NULL, &p->to.digests.offset));
    if (p->to.tokenizer.name[0] != '\0')
        MST_TRY(
            make_text(h5, files, CKPT_TOKENIZER_NAME, p->to.tokenizer.bytes, NULL, &p->to.tokenizer.offset));
    if (p->to.companions.name[0] != '\0')
        MST_TRY(make_room(h5, files, CKPT_COMPANIONS_NAME, H5T_STD_U8LE, 1,
                          (const size_t[2]){p->to.companions.bytes, 1}, NULL, &p->to.companions.offset));
    MST_TRY(make_text(h5, files, "config.yaml", length > 0 ? length : 1, config, &config_offset));
done:
    if (files >= 0) H5Gclose(files);
    return status;
}

static mst_status make_structure(ckpt_pack *p) {
    mst_status status = MST_OK;
    ckpt_h5 h5 = {.id = -1};
    uint64_t head = 0;
    mst_status closed;
    MST_TRY(user_block(p, &head));
    MST_TRY(ckpt_h5_create(&p->out, head, &h5));
    MST_TRY(
        ckpt_model_facts(&h5, CKPT_VERSION_PACKED, &p->to.meta, &p->to.kinds[MST_KIND_MASTER], &p->to.state));
    MST_TRY(make_kinds(p, &h5));
    MST_TRY(make_files(p, &h5));
done:
    closed = ckpt_h5_close(&h5);
    return status != MST_OK ? status : closed;
}

/* --- 3: the data --- */

void ckpt_pack_report(ckpt_pack *p, uint64_t elements) {
    p->done += elements * 4;
    if (p->options->progress != NULL) p->options->progress(p->options->progress_context, p->done, p->all);
}

static mst_status copy(void *context, const mst_manifest_piece *piece, uint64_t first, const float *data,
                       uint64_t count, const mst_digest *digests) {
    mst_status status = MST_OK;
    ckpt_pack *p = context;
    const mst_manifest_piece *whole = &p->to.pieces[piece->kind * p->to.tensor_count + piece->tensor];
    const size_t bytes = mst_blocks_of(count) * sizeof *digests;
    MST_TRY(
        ckpt_file_write(&p->out, data, (size_t)count * sizeof *data, whole->offset + first * sizeof *data));
    MST_TRY(ckpt_file_write(&p->out, digests, bytes, p->digests_end));
    MST_TRY(mst_hasher_update(p->hasher, digests, bytes));
    p->digests_end += bytes;
    ckpt_pack_report(p, count);
done:
    return status;
}

static mst_status copy_data(ckpt_pack *p) {
    mst_status status = MST_OK;
    const ckpt_sink sink = {.context = p, .put = copy};
    p->digests_end = p->to.digests.offset;
    MST_TRY(mst_hasher_create(&p->hasher));
    MST_TRY(p->feed(p, &sink));
    MST_TRY(mst_hasher_finish(p->hasher, &p->to.digests.digest));
    if (p->tokenizer != NULL)
        MST_TRY(ckpt_file_write(&p->out, p->tokenizer, p->to.tokenizer.bytes, p->to.tokenizer.offset));
    if (p->companions != NULL)
        MST_TRY(ckpt_file_write(&p->out, p->companions, p->to.companions.bytes, p->to.companions.offset));
    MST_TRY(ckpt_file_sync(&p->out));
done:
    return status;
}

/* --- 4: the manifest --- */

/* The digest of what has no other; only its length is known of the manifest so far, and that is enough. */
static mst_status hash_outside(ckpt_pack *p) {
    mst_status status = MST_OK;
    mst_manifest *to = &p->to;
    char *text = NULL;
    size_t bytes;
    MST_TRY(ckpt_file_size(&p->out, &to->shards[0].bytes));
    MST_TRY(ckpt_manifest_print(to, &text, &bytes));
    to->head = CKPT_HEAD_BYTES + bytes;
    MST_TRY(ckpt_manifest_index(to, p->out.path));
    MST_TRY(ckpt_outside_digest(&p->out, to->shards[0].bytes, to->places, to->place_count,
                                &to->shards[0].digest));
done:
    free(text);
    return status;
}

static mst_status write_manifest(ckpt_pack *p) {
    mst_status status = MST_OK;
    char *text = NULL, head[CKPT_HEAD_BYTES + 1];
    size_t bytes;
    MST_TRY(hash_outside(p));
    MST_TRY(ckpt_manifest_print(&p->to, &text, &bytes));
    snprintf(head, sizeof head, CKPT_HEAD, (unsigned long long)bytes);
    MST_TRY(ckpt_file_write(&p->out, text, bytes, CKPT_HEAD_BYTES));
    MST_TRY(ckpt_file_write(&p->out, head, CKPT_HEAD_BYTES, 0));
    MST_TRY(ckpt_file_sync(&p->out));
    ckpt_file_forget(&p->out);
    MST_TRY(ckpt_file_close(&p->out));
done:
    free(text);
    return status;
}

/* --- 5: read back --- */

static mst_status count_verified(void *context, const mst_manifest_piece *piece, uint64_t first,
                                 const float *data, uint64_t count, const mst_digest *digests) {
    (void)piece, (void)first, (void)data, (void)digests;
    ckpt_pack_report(context, count);
    return MST_OK;
}

static mst_status check_back(ckpt_pack *p, const char *output) {
    mst_status status = MST_OK;
    const ckpt_sink sink = {.context = p, .put = count_verified};
    mst_manifest written;
    MST_TRY(mst_manifest_read(output, &written));
    MST_TRY(ckpt_verify(p->context, output, &written, mst_manifest_kinds(&written), &sink));
done:
    mst_manifest_clear(&written);
    return status;
}

mst_status ckpt_pack_write(ckpt_pack *p, const char *output, mst_checkpoint_digests *digests_out) {
    mst_status status = MST_OK;
    bool made = false;
    p->out = CKPT_FILE_CLOSED(p->context);
    MST_TRY(plan(p));
    MST_TRY(ckpt_file_create_path(output, &p->out));
    made = true;
    MST_TRY(make_structure(p));
    MST_TRY(copy_data(p));
    MST_TRY(write_manifest(p));
    MST_TRY(check_back(p, output));
    *digests_out = (mst_checkpoint_digests){p->to.kinds[MST_KIND_MASTER], p->to.state};
done:
    if (p->out.fd >= 0) ckpt_system.close(p->out.fd);
    if (made && status != MST_OK) ckpt_system.unlink(output);
    return status;
}

void ckpt_pack_clear(ckpt_pack *p) {
    mst_hasher_destroy(&p->hasher);
    free(p->to.shards);
    free(p->to.pieces);
    free(p->to.places);
    free(p->to.first_piece);
    mst_manifest_clear(&p->from);
}

/* --- of a checkpoint --- */

static mst_status feed_verified(ckpt_pack *p, const ckpt_sink *sink) {
    const char *const *path = p->feed_context;
    return ckpt_verify(p->context, *path, &p->from, mst_manifest_kinds(&p->to), sink);
}

mst_status mst_checkpoint_pack(const mst_checkpoint_context *context, const char *path, const char *output,
                               const mst_pack_options *options, mst_checkpoint_digests *digests_out) {
    mst_status status = MST_OK;
    ckpt_pack p = {.context = context, .options = options, .feed = feed_verified, .feed_context = &path};
    char *tokenizer = NULL, *companions = NULL;
    size_t bytes;
    MST_TRY(mst_manifest_read(path, &p.from));
    MST_CHECK(!p.from.meta.has_base, MST_ECONFIG,
              "%s holds adapters, which are nothing without the model that they adapt, and that stands "
              "beside it in the run "
              "folder: move that as a whole, or make one model of both with 'muster export'",
              path);
    MST_CHECK(options->weights_only || !p.from.weights_only, MST_ECONFIG,
              "%s holds no optimizer state, only the weights: pack it with --weights-only", path);
    MST_TRY(mst_checkpoint_tokenizer(path, &tokenizer, &bytes));
    MST_TRY(mst_checkpoint_companions(path, &companions, &bytes));
    p.tokenizer = tokenizer;
    p.companions = companions;
    p.weights_only = options->weights_only;
    MST_TRY(ckpt_pack_write(&p, output, digests_out));
done:
    ckpt_pack_clear(&p);
    free(tokenizer);
    free(companions);
    return status;
}
