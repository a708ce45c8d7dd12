/*
 * A growing array on disk: where tokens wait until their number is known. The file has no name, so that
 * nothing is left behind however the process ends. Memory: one fixed buffer.
 */
#ifndef MUSTER_DATA_SPILL_H
#define MUSTER_DATA_SPILL_H

#include <stddef.h>
#include <stdint.h>

#include "muster/status.h"

typedef struct spill {
    char *name; /* for messages; NULL while not initialised */
    int fd;
    uint64_t flushed; /* bytes that lie in the file */
    uint8_t *buffer;  /* what follows them */
    size_t buffered;
} spill;

/** Makes an empty, nameless file in `folder`. A zeroed spill may be cleared without.
 * @retval MST_EIO, MST_ENOMEM */
mst_status spill_init(spill *s, const char *folder);
void spill_clear(spill *s);

uint64_t spill_bytes(const spill *s);

/** @retval MST_EIO, with the free space when the disk is full */
mst_status spill_append(spill *s, const void *data, size_t bytes);

/** Takes back everything behind the first `bytes` bytes. */
void spill_cut(spill *s, uint64_t bytes);

/** Reads exactly `bytes` bytes at `offset`. */
mst_status spill_read(spill *s, uint64_t offset, void *buffer, size_t bytes);

#endif
