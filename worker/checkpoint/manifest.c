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
    free(meta->choices);
    *meta = (mst_checkpoint_meta){0};
}

void mst_manifest_clear(mst_manifest *manifest) {
    mst_checkpoint_meta_clear(&manifest->meta);
    free(manifest->shards);
    free(manifest->tensors);
    free(manifest->pieces);
    free(manifest->first_piece);
    free(manifest->places);
    *manifest = (mst_manifest){0};
}

mst_status ckpt_part_check_size(const ckpt_file *file, const mst_manifest *manifest,
                                const mst_manifest_file *part) {
    const uint64_t expected = manifest->packed ? manifest->shards[0].bytes : part->bytes;
    uint64_t bytes;
    mst_status status = ckpt_file_size(file, &bytes);
    if (status == MST_OK && bytes != expected)
        status = mst_error(MST_EFORMAT, "%s is damaged: it has %" PRIu64 " bytes, the manifest says %" PRIu64,
                           file->path, bytes, expected);
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
        manifest->blocks += mst_blocks_of(tensor->count);
        if (manifest->blocks > most_blocks)
            return mst_error(MST_EFORMAT, "%s: tensors[%zu]: together they are too large", name, i);
    }
    uint64_t bytes = mst_manifest_kinds(manifest) * manifest->blocks * MST_DIGEST_BYTES;
    if (manifest->digests.bytes != bytes)
        return mst_error(MST_EFORMAT, "%s: block_digests.bytes: %llu are given, the tensors need %llu", name,
                         (unsigned long long)manifest->digests.bytes, (unsigned long long)bytes);
    bytes = mst_manifest_kinds(manifest) * manifest->blocks * sizeof(uint64_t);
    if (manifest->checksums.name[0] != '\0' && manifest->checksums.bytes != bytes)
        return mst_error(MST_EFORMAT, "%s: block_checksums.bytes: %llu are given, the tensors need %llu",
                         name, (unsigned long long)manifest->checksums.bytes, (unsigned long long)bytes);
    return MST_OK;
}

/* Every tensor of every kind, element by element, in the order in which pieces must stand. */
static mst_status check_cover(mst_manifest *manifest, const char *name) {
    size_t next = 0, slots = mst_manifest_kinds(manifest) * manifest->tensor_count;
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

static int compare_places(const void *left, const void *right) {
    const mst_manifest_place *a = left, *b = right;
    if (a->shard != b->shard) return (a->shard > b->shard) - (a->shard < b->shard);
    return (a->offset > b->offset) - (a->offset < b->offset);
}

/* The bytes of a shard that have digests of their own, or, at the head of a packed file, are the manifest's. */
static void list_places(mst_manifest *manifest) {
    const mst_manifest_file *parts[] = {&manifest->digests, &manifest->tokenizer};
    mst_manifest_place *next = manifest->places;
    for (size_t i = 0; i < manifest->piece_count; i++) {
        const mst_manifest_piece *piece = &manifest->pieces[i];
        *next++ =
            (mst_manifest_place){.shard = piece->shard, .offset = piece->offset, .bytes = piece->count * 4};
    }
    if (manifest->packed) {
        *next++ = (mst_manifest_place){.bytes = manifest->head};
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
            if (parts[i]->name[0] != '\0')
                *next++ = (mst_manifest_place){.offset = parts[i]->offset, .bytes = parts[i]->bytes};
    }
    manifest->place_count = (size_t)(next - manifest->places);
    qsort(manifest->places, manifest->place_count, sizeof *manifest->places, compare_places);
}

static mst_status check_places(const mst_manifest *manifest, const char *name) {
    const mst_manifest_place *before = NULL;
    for (size_t i = 0; i < manifest->place_count; i++) {
        const mst_manifest_place *place = &manifest->places[i];
        const mst_manifest_file *shard = &manifest->shards[place->shard];
        if (place->offset > shard->bytes || place->bytes > shard->bytes - place->offset)
            return mst_error(MST_EFORMAT, "%s: %llu bytes at offset %llu lie beyond the end of %s", name,
                             (unsigned long long)place->bytes, (unsigned long long)place->offset,
                             manifest->packed ? "the file" : shard->name);
        if (before != NULL && before->shard == place->shard && before->offset + before->bytes > place->offset)
            return mst_error(MST_EFORMAT, "%s: the bytes of %s at offset %llu are given two meanings", name,
                             manifest->packed ? "the file" : shard->name, (unsigned long long)place->offset);
        before = place;
    }
    const mst_manifest_file *inside = &manifest->companions;
    if (manifest->packed && inside->name[0] != '\0' &&
        (inside->offset > manifest->shards[0].bytes ||
         inside->bytes > manifest->shards[0].bytes - inside->offset))
        return mst_error(MST_EFORMAT, "%s: %s lies beyond the end of the file", name, inside->name);
    return MST_OK;
}

mst_status ckpt_manifest_index(mst_manifest *manifest, const char *name) {
    mst_status status = MST_OK;
    manifest->first_piece =
        calloc(mst_manifest_kinds(manifest) * manifest->tensor_count + 1, sizeof *manifest->first_piece);
    manifest->places = calloc(manifest->piece_count + 3, sizeof *manifest->places);
    MST_CHECK(manifest->first_piece != NULL && manifest->places != NULL, MST_ENOMEM,
              "%s: no memory for %zu pieces", name, manifest->piece_count);
    MST_TRY(number_blocks(manifest, name));
    MST_TRY(check_cover(manifest, name));
    list_places(manifest);
    MST_TRY(check_places(manifest, name));
done:
    return status;
}
