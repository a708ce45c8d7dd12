/* Stored bytes against their digests. */
#include <stdlib.h>
#include <string.h>

#include "digests.h"

enum { BUFFER_BYTES = CKPT_CHECK_BLOCKS * MST_BLOCK * 4 };

mst_status ckpt_checker_create(const mst_checkpoint_context *context, ckpt_checker *checker_out) {
    mst_status status = MST_OK;
    ckpt_checker checker = {.context = context};
    checker.buffer = malloc(BUFFER_BYTES);
    checker.found = malloc(CKPT_CHECK_BLOCKS * sizeof *checker.found);
    MST_CHECK(checker.buffer != NULL && checker.found != NULL, MST_ENOMEM,
              "checkpoint: no memory for a buffer of %d bytes", BUFFER_BYTES);
    *checker_out = checker;
    checker = (ckpt_checker){0};
done:
    ckpt_checker_clear(&checker);
    return status;
}

void ckpt_checker_clear(ckpt_checker *checker) {
    free(checker->buffer);
    free(checker->found);
    *checker = (ckpt_checker){0};
}

mst_status ckpt_checker_blocks(ckpt_checker *checker, const float *data, uint64_t count,
                               const mst_digest *expected, size_t *bad_out) {
    const mst_checkpoint_context *context = checker->context;
    size_t blocks = ckpt_blocks(count);
    for (size_t first = 0; first < blocks; first += CKPT_CHECK_BLOCKS) {
        size_t some = blocks - first < CKPT_CHECK_BLOCKS ? blocks - first : CKPT_CHECK_BLOCKS;
        uint64_t from = (uint64_t)first * MST_BLOCK, left = count - from, full = (uint64_t)some * MST_BLOCK;
        mst_block_digest_args args = {.count = (size_t)(left < full ? left : full),
                                      .dtype = MST_F32,
                                      .data = data + from,
                                      .digest = checker->found};
        mst_status status = context->kernels->block_digest(context->queue, &args);
        if (status == MST_OK) status = mst_queue_sync(context->queue);
        if (status != MST_OK) return status;
        ckpt_report(context, false);
        for (size_t i = 0; i < some; i++) {
            if (memcmp(&checker->found[i], &expected[first + i], sizeof *expected) == 0) continue;
            *bad_out = first + i;
            return MST_OK;
        }
    }
    *bad_out = blocks;
    return MST_OK;
}

mst_status ckpt_checker_stored(ckpt_checker *checker, const ckpt_file *file, uint64_t offset, uint64_t count,
                               const mst_digest *expected, size_t *bad_out) {
    mst_status status = MST_OK;
    const uint64_t most = (uint64_t)CKPT_CHECK_BLOCKS * MST_BLOCK;
    for (uint64_t first = 0; first < count; first += most) {
        uint64_t some = count - first < most ? count - first : most;
        size_t bad;
        MST_TRY(ckpt_file_read(file, checker->buffer, (size_t)some * 4, offset + first * 4));
        MST_TRY(ckpt_checker_blocks(checker, checker->buffer, some, expected + first / MST_BLOCK, &bad));
        *bad_out = (size_t)(first / MST_BLOCK) + bad;
        if (bad < ckpt_blocks(some)) goto done;
    }
done:
    return status;
}

/* Adds bytes [offset, end) of a file to a digest. */
static mst_status hash_range(const ckpt_file *file, uint64_t offset, uint64_t end, void *buffer,
                             mst_hasher *hasher) {
    mst_status status = MST_OK;
    while (offset < end) {
        size_t some = end - offset < BUFFER_BYTES ? (size_t)(end - offset) : BUFFER_BYTES;
        MST_TRY(ckpt_file_read(file, buffer, some, offset));
        MST_TRY(mst_hasher_update(hasher, buffer, some));
        offset += some;
    }
done:
    return status;
}

mst_status ckpt_outside_digest(const ckpt_file *file, uint64_t bytes, const mst_manifest_place *places,
                               size_t count, mst_digest *digest_out) {
    mst_status status = MST_OK;
    mst_hasher *hasher = NULL;
    void *buffer = malloc(BUFFER_BYTES);
    MST_CHECK(buffer != NULL, MST_ENOMEM, "checkpoint: no memory for a buffer of %d bytes", BUFFER_BYTES);
    MST_TRY(mst_hasher_create(&hasher));
    uint64_t at = 0;
    for (size_t i = 0; i < count; i++) {
        MST_TRY(hash_range(file, at, places[i].offset, buffer, hasher));
        at = places[i].offset + places[i].bytes;
    }
    MST_TRY(hash_range(file, at, bytes, buffer, hasher));
    MST_TRY(mst_hasher_finish(hasher, digest_out));
done:
    mst_hasher_destroy(&hasher);
    free(buffer);
    return status;
}

mst_status ckpt_file_digest(const ckpt_file *file, uint64_t offset, uint64_t bytes, mst_digest *digest_out) {
    const mst_manifest_place before = {.bytes = offset};
    return ckpt_outside_digest(file, offset + bytes, &before, 1, digest_out);
}
