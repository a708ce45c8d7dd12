#include "commit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "carried.h"
#include "manifest.h"

typedef struct commit {
    const ckpt_written *from;
    int size; /* ranks */
    ckpt_sums sums;
    ckpt_names names;
    mst_manifest manifest;
} commit;

/* --- digests and names --- */

static mst_status write_digests(commit *c) {
    mst_status status = MST_OK;
    const ckpt_written *w = c->from;
    ckpt_file digests = CKPT_FILE_CLOSED(w->context), checksums = digests;
    MST_TRY(ckpt_file_create(w->paths->making, "digests.bin", &digests));
    MST_TRY(ckpt_file_create(w->paths->making, CKPT_CHECKSUMS_NAME, &checksums));
    MST_TRY(ckpt_gathering_sums(w->context, w->layout, w->order, w->gathering, w->meta, &digests, &checksums,
                                &c->sums));
    MST_TRY(ckpt_file_sync(&digests));
    MST_TRY(ckpt_file_close(&digests));
    MST_TRY(ckpt_file_sync(&checksums));
    MST_TRY(ckpt_file_close(&checksums));
done:
    if (digests.fd >= 0) ckpt_system.close(digests.fd);
    if (checksums.fd >= 0) ckpt_system.close(checksums.fd);
    return status;
}

static mst_status name_files(commit *c) {
    mst_status status = MST_OK;
    mst_hasher *hasher = NULL;
    mst_digest digest;
    char hex[MST_DIGEST_HEX], head[MST_DIGEST_HEX + 32];
    const char *run_id = c->from->meta->run_id != NULL ? c->from->meta->run_id : "";
    mst_digest_to_hex(&c->sums.state, hex);
    int length = snprintf(head, sizeof head, "muster files 1\n%s\n", hex);
    MST_TRY(mst_hasher_create(&hasher));
    MST_TRY(mst_hasher_update(hasher, head, (size_t)length));
    MST_TRY(mst_hasher_update(hasher, run_id, strlen(run_id)));
    MST_TRY(mst_hasher_update(hasher, "\n", 1));
    MST_TRY(mst_hasher_finish(hasher, &digest));
    mst_digest_to_hex(&digest, hex);
    memcpy(c->names.id, hex, sizeof c->names.id - 1);
    memcpy(c->names.folder, c->from->paths->making, sizeof c->names.folder);
    c->names.size = c->size;
done:
    mst_hasher_destroy(&hasher);
    return status;
}

/* Until now the ranks' files had names that say nothing of their content. */
static mst_status rename_parts(const commit *c) {
    mst_status status = MST_OK;
    for (int rank = 0; rank < c->size; rank++) {
        char name[MST_FILE_NAME_MAX], part[CKPT_PATH_MAX], shard[CKPT_PATH_MAX];
        if (c->from->record_bytes[rank] == ckpt_record_bytes(0)) continue;
        ckpt_part_name(rank, name);
        MST_TRY(ckpt_path_join(c->names.folder, name, part));
        ckpt_shard_name(&c->names, rank, name);
        MST_TRY(ckpt_path_join(c->names.folder, name, shard));
        MST_TRY(ckpt_rename(part, shard));
    }
done:
    return status;
}

/* --- already there? --- */

static bool same_meta(const mst_manifest *one, const mst_manifest *other) {
    char *left = NULL, *right = NULL;
    bool same = ckpt_manifest_print_meta(one, &left) == MST_OK &&
                ckpt_manifest_print_meta(other, &right) == MST_OK && strcmp(left, right) == 0;
    free(left);
    free(right);
    return same;
}

/* Whether step-N holds what would be written, and is whole.
 * What is unreadable there is replaced or set aside, not reported. */
static bool already_there(const commit *c) {
    mst_manifest there = {0}, ours = {.meta = *c->from->meta, .state = c->sums.state};
    memcpy(ours.kinds, c->sums.kinds, sizeof ours.kinds);
    bool same = ckpt_exists(c->from->paths->final) &&
                mst_manifest_read(c->from->paths->final, &there) == MST_OK && same_meta(&ours, &there);
    mst_manifest_clear(&there);
    mst_checkpoint_digests digests;
    return same && mst_checkpoint_verify(c->from->context, c->from->paths->final, &digests) == MST_OK;
}

/* --- the manifest --- */

/* One rank's part of the manifest in the making. */
typedef struct writer {
    size_t shard;            /* number of its file */
    const uint64_t *offsets; /* in its record: that of its next piece */
} writer;

static mst_status fill_shards(commit *c, writer *writers) {
    mst_status status = MST_OK;
    mst_manifest *m = &c->manifest;
    m->shards = calloc((size_t)c->size + 1, sizeof *m->shards);
    MST_CHECK(m->shards != NULL, MST_ENOMEM, "checkpoint: no memory for a list of %d files", c->size);
    const char *at = c->from->records;
    for (int rank = 0; rank < c->size; at += c->from->record_bytes[rank], rank++) {
        const ckpt_record *record = (const ckpt_record *)(const void *)at;
        writers[rank] = (writer){.shard = m->shard_count, .offsets = record->offsets};
        if (c->from->record_bytes[rank] == ckpt_record_bytes(0))
            continue; /* it owns nothing and wrote no file */
        mst_manifest_file *shard = &m->shards[m->shard_count++];
        ckpt_shard_name(&c->names, rank, shard->name);
        shard->bytes = record->bytes;
        shard->digest = record->outside;
    }
done:
    return status;
}

static mst_status fill_tensors(commit *c) {
    mst_status status = MST_OK;
    mst_manifest *m = &c->manifest;
    m->tensors = calloc(c->from->layout->tensor_count + 1, sizeof *m->tensors);
    MST_CHECK(m->tensors != NULL, MST_ENOMEM, "checkpoint: no memory for a list of %zu tensors",
              c->from->layout->tensor_count);
    for (size_t i = 0; i < c->from->layout->tensor_count; i++) {
        const mst_tensor *tensor = &c->from->layout->tensors[c->from->order[i]];
        mst_manifest_tensor *listed = &m->tensors[m->tensor_count++];
        *listed = (mst_manifest_tensor){.dims = tensor->dims, .count = tensor->count};
        memcpy(listed->shape, tensor->shape, sizeof listed->shape);
        memcpy(listed->name, tensor->name, sizeof listed->name);
    }
done:
    return status;
}

/* Every rank's record has its offsets in this same order. */
static mst_status fill_pieces(commit *c, writer *writers) {
    mst_status status = MST_OK;
    mst_manifest *m = &c->manifest;
    size_t most = 0;
    for (int rank = 0; rank < c->size; rank++)
        most += (c->from->record_bytes[rank] - sizeof(ckpt_record)) / sizeof(uint64_t);
    m->pieces = calloc(most + 1, sizeof *m->pieces);
    MST_CHECK(m->pieces != NULL, MST_ENOMEM, "checkpoint: no memory for a list of %zu pieces", most);
    for (int kind = 0; kind < MST_KIND_COUNT; kind++) {
        for (size_t i = 0; i < m->tensor_count; i++) {
            for (int rank = 0; rank < c->size; rank++) {
                ckpt_piece piece;
                if (!ckpt_piece_of_rank(c->from->layout, c->from->order[i], rank, c->size, &piece)) continue;
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

static mst_status fill_manifest(commit *c) {
    mst_status status = MST_OK;
    mst_manifest *m = &c->manifest;
    writer *writers = calloc((size_t)c->size, sizeof *writers);
    MST_CHECK(writers != NULL, MST_ENOMEM, "checkpoint: no memory for a list of %d ranks", c->size);
    m->meta = *c->from->meta; /* strings are the caller's: taken out again before the manifest is cleared */
    memcpy(m->kinds, c->sums.kinds, sizeof m->kinds);
    m->state = c->sums.state;
    m->digests = (mst_manifest_file){
        .name = "digests.bin", .bytes = c->sums.blocks * sizeof(mst_digest), .digest = c->sums.digests};
    m->checksums = (mst_manifest_file){
        .name = CKPT_CHECKSUMS_NAME, .bytes = c->sums.blocks * sizeof(uint64_t), .digest = c->sums.checksums};
    MST_TRY(fill_shards(c, writers));
    MST_TRY(fill_tensors(c));
    MST_TRY(fill_pieces(c, writers));
done:
    free(writers);
    return status;
}

static mst_status write_manifest(commit *c) {
    mst_status status = MST_OK;
    ckpt_file file = CKPT_FILE_CLOSED(c->from->context);
    char *text = NULL, path[CKPT_PATH_MAX];
    size_t bytes;
    mst_manifest read;
    MST_TRY(ckpt_manifest_print(&c->manifest, &text, &bytes));
    MST_TRY(mst_manifest_parse(text, bytes, "the new manifest",
                               &read)); /* none is written that the reader refuses */
    mst_manifest_clear(&read);
    MST_TRY(ckpt_path_join(c->from->paths->making, "manifest.json", path));
    MST_TRY(ckpt_file_create(c->from->paths->making, "manifest.json.tmp", &file));
    MST_TRY(ckpt_file_write(&file, text, bytes, 0));
    MST_TRY(ckpt_file_sync(&file));
    MST_TRY(ckpt_file_close(&file));
    MST_TRY(ckpt_rename(file.path, path));
    MST_TRY(ckpt_folder_sync(c->from->paths->making));
done:
    free(text);
    if (file.fd >= 0) ckpt_system.close(file.fd);
    return status;
}

/* --- the whole --- */

/* Its new name is on the disk before another one takes the old. */
static mst_status leave(const ckpt_written *w, size_t *set_aside_out) {
    mst_status status = MST_OK;
    if (!w->leaves || !ckpt_exists(w->paths->final)) return MST_OK;
    MST_TRY(ckpt_set_aside(w->paths->folder, w->meta->step));
    *set_aside_out = 1;
    MST_TRY(ckpt_folder_sync(w->paths->folder));
done:
    return status;
}

static mst_status write_all(commit *c, size_t *set_aside_out) {
    mst_status status = MST_OK;
    const ckpt_written *w = c->from;
    MST_TRY(name_files(c));
    MST_TRY(rename_parts(c));
    MST_TRY(fill_manifest(c));
    MST_TRY(ckpt_model_write(w->context, &c->names, w->layout, w->order, w->meta, &c->sums,
                             c->manifest.shards, c->manifest.shard_count, &c->manifest.model));
    if (w->meta->tokenizer != NULL)
        MST_TRY(ckpt_carried_write(w->context, w->paths->making, CKPT_TOKENIZER_NAME, w->meta->tokenizer,
                                   strlen(w->meta->tokenizer), &c->manifest.tokenizer));
    if (w->meta->companions != NULL)
        MST_TRY(ckpt_carried_write(w->context, w->paths->making, CKPT_COMPANIONS_NAME, w->meta->companions,
                                   w->meta->companion_bytes, &c->manifest.companions));
    MST_TRY(ckpt_folder_sync(w->paths->making));
    MST_TRY(write_manifest(c));
    MST_TRY(ckpt_permitted(w->context));
    MST_TRY(leave(w, set_aside_out));
    MST_TRY(ckpt_publish(w->paths));
done:
    return status;
}

mst_status ckpt_commit(const ckpt_written *written, ckpt_sums *sums_out, size_t *set_aside_out) {
    mst_status status = MST_OK;
    bool published = false;
    *set_aside_out = 0;
    commit c = {.from = written, .size = written->gathering->size};
    MST_TRY(write_digests(&c));
    if (!already_there(&c)) {
        MST_TRY(write_all(&c, set_aside_out));
        published = true;
    }
    *sums_out = c.sums;
done:
    if (!published) ckpt_making_discard(written->context, written->paths);
    c.manifest.meta = (mst_checkpoint_meta){0};
    mst_manifest_clear(&c.manifest);
    return status;
}
