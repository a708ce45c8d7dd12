/* The bytes of a file, plain or unpacked from .gz or .zst, read piece by piece. */
#ifndef MUSTER_DATA_STREAM_H
#define MUSTER_DATA_STREAM_H

#include "muster/digest.h"

typedef struct stream stream;

/** Opens a regular file; its name's ending (.gz, .zst) says how it is packed. @retval MST_EIO, MST_ENOMEM; MST_EUNSUPPORTED Parquet */
mst_status stream_open(const char *path, stream **stream_out);
void stream_close(stream **s);

/**
 * Reads up to `capacity` bytes; 0 in *bytes_out means the end, and that what was packed was whole.
 * @retval MST_EIO; MST_EFORMAT damaged or cut .gz or .zst, with the file's name
 */
mst_status stream_read(stream *s, void *buffer, size_t capacity, size_t *bytes_out);

/** After the end: size and SHA-256 of the file as it lies on the disk. */
mst_status stream_finish(stream *s, uint64_t *bytes_out, mst_digest *digest_out);

#endif
