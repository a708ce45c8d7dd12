/* Digests of stored bytes that are not blocks. */
#include <stdlib.h>

#include "digests.h"

enum { BUFFER_BYTES = 4 << 20 };

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
