/*
 * The commit protocol. R: rank 0 alone; A: all ranks. After each step the ranks agree on the status; a
 * failure anywhere ends the save on all of them with the same message, and rank 0 removes what is unfinished.
 *
 *  1. A: hash every block of this rank's shards, in memory.
 *  2. R: make the checkpoints folder; clear what killed jobs left there; make .tmp-step-N.
 *  3. A: gather the block digests on rank 0, tensor by tensor; R writes them to digests.bin and hashes them:
 *        weights and state. The shard files' names follow from the state, so a foreign file has another name.
 *  4. R: if step-N is there already, whole, with the same meta and state: keep it, and be done.
 *  5. A: write this rank's shard file, fsync it, close it, read it back, compare every block with step 1.
 *  6. A: gather on rank 0 where every piece stands.
 *  7. R: write model.h5 and tokenizer.json, fsync them, digests.bin and .tmp-step-N: all names and contents are on the disk.
 *  8. R: write manifest.json.tmp, fsync it, rename it to manifest.json, fsync .tmp-step-N: now it is whole.
 *  9. R: rename .tmp-step-N to step-N (exchange it with one that differs, which is then removed), fsync the
 *        parent.
 *
 * Killed at any instant: before 9 a reader sees no step-N (or the old one), after it the new one, whole. The
 * instant between exists only where names cannot be exchanged; the next save then puts the old one back.
 *
 * All this may take long. Whoever waits for other ranks reports that it waits (ckpt_agree and its like), and
 * whoever works reports that at least every 64 MiB.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "folder.h"
#include "manifest.h"
#include "shard.h"
#include "tokenizer_file.h"

typedef struct save {
    const mst_checkpoint_context *context;
    int rank, size;
    const mst_layout *layout;
    const mst_shard *shards;
    const mst_checkpoint_meta *meta;

    size_t *order; /* tensors by name */
    ckpt_pieces pieces;
    ckpt_paths paths;
    ckpt_names names;
    ckpt_sums sums;
    bool made; /* rank 0: .tmp-step-N exists */
    ckpt_record *record;
    /* rank 0 */
    ckpt_file digests;
    size_t *record_bytes; /* [size], on all ranks */
    char *records;        /* of all ranks, one after the other */
    mst_manifest manifest;
} save;

/* --- 1: in memory --- */

static mst_status check_ranges(const save *s) {
    for (size_t u = 0; u < s->layout->unit_count; u++) {
        size_t first, blocks;
        mst_shard_range(&s->layout->units[u], s->rank, s->size, &first, &blocks);
        if (s->shards[u].first_block != first || s->shards[u].blocks != blocks)
            return mst_error(
                MST_EINVAL,
                "checkpoint: the shard of unit %s begins at block %zu, not at %zu as this rank's does",
                s->layout->units[u].name, s->shards[u].first_block, first);
    }
    return MST_OK;
}

static mst_status hash_memory(save *s) {
    mst_status status = MST_OK;
    MST_TRY(check_ranges(s));
    MST_TRY(ckpt_name_order(s->layout, &s->order));
    MST_TRY(ckpt_pieces_list(s->layout, s->order, s->shards, &s->pieces));
    MST_TRY(ckpt_pieces_digest(s->context, &s->pieces, s->layout, s->shards));
    s->record = calloc(1, ckpt_record_bytes(s->pieces.count));
    s->record_bytes = calloc((size_t)s->size, sizeof *s->record_bytes);
    MST_CHECK(s->record != NULL && s->record_bytes != NULL, MST_ENOMEM,
              "checkpoint: no memory for %zu pieces", s->pieces.count);
done:
    return status;
}

/* --- 2, 3: the folder, the digests --- */

static mst_status make_folder(save *s, const char *folder) {
    mst_status status = MST_OK;
    MST_TRY(ckpt_paths_of(folder, s->meta->step, &s->paths));
    if (s->rank != 0) goto done;
    MST_TRY(ckpt_folder_make(folder));
    MST_TRY(ckpt_folder_recover(folder));
    s->made = true;
    MST_TRY(ckpt_folder_make(s->paths.making));
    MST_TRY(ckpt_file_create(s->paths.making, "digests.bin", &s->digests));
done:
    return status;
}

static mst_status name_files(save *s) {
    mst_status status = MST_OK;
    mst_hasher *hasher = NULL;
    mst_digest digest;
    char hex[MST_DIGEST_HEX], head[MST_DIGEST_HEX + 32];
    const char *run_id = s->meta->run_id != NULL ? s->meta->run_id : "";
    mst_digest_to_hex(&s->sums.state, hex);
    int length = snprintf(head, sizeof head, "muster files 1\n%s\n", hex);
    MST_TRY(mst_hasher_create(&hasher));
    MST_TRY(mst_hasher_update(hasher, head, (size_t)length));
    MST_TRY(mst_hasher_update(hasher, run_id, strlen(run_id)));
    MST_TRY(mst_hasher_update(hasher, "\n", 1));
    MST_TRY(mst_hasher_finish(hasher, &digest));
    mst_digest_to_hex(&digest, hex);
    memcpy(s->names.id, hex, sizeof s->names.id - 1);
    memcpy(s->names.folder, s->paths.making, sizeof s->names.folder);
    s->names.size = s->size;
done:
    mst_hasher_destroy(&hasher);
    return status;
}

/* --- 4: already there? --- */

static bool same_meta(const mst_manifest *one, const mst_manifest *other) {
    char *left = NULL, *right = NULL;
    bool same = ckpt_manifest_print_meta(one, &left) == MST_OK &&
                ckpt_manifest_print_meta(other, &right) == MST_OK && strcmp(left, right) == 0;
    free(left);
    free(right);
    return same;
}

/* Whether step-N holds what would be written, and is whole.
 * What is unreadable there is replaced, not reported. */
static bool already_there(const save *s) {
    mst_manifest there = {0}, ours = {.meta = *s->meta, .state = s->sums.state};
    memcpy(ours.kinds, s->sums.kinds, sizeof ours.kinds);
    bool same = ckpt_exists(s->paths.final) && mst_manifest_read(s->paths.final, &there) == MST_OK &&
                same_meta(&ours, &there);
    mst_manifest_clear(&there);
    mst_checkpoint_digests digests;
    return same && mst_checkpoint_verify(s->context, s->paths.final, &digests) == MST_OK;
}

/* --- 6: where everything stands --- */

static mst_status gather_records(save *s) {
    mst_status status = MST_OK;
    size_t all = 1;
    for (int rank = 0; rank < s->size; rank++) {
        size_t pieces = 0;
        ckpt_piece piece;
        for (size_t i = 0; i < s->layout->tensor_count; i++)
            pieces += ckpt_piece_of_rank(s->layout, i, rank, s->size, &piece);
        s->record_bytes[rank] = ckpt_record_bytes(pieces);
        all += s->record_bytes[rank];
    }
    if (s->rank == 0 && (s->records = malloc(all)) == NULL)
        status = mst_error(MST_ENOMEM, "checkpoint: no memory for the index of %d ranks (%zu bytes)", s->size,
                           all);
    MST_TRY(ckpt_agree(s->context, status));
    MST_TRY(ckpt_agree(s->context, ckpt_gather(s->context, s->record, s->record_bytes, s->records)));
done:
    return status;
}

/* One rank's part of the manifest in the making. */
typedef struct writer {
    size_t shard;            /* number of its file */
    const uint64_t *offsets; /* in its record: that of its next piece */
} writer;

static mst_status fill_shards(save *s, writer *writers) {
    mst_status status = MST_OK;
    mst_manifest *m = &s->manifest;
    m->shards = calloc((size_t)s->size + 1, sizeof *m->shards);
    MST_CHECK(m->shards != NULL, MST_ENOMEM, "checkpoint: no memory for a list of %d files", s->size);
    const char *at = s->records;
    for (int rank = 0; rank < s->size; at += s->record_bytes[rank], rank++) {
        const ckpt_record *record = (const ckpt_record *)(const void *)at;
        writers[rank] = (writer){.shard = m->shard_count, .offsets = record->offsets};
        if (s->record_bytes[rank] == ckpt_record_bytes(0)) continue; /* it owns nothing and wrote no file */
        mst_manifest_file *shard = &m->shards[m->shard_count++];
        ckpt_shard_name(&s->names, rank, shard->name);
        shard->bytes = record->bytes;
        shard->digest = record->outside;
    }
done:
    return status;
}

static mst_status fill_tensors(save *s) {
    mst_status status = MST_OK;
    mst_manifest *m = &s->manifest;
    m->tensors = calloc(s->layout->tensor_count + 1, sizeof *m->tensors);
    MST_CHECK(m->tensors != NULL, MST_ENOMEM, "checkpoint: no memory for a list of %zu tensors",
              s->layout->tensor_count);
    for (size_t i = 0; i < s->layout->tensor_count; i++) {
        const mst_tensor *tensor = &s->layout->tensors[s->order[i]];
        mst_manifest_tensor *listed = &m->tensors[m->tensor_count++];
        *listed = (mst_manifest_tensor){.dims = tensor->dims, .count = tensor->count};
        memcpy(listed->shape, tensor->shape, sizeof listed->shape);
        memcpy(listed->name, tensor->name, sizeof listed->name);
    }
done:
    return status;
}

/* Every rank's record has its offsets in this same order. */
static mst_status fill_pieces(save *s, writer *writers) {
    mst_status status = MST_OK;
    mst_manifest *m = &s->manifest;
    size_t most = 0;
    for (int rank = 0; rank < s->size; rank++)
        most += (s->record_bytes[rank] - sizeof(ckpt_record)) / sizeof(uint64_t);
    m->pieces = calloc(most + 1, sizeof *m->pieces);
    MST_CHECK(m->pieces != NULL, MST_ENOMEM, "checkpoint: no memory for a list of %zu pieces", most);
    for (int kind = 0; kind < MST_KIND_COUNT; kind++) {
        for (size_t i = 0; i < m->tensor_count; i++) {
            for (int rank = 0; rank < s->size; rank++) {
                ckpt_piece piece;
                if (!ckpt_piece_of_rank(s->layout, s->order[i], rank, s->size, &piece)) continue;
                /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): fill_shards has set it */
                const uint64_t offset = *writers[rank].offsets++;
                m->pieces[m->piece_count++] = (mst_manifest_piece){.kind = (mst_tensor_kind)kind,
                                                                   .tensor = i,
                                                                   .shard = writers[rank].shard,
                                                                   .first = piece.first,
                                                                   .count = piece.count,
                                                                   .offset = offset};
            }
        }
    }
done:
    return status;
}

static mst_status fill_manifest(save *s) {
    mst_status status = MST_OK;
    mst_manifest *m = &s->manifest;
    writer *writers = calloc((size_t)s->size, sizeof *writers);
    MST_CHECK(writers != NULL, MST_ENOMEM, "checkpoint: no memory for a list of %d ranks", s->size);
    m->meta = *s->meta; /* strings are the caller's: taken out again before the manifest is cleared */
    memcpy(m->kinds, s->sums.kinds, sizeof m->kinds);
    m->state = s->sums.state;
    m->digests = (mst_manifest_file){.name = "digests.bin", .bytes = s->sums.bytes, .digest = s->sums.file};
    MST_TRY(fill_shards(s, writers));
    MST_TRY(fill_tensors(s));
    MST_TRY(fill_pieces(s, writers));
done:
    free(writers);
    return status;
}

/* --- 7 to 9: commit --- */

static mst_status write_manifest(save *s) {
    mst_status status = MST_OK;
    ckpt_file file = CKPT_FILE_CLOSED(s->context);
    char *text = NULL, path[CKPT_PATH_MAX];
    size_t bytes;
    mst_manifest read;
    MST_TRY(ckpt_manifest_print(&s->manifest, &text, &bytes));
    MST_TRY(mst_manifest_parse(text, bytes, "the new manifest",
                               &read)); /* none is written that the reader refuses */
    mst_manifest_clear(&read);
    MST_TRY(ckpt_path_join(s->paths.making, "manifest.json", path));
    MST_TRY(ckpt_file_create(s->paths.making, "manifest.json.tmp", &file));
    MST_TRY(ckpt_file_write(&file, text, bytes, 0));
    MST_TRY(ckpt_file_sync(&file));
    MST_TRY(ckpt_file_close(&file));
    MST_TRY(ckpt_rename(file.path, path));
    MST_TRY(ckpt_folder_sync(s->paths.making));
done:
    free(text);
    if (file.fd >= 0) ckpt_system.close(file.fd);
    return status;
}

static mst_status commit(save *s) {
    mst_status status = MST_OK;
    if (s->rank != 0) return MST_OK;
    MST_TRY(fill_manifest(s));
    MST_TRY(ckpt_model_write(s->context, &s->names, s->layout, s->order, s->meta, &s->sums,
                             s->manifest.shards, s->manifest.shard_count, &s->manifest.model));
    if (s->meta->tokenizer != NULL)
        MST_TRY(
            ckpt_tokenizer_write(s->context, s->paths.making, s->meta->tokenizer, &s->manifest.tokenizer));
    MST_TRY(ckpt_file_sync(&s->digests));
    MST_TRY(ckpt_file_close(&s->digests));
    MST_TRY(ckpt_folder_sync(s->paths.making));
    MST_TRY(write_manifest(s));
    MST_TRY(ckpt_permitted(s->context));
    MST_TRY(ckpt_publish(&s->paths));
done:
    return status;
}

/* --- the whole --- */

static mst_status run_protocol(save *s, const char *folder) {
    mst_status status = MST_OK;
    bool there = false;
    MST_TRY(ckpt_agree(s->context, hash_memory(s)));
    MST_TRY(ckpt_agree(s->context, make_folder(s, folder)));
    MST_TRY(ckpt_sums_gather(s->context, s->layout, s->order, &s->pieces, s->meta,
                             s->rank == 0 ? &s->digests : NULL, &s->sums));
    if (s->rank == 0) there = already_there(s);
    MST_TRY(ckpt_broadcast(s->context, &there, sizeof there));
    if (there) goto done;

    status = name_files(s);
    if (status == MST_OK)
        status =
            ckpt_shard_write(s->context, &s->names, s->rank, s->layout, s->shards, &s->pieces, s->record);
    MST_TRY(ckpt_agree(s->context, status));
    MST_TRY(gather_records(s));
    MST_TRY(ckpt_agree(s->context, commit(s)));
    s->made = false;
done:
    return status;
}

/* Removes what is unfinished; nobody returns before it is gone. */
static void clean_up(save *s, mst_status status) {
    if (s->digests.fd >= 0) ckpt_system.close(s->digests.fd);
    if (s->made) ckpt_folder_discard(s->paths.making);
    if (status != MST_OK) ckpt_barrier(s->context);
    s->manifest.meta = (mst_checkpoint_meta){0};
    mst_manifest_clear(&s->manifest);
    ckpt_pieces_clear(&s->pieces);
    free(s->order);
    free(s->record);
    free(s->record_bytes);
    free(s->records);
}

static save begin(const mst_checkpoint_context *context, const mst_layout *layout, const mst_shard *shards,
                  const mst_checkpoint_meta *meta) {
    return (save){.context = context,
                  .rank = mst_comm_rank(context->comm),
                  .size = mst_comm_size(context->comm),
                  .layout = layout,
                  .shards = shards,
                  .meta = meta,
                  .digests = CKPT_FILE_CLOSED(context)};
}

mst_status mst_checkpoint_save(const mst_checkpoint_context *context, const char *folder,
                               const mst_layout *layout, const mst_shard *shards,
                               const mst_checkpoint_meta *meta, mst_checkpoint_digests *digests_out,
                               char *path_out) {
    save s = begin(context, layout, shards, meta);
    mst_status status = run_protocol(&s, folder);
    clean_up(&s, status);
    if (status != MST_OK) return mst_error_context(status, "checkpoint of step %" PRIu64, meta->step);
    *digests_out = (mst_checkpoint_digests){s.sums.kinds[MST_KIND_MASTER], s.sums.state};
    if (path_out != NULL) memcpy(path_out, s.paths.final, strlen(s.paths.final) + 1);
    return MST_OK;
}

mst_status mst_checkpoint_digest(const mst_checkpoint_context *context, const mst_layout *layout,
                                 const mst_shard *shards, const mst_checkpoint_meta *meta,
                                 mst_checkpoint_digests *digests_out) {
    mst_status status = MST_OK;
    save s = begin(context, layout, shards, meta);
    MST_TRY(ckpt_agree(context, hash_memory(&s)));
    MST_TRY(ckpt_sums_gather(context, layout, s.order, &s.pieces, meta, NULL, &s.sums));
    *digests_out = (mst_checkpoint_digests){s.sums.kinds[MST_KIND_MASTER], s.sums.state};
done:
    clean_up(&s, MST_OK);
    return status;
}
