/* SHA-256, as used in checkpoints and data files, and XXH3 where damage must be found at the speed of memory. */
#ifndef MUSTER_DIGEST_H
#define MUSTER_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#include "muster/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MST_DIGEST_BYTES = 32, MST_DIGEST_HEX = 65 /* with the final NUL */ };

typedef struct mst_digest {
    uint8_t bytes[MST_DIGEST_BYTES];
} mst_digest;

typedef struct mst_hasher mst_hasher;

/** XXH3 of one piece of memory: 64 bits, seed 0. Finds damage, not intent. */
uint64_t mst_checksum_of(const void *data, size_t bytes);

/** Digest of one piece of memory. @retval MST_ELIBRARY libcrypto failed */
mst_status mst_digest_of(const void *data, size_t bytes, mst_digest *digest_out);

/** A digest computed piece by piece. Create, update any number of times, then finish;
 * destroy frees and resets. */
mst_status mst_hasher_create(mst_hasher **hasher_out);
mst_status mst_hasher_update(mst_hasher *hasher, const void *data, size_t bytes);
/** Gives the digest of all pieces and makes the hasher ready for a new one. */
mst_status mst_hasher_finish(mst_hasher *hasher, mst_digest *digest_out);
void mst_hasher_destroy(mst_hasher **hasher);

/** Writes 64 lower-case hexadecimal digits and a NUL. */
void mst_digest_to_hex(const mst_digest *digest, char hex_out[MST_DIGEST_HEX]);

/** @retval MST_EFORMAT not exactly 64 hexadecimal digits */
mst_status mst_digest_from_hex(const char *hex, mst_digest *digest_out);

#ifdef __cplusplus
}
#endif
#endif
