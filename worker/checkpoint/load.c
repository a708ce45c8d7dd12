/* Any number of writers to any number of readers:
 * each rank reads the ranges of its shards, wherever they stand. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "digests.h"
#include "manifest.h"

/* Rank 0 reads the manifest, so that all ranks see the same one. */
static mst_status share_manifest(const mst_checkpoint_context *context, const char *path,
                                 mst_manifest *manifest_out) {
    mst_status status = MST_OK;
    char *text = NULL, name[CKPT_PATH_MAX];
    size_t bytes = 0;
    bool root = mst_comm_rank(context->comm) == 0;
    status = ckpt_manifest_name(path, name);
    if (root && status == MST_OK) status = ckpt_manifest_load(path, &text, &bytes);
    MST_TRY(ckpt_agree(context, status));
    MST_TRY(ckpt_broadcast(context, &bytes, sizeof bytes));
    if (!root) text = malloc(bytes + 1);
    status = text != NULL ? MST_OK : mst_error(MST_ENOMEM, "%s: no memory for %zu bytes", name, bytes);
    MST_TRY(ckpt_agree(context, status));
    MST_TRY(ckpt_broadcast(context, text, bytes));
    MST_TRY(ckpt_agree(context, mst_manifest_parse(text, bytes, name, manifest_out)));
done:
    free(text);
    return status;
}

static void shape_text(size_t dims, const size_t shape[2], char *text, size_t room) {
    if (dims == 1)
        snprintf(text, room, "[%zu]", shape[0]);
    else
        snprintf(text, room, "[%zu, %zu]", shape[0], shape[1]);
}

/* Both lists are in name order, so tensor i of one is tensor i of the other. */
static mst_status check_layout(const mst_manifest *manifest, const mst_layout *layout, const size_t *order,
                               const char *path) {
    char stored[64], wanted[64];
    for (size_t i = 0; i < manifest->tensor_count && i < layout->tensor_count; i++) {
        const mst_manifest_tensor *has = &manifest->tensors[i];
        const mst_tensor *needs = &layout->tensors[order[i]];
        int names = strcmp(has->name, needs->name);
        if (names != 0)
            return mst_error(MST_EFORMAT, "%s is of another model: tensor %s is only in the %s", path,
                             names < 0 ? has->name : needs->name, names < 0 ? "checkpoint" : "model");
        if (has->dims == needs->dims && has->shape[0] == needs->shape[0] && has->shape[1] == needs->shape[1])
            continue;
        shape_text(has->dims, has->shape, stored, sizeof stored);
        shape_text(needs->dims, needs->shape, wanted, sizeof wanted);
        return mst_error(MST_EFORMAT,
                         "%s is of another model: tensor %s has shape %s there and %s in the model", path,
                         has->name, stored, wanted);
    }
    if (manifest->tensor_count != layout->tensor_count) {
        bool more = manifest->tensor_count > layout->tensor_count;
        return mst_error(MST_EFORMAT, "%s is of another model: tensor %s is only in the %s", path,
                         more ? manifest->tensors[layout->tensor_count].name
                              : layout->tensors[order[manifest->tensor_count]].name,
                         more ? "checkpoint" : "model");
    }
    return MST_OK;
}

typedef struct load {
    const mst_checkpoint_context *context;
    const char *path;
    const mst_layout *layout;
    mst_shard *shards;
    mst_manifest manifest;
    size_t *order;
    ckpt_pieces pieces; /* what this rank needs */
    ckpt_checker checker;
    ckpt_file shard; /* the one that is open */
    size_t open;     /* its number, or shard_count */
} load;

/* Keeps what this rank needs of block digests [first, first + count) of the file. */
static void keep_digests(load *l, const mst_digest *digests, uint64_t first, uint64_t count) {
    for (size_t kind = 0; kind < MST_KIND_COUNT; kind++) {
        for (size_t i = 0; i < l->pieces.count; i++) {
            const ckpt_piece *piece = &l->pieces.pieces[i];
            uint64_t from = kind * l->manifest.blocks + l->manifest.tensors[piece->place].first_block +
                            piece->first / MST_BLOCK;
            uint64_t low = from > first ? from : first, high = from + ckpt_blocks(piece->count);
            if (high > first + count) high = first + count;
            if (low >= high) continue;
            memcpy(l->pieces.digests[kind] + l->pieces.first_digest[i] + (low - from),
                   digests + (low - first), (size_t)(high - low) * sizeof *digests);
        }
    }
}

/* Reads digests.bin once through, hashing all of it. */
static mst_status read_digests(load *l) {
    mst_status status = MST_OK;
    ckpt_file file = CKPT_FILE_CLOSED(l->context);
    mst_hasher *hasher = NULL;
    mst_digest found, *buffer = (mst_digest *)(void *)l->checker.buffer;
    const uint64_t room = (uint64_t)CKPT_CHECK_BLOCKS * MST_BLOCK * 4 / sizeof *buffer;
    MST_TRY(mst_hasher_create(&hasher));
    MST_TRY(ckpt_part_open(l->path, &l->manifest, &l->manifest.digests, &file));
    const uint64_t all = mst_manifest_kinds(&l->manifest) * l->manifest.blocks,
                   begin = l->manifest.digests.offset;
    for (uint64_t first = 0, some; first < all; first += some) {
        some = all - first < room ? all - first : room;
        MST_TRY(ckpt_file_read(&file, buffer, (size_t)some * sizeof *buffer, begin + first * sizeof *buffer));
        MST_TRY(mst_hasher_update(hasher, buffer, (size_t)some * sizeof *buffer));
        keep_digests(l, buffer, first, some);
    }
    MST_TRY(mst_hasher_finish(hasher, &found));
    MST_CHECK(memcmp(&found, &l->manifest.digests.digest, sizeof found) == 0, MST_EFORMAT,
              "%s is damaged: the SHA-256 of " CKPT_DIGESTS_NAME " is not the manifest's", file.path);
done:
    mst_hasher_destroy(&hasher);
    if (file.fd >= 0) ckpt_system.close(file.fd);
    return status;
}

static mst_status open_shard(load *l, size_t number) {
    mst_status status = MST_OK;
    if (l->open == number) return MST_OK;
    l->open = l->manifest.shard_count;
    MST_TRY(ckpt_file_close(&l->shard));
    MST_TRY(ckpt_part_open(l->path, &l->manifest, &l->manifest.shards[number], &l->shard));
    l->open = number;
done:
    return status;
}

/* Elements [first, first + count) of a tensor, from all the stored pieces that hold some of them. */
static mst_status read_range(load *l, mst_tensor_kind kind, size_t tensor, uint64_t first, uint64_t count,
                             float *to) {
    mst_status status = MST_OK;
    const size_t *range = &l->manifest.first_piece[kind * l->manifest.tensor_count + tensor];
    for (size_t i = range[0]; i < range[1]; i++) {
        const mst_manifest_piece *piece = &l->manifest.pieces[i];
        uint64_t low = piece->first > first ? piece->first : first, high = piece->first + piece->count;
        if (high > first + count) high = first + count;
        if (low >= high) continue;
        MST_TRY(open_shard(l, piece->shard));
        MST_TRY(ckpt_file_read(&l->shard, to + (low - first), (size_t)(high - low) * 4,
                               piece->offset + (low - piece->first) * 4));
    }
done:
    return status;
}

/* An element does not have its digest: says which, and in which stored file. */
static mst_status damaged(const load *l, mst_tensor_kind kind, size_t tensor, uint64_t element) {
    const size_t *range = &l->manifest.first_piece[kind * l->manifest.tensor_count + tensor];
    size_t i = range[0];
    char file[CKPT_PATH_MAX];
    while (i + 1 < range[1] && l->manifest.pieces[i + 1].first <= element) i++;
    mst_status status =
        ckpt_part_path(l->path, &l->manifest, &l->manifest.shards[l->manifest.pieces[i].shard], file);
    if (status != MST_OK) return status;
    return mst_error(MST_EFORMAT,
                     "%s is damaged: %s of %s from element %" PRIu64 " on does not have its digest", file,
                     mst_tensor_kind_name(kind), l->manifest.tensors[tensor].name, element);
}

static mst_status load_piece(load *l, mst_tensor_kind kind, size_t number) {
    mst_status status = MST_OK;
    const ckpt_piece *piece = &l->pieces.pieces[number];
    size_t tensor = piece->place; /* the same in the manifest: both are in name order */
    float *data = ckpt_shard_data(&l->shards[l->layout->tensors[piece->tensor].unit], kind);
    if (data == NULL) return MST_OK; /* weights only */
    size_t blocks = ckpt_blocks(piece->count), bad;
    MST_TRY(read_range(l, kind, tensor, piece->first, piece->count, data + piece->at));
    MST_TRY(ckpt_checker_blocks(&l->checker, data + piece->at, piece->count,
                                l->pieces.digests[kind] + l->pieces.first_digest[number], &bad));
    if (bad < blocks) MST_TRY(damaged(l, kind, tensor, piece->first + (uint64_t)bad * MST_BLOCK));
    memset(data + piece->at + piece->count, 0, (size_t)(blocks * MST_BLOCK - piece->count) * sizeof *data);
done:
    return status;
}

static mst_status check_kinds(const load *l) {
    for (size_t u = 0; u < l->layout->unit_count && l->manifest.weights_only; u++)
        if (l->shards[u].m != NULL || l->shards[u].v != NULL)
            return mst_error(MST_ECONFIG,
                             "%s holds no optimizer state, only the weights (muster pack --weights-only): no "
                             "training can go "
                             "on from it; pack the checkpoint again without that option",
                             l->path);
    return MST_OK;
}

static mst_status load_all(load *l) {
    mst_status status = MST_OK;
    l->open = l->manifest.shard_count;
    MST_TRY(ckpt_name_order(l->layout, &l->order));
    MST_TRY(check_layout(&l->manifest, l->layout, l->order, l->path));
    MST_TRY(check_kinds(l));
    MST_TRY(ckpt_pieces_list(l->layout, l->order, l->shards, &l->pieces));
    MST_TRY(read_digests(l));
    for (int kind = 0; kind < MST_KIND_COUNT; kind++)
        for (size_t i = 0; i < l->pieces.count; i++) MST_TRY(load_piece(l, (mst_tensor_kind)kind, i));
done:
    return status;
}

mst_status mst_checkpoint_load(const mst_checkpoint_context *context, const char *path,
                               const mst_layout *layout, mst_shard *shards) {
    mst_status status = MST_OK;
    load l = {.context = context,
              .path = path,
              .layout = layout,
              .shards = shards,
              .shard = CKPT_FILE_CLOSED(context)};
    MST_TRY(ckpt_agree(context, ckpt_checker_create(context, &l.checker)));
    MST_TRY(share_manifest(context, path, &l.manifest));
    MST_TRY(ckpt_agree(context, load_all(&l)));
done:
    if (l.shard.fd >= 0) ckpt_system.close(l.shard.fd);
    ckpt_checker_clear(&l.checker);
    ckpt_pieces_clear(&l.pieces);
    free(l.order);
    mst_manifest_clear(&l.manifest);
    return status;
}

mst_status mst_checkpoint_open(const char *path, mst_checkpoint_meta *meta_out,
                               mst_checkpoint_digests *digests_out) {
    mst_manifest manifest;
    mst_status status = mst_manifest_read(path, &manifest);
    *meta_out = manifest.meta;
    *digests_out = (mst_checkpoint_digests){manifest.kinds[MST_KIND_MASTER], manifest.state};
    manifest.meta = (mst_checkpoint_meta){0};
    mst_manifest_clear(&manifest);
    return status;
}
