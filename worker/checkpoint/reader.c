#include "reader.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "manifest.h"
#include "pieces.h"

/* A run is what one thread reads and compares at once: it stays in the core's cache. A batch is what the threads share before
 * they meet again: 64 MiB. */
enum { RUN_BLOCKS = 16, BATCH_RUNS = 256, OPEN_FILES = 16 };

typedef struct run {
    const ckpt_file *file;
    const mst_manifest_piece *piece;
    uint64_t first, count; /* elements of the tensor */
    float *to;
    const mst_digest *digests;
    const uint64_t *checksums;
} run;

struct ckpt_reader {
    const mst_checkpoint_context *context;
    const char *path;
    const mst_manifest *manifest;
    run *runs; /* [BATCH_RUNS] */
    size_t run_count;
    ckpt_file *files; /* [OPEN_FILES]; they report no progress: that is the calling thread's */
    size_t *shards;   /* [OPEN_FILES] */
    size_t file_count;
};

mst_status ckpt_reader_create(const mst_checkpoint_context *context, const char *path,
                              const mst_manifest *manifest, ckpt_reader **reader_out) {
    mst_status status = MST_OK;
    ckpt_reader *reader = calloc(1, sizeof *reader);
    MST_CHECK(reader != NULL, MST_ENOMEM, "%s: no memory to read it", path);
    *reader = (ckpt_reader){.context = context, .path = path, .manifest = manifest};
    reader->runs = calloc(BATCH_RUNS, sizeof *reader->runs);
    reader->files = calloc(OPEN_FILES, sizeof *reader->files);
    reader->shards = calloc(OPEN_FILES, sizeof *reader->shards);
    MST_CHECK(reader->runs != NULL && reader->files != NULL && reader->shards != NULL, MST_ENOMEM,
              "%s: no memory to read it", path);
    *reader_out = reader;
    reader = NULL;
done:
    ckpt_reader_destroy(&reader);
    return status;
}

static void close_files(ckpt_reader *reader) {
    while (reader->file_count > 0) ckpt_system.close(reader->files[--reader->file_count].fd);
}

void ckpt_reader_destroy(ckpt_reader **reader_pointer) {
    ckpt_reader *reader = *reader_pointer;
    if (reader == NULL) return;
    close_files(reader);
    free(reader->runs);
    free(reader->files);
    free(reader->shards);
    free(reader);
    *reader_pointer = NULL;
}

static mst_status check_blocks(const ckpt_reader *reader, const run *r, const float *data) {
    mst_status status = MST_OK;
    const char *kind = mst_tensor_kind_name(r->piece->kind),
               *tensor = reader->manifest->tensors[r->piece->tensor].name;
    for (uint64_t at = 0; at < r->count; at += MST_BLOCK) {
        const uint64_t some = r->count - at < MST_BLOCK ? r->count - at : MST_BLOCK;
        const size_t bytes = (size_t)some * sizeof *data;
        mst_digest found;
        MST_CHECK(r->checksums == NULL || mst_checksum_of(data + at, bytes) == r->checksums[at / MST_BLOCK],
                  MST_EFORMAT,
                  "%s is damaged: %s of %s, elements from %" PRIu64 " on do not have their checksum",
                  r->file->path, kind, tensor, r->first + at);
        if (r->digests == NULL) continue;
        MST_TRY(mst_digest_of(data + at, bytes, &found));
        MST_CHECK(memcmp(&found, &r->digests[at / MST_BLOCK], sizeof found) == 0, MST_EFORMAT,
                  "%s is damaged: %s of %s, elements from %" PRIu64 " on do not have their digest",
                  r->file->path, kind, tensor, r->first + at);
    }
done:
    return status;
}

static mst_status read_run(void *context, size_t task, int thread) {
    mst_status status = MST_OK;
    const ckpt_reader *reader = context;
    const run *r = &reader->runs[task];
    const size_t bytes = (size_t)r->count * sizeof *r->to;
    float *data = r->to != NULL ? r->to : mst_queue_scratch(reader->context->queue, thread, bytes);
    MST_CHECK(data != NULL, MST_ENOMEM, "%s: no memory for %zu bytes", r->file->path, bytes);
    MST_TRY(
        ckpt_file_read(r->file, data, bytes, r->piece->offset + (r->first - r->piece->first) * sizeof *data));
    MST_TRY(check_blocks(reader, r, data));
    if (thread == 0) ckpt_report(reader->context, false); /* the calling thread */
done:
    return status;
}

mst_status ckpt_reader_finish(ckpt_reader *reader) {
    mst_status status = mst_queue_for(reader->context->queue, reader->run_count, read_run, reader);
    reader->run_count = 0;
    return status;
}

static mst_status open_file(ckpt_reader *reader, size_t shard, const ckpt_file **file_out) {
    mst_status status = MST_OK;
    for (size_t i = 0; i < reader->file_count; i++) {
        *file_out = &reader->files[i];
        if (reader->shards[i] == shard) return MST_OK;
    }
    if (reader->file_count == OPEN_FILES) {
        MST_TRY(ckpt_reader_finish(reader));
        close_files(reader);
    }
    ckpt_file *file = &reader->files[reader->file_count];
    *file = CKPT_FILE_CLOSED(NULL);
    MST_TRY(ckpt_part_open(reader->path, reader->manifest, &reader->manifest->shards[shard], file));
    reader->shards[reader->file_count++] = shard;
    *file_out = file;
done:
    return status;
}

mst_status ckpt_reader_add(ckpt_reader *reader, const mst_manifest_piece *piece, uint64_t first,
                           uint64_t count, float *to, const mst_digest *digests, const uint64_t *checksums) {
    mst_status status = MST_OK;
    const uint64_t most = (uint64_t)RUN_BLOCKS * MST_BLOCK;
    const ckpt_file *file;
    MST_TRY(open_file(reader, piece->shard, &file));
    for (uint64_t at = 0, some; at < count; at += some) {
        some = count - at < most ? count - at : most;
        reader->runs[reader->run_count++] =
            (run){.file = file,
                  .piece = piece,
                  .first = first + at,
                  .count = some,
                  .to = to != NULL ? to + at : NULL,
                  .digests = digests != NULL ? digests + at / MST_BLOCK : NULL,
                  .checksums = checksums != NULL ? checksums + at / MST_BLOCK : NULL};
        if (reader->run_count == BATCH_RUNS) MST_TRY(ckpt_reader_finish(reader));
    }
done:
    return status;
}
