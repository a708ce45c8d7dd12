/* Any number of writers to any number of readers:
 * each rank reads the ranges of its shards, wherever they stand. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "digests.h"
#include "manifest.h"
#include "moments.h"
#include "reader.h"

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
    ckpt_reader *reader;
} load;

/* What the blocks are compared with: checksums where the checkpoint has them, else digests. */
typedef struct block_index {
    const mst_manifest_file *file;
    size_t entry;               /* bytes for each block */
    char *kept[MST_KIND_COUNT]; /* room for this rank's, in l->pieces */
} block_index;

static block_index index_of(const load *l) {
    const bool checksums = l->manifest.checksums.name[0] != '\0';
    block_index index = {.file = checksums ? &l->manifest.checksums : &l->manifest.digests,
                         .entry = checksums ? sizeof(uint64_t) : sizeof(mst_digest)};
    for (int kind = 0; kind < MST_KIND_COUNT; kind++)
        index.kept[kind] = checksums ? (char *)l->pieces.checksums[kind] : (char *)l->pieces.digests[kind];
    return index;
}

/* Keeps what this rank needs of the entries of blocks [first, first + count) of the file. */
static void keep_entries(const load *l, const block_index *index, const char *entries, uint64_t first,
                         uint64_t count) {
    for (size_t kind = 0; kind < MST_KIND_COUNT; kind++) {
        for (size_t i = 0; i < l->pieces.count; i++) {
            const ckpt_piece *piece = &l->pieces.pieces[i];
            uint64_t from = kind * l->manifest.blocks + l->manifest.tensors[piece->place].first_block +
                            piece->first / MST_BLOCK;
            uint64_t low = from > first ? from : first, high = from + mst_blocks_of(piece->count);
            if (high > first + count) high = first + count;
            if (low >= high) continue;
            memcpy(index->kept[kind] + (l->pieces.first_digest[i] + (low - from)) * index->entry,
                   entries + (low - first) * index->entry, (size_t)(high - low) * index->entry);
        }
    }
}

/* Reads checksums.bin or digests.bin once through, hashing all of it. */
static mst_status read_index(load *l) {
    mst_status status = MST_OK;
    enum { ROOM = 1 << 17 };
    const block_index index = index_of(l);
    ckpt_file file = CKPT_FILE_CLOSED(l->context);
    mst_hasher *hasher = NULL;
    mst_digest found;
    char *buffer = malloc(ROOM);
    MST_CHECK(buffer != NULL, MST_ENOMEM, "%s: no memory for %d bytes", l->path, ROOM);
    MST_TRY(mst_hasher_create(&hasher));
    MST_TRY(ckpt_part_open(l->path, &l->manifest, index.file, &file));
    const uint64_t all = mst_manifest_kinds(&l->manifest) * l->manifest.blocks, most = ROOM / index.entry;
    for (uint64_t first = 0, some; first < all; first += some) {
        some = all - first < most ? all - first : most;
        MST_TRY(ckpt_file_read(&file, buffer, (size_t)some * index.entry,
                               index.file->offset + first * index.entry));
        MST_TRY(mst_hasher_update(hasher, buffer, (size_t)some * index.entry));
        keep_entries(l, &index, buffer, first, some);
    }
    MST_TRY(mst_hasher_finish(hasher, &found));
    MST_CHECK(memcmp(&found, &index.file->digest, sizeof found) == 0, MST_EFORMAT,
              "%s is damaged: the SHA-256 of %s is not the manifest's", file.path, index.file->name);
done:
    mst_hasher_destroy(&hasher);
    if (file.fd >= 0) ckpt_system.close(file.fd);
    free(buffer);
    return status;
}

/* One piece of this rank's, from all the stored pieces that hold some of it. */
static mst_status load_piece(load *l, mst_tensor_kind kind, size_t number) {
    mst_status status = MST_OK;
    const ckpt_piece *piece = &l->pieces.pieces[number];
    float *data = ckpt_shard_data(&l->shards[l->layout->tensors[piece->tensor].unit], kind);
    if (data == NULL) return MST_OK; /* weights only */
    data += piece->at;
    const bool checksums = l->manifest.checksums.name[0] != '\0';
    /* the same tensor in the manifest: both are in name order */
    const size_t *range = &l->manifest.first_piece[kind * l->manifest.tensor_count + piece->place];
    const uint64_t first = piece->first, end = first + piece->count;
    for (size_t i = range[0]; i < range[1]; i++) {
        const mst_manifest_piece *stored = &l->manifest.pieces[i];
        uint64_t low = stored->first > first ? stored->first : first, high = stored->first + stored->count;
        if (high > end) high = end;
        if (low >= high) continue;
        const size_t block = l->pieces.first_digest[number] + (low - first) / MST_BLOCK;
        MST_TRY(ckpt_reader_add(l->reader, stored, low, high - low, data + (low - first),
                                checksums ? NULL : l->pieces.digests[kind] + block,
                                checksums ? l->pieces.checksums[kind] + block : NULL));
    }
    memset(data + piece->count, 0,
           (size_t)(mst_blocks_of(piece->count) * MST_BLOCK - piece->count) * sizeof *data);
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
    MST_TRY(ckpt_name_order(l->layout, &l->order));
    MST_TRY(check_layout(&l->manifest, l->layout, l->order, l->path));
    MST_TRY(check_kinds(l));
    MST_TRY(ckpt_state_check(&l->manifest, l->path));
    MST_TRY(ckpt_pieces_list(l->layout, l->order, l->shards, &l->pieces));
    MST_TRY(read_index(l));
    MST_TRY(ckpt_reader_create(l->context, l->path, &l->manifest, &l->reader));
    for (int kind = 0; kind < MST_KIND_COUNT; kind++)
        for (size_t i = 0; i < l->pieces.count; i++) MST_TRY(load_piece(l, (mst_tensor_kind)kind, i));
    MST_TRY(ckpt_reader_finish(l->reader));
done:
    return status;
}

/* ---- shards on a GPU, or with moments in bf16: read into a copy in host memory, which is brought there ---- */

static void set_kind(mst_shard *shard, int kind, void *memory) {
    if (kind == MST_KIND_MASTER)
        shard->master = memory;
    else
        *(kind == MST_KIND_EXP_AVG ? &shard->m : &shard->v) = memory;
}

static void free_copy(const mst_layout *layout, mst_shard **copy) {
    for (size_t u = 0; *copy != NULL && u < layout->unit_count; u++)
        for (int kind = 0; kind < MST_KIND_COUNT; kind++) {
            void *memory = ckpt_shard_data(&(*copy)[u], kind);
            mst_memory_free(MST_SPACE_HOST, &memory);
        }
    free(*copy);
    *copy = NULL;
}

static mst_status make_copy(const mst_layout *layout, mst_shard *shards, mst_shard **copy_out) {
    mst_status status = MST_OK;
    mst_shard *copy = *copy_out = calloc(layout->unit_count, sizeof *copy);
    MST_CHECK(copy != NULL, MST_ENOMEM, "checkpoint: no memory for a list of %zu units", layout->unit_count);
    for (size_t u = 0; u < layout->unit_count; u++) {
        copy[u].first_block = shards[u].first_block;
        copy[u].blocks = shards[u].blocks;
        for (int kind = 0; kind < MST_KIND_COUNT; kind++) {
            void *memory = NULL;
            if (ckpt_shard_data(&shards[u], kind) == NULL) continue;
            MST_TRY(mst_memory_alloc(MST_SPACE_HOST, shards[u].blocks * MST_BLOCK * sizeof(float), &memory));
            set_kind(&copy[u], kind, memory);
        }
    }
done:
    return status;
}

static mst_status bring_copy(const load *l, mst_shard *shards) {
    mst_status status = MST_OK;
    for (size_t u = 0; u < l->layout->unit_count; u++)
        for (int kind = 0; kind < MST_KIND_COUNT; kind++)
            if (ckpt_shard_data(&shards[u], kind) != NULL)
                MST_TRY(ckpt_narrow(l->context, ckpt_shard_data(&l->shards[u], kind), &shards[u], kind));
done:
    return status;
}

static mst_status load_by_copy(load *l, mst_shard *shards) {
    mst_status status = MST_OK;
    MST_TRY(make_copy(l->layout, shards, &l->shards));
    MST_TRY(load_all(l));
    MST_TRY(bring_copy(l, shards));
done:
    free_copy(l->layout, &l->shards);
    return status;
}

mst_status mst_checkpoint_load(const mst_checkpoint_context *context, const char *path,
                               const mst_layout *layout, mst_shard *shards) {
    mst_status status = MST_OK;
    load l = {.context = context, .path = path, .layout = layout, .shards = shards};
    MST_TRY(share_manifest(context, path, &l.manifest));
    const bool by_copy = mst_memory_is_apart() || ckpt_is_narrow(layout, shards);
    MST_TRY(ckpt_agree(context, by_copy ? load_by_copy(&l, shards) : load_all(&l)));
done:
    ckpt_reader_destroy(&l.reader);
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
    if (manifest.shard_count > 0) sscanf(manifest.shards[0].name, "shard-%*d-of-%d-", &meta_out->ranks);
    *digests_out = (mst_checkpoint_digests){manifest.kinds[MST_KIND_MASTER], manifest.state};
    manifest.meta = (mst_checkpoint_meta){0};
    mst_manifest_clear(&manifest);
    return status;
}
