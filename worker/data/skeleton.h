/* The HDF5 side of a token file: datasets without content, whose bytes the builder then writes itself. */
#ifndef MUSTER_DATA_SKELETON_H
#define MUSTER_DATA_SKELETON_H

#include "index.h"

/**
 * Makes an HDF5 file of groups and contiguous, unfiltered, page-aligned datasets, with
 * `user_block` bytes free at its start.
 *
 * HDF5 allocates the datasets and writes nothing into them: the builder writes with pwrite, whose errors can
 * be told (a full disk, above all) and whose bytes it hashes on the way. The same index gives the same bytes.
 * Not thread-safe (HDF5 is not).
 * @param path an existing file, which is overwritten
 * @param user_block bytes, a power of two of at least 512
 * @param index counts in; offsets out
 * @retval MST_EHDF5
 */
mst_status skeleton_create(const char *path, uint64_t user_block, token_index *index);

#endif
