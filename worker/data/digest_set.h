/* A set of document digests, 16 bytes each: has this document been seen before? */
#ifndef MUSTER_DATA_DIGEST_SET_H
#define MUSTER_DATA_DIGEST_SET_H

#include <stdbool.h>

#include "muster/digest.h"

/* The first half of a SHA-256; the chance that two of 10^9 different documents share it is below 10^-20. */
typedef struct digest_key {
    uint64_t low, high; /* not both 0, which marks an empty slot */
} digest_key;

/* Open addressing, at most two thirds full. A zeroed set is empty. */
typedef struct digest_set {
    digest_key *slots;
    size_t slot_count, used; /* slot_count is 0 or a power of two */
} digest_set;

/** Adds a digest; *new_out says whether it was not there. @retval MST_ENOMEM */
mst_status digest_set_add(digest_set *set, const mst_digest *digest, bool *new_out);
void digest_set_clear(digest_set *set);

#endif
