/* Whole reads and writes at an offset, with messages that say what the system
 * said and how much space is left. */
#ifndef MUSTER_DATA_IO_H
#define MUSTER_DATA_IO_H

#include <stddef.h>
#include <stdint.h>

#include "muster/status.h"

/** Reads exactly `bytes` bytes. @retval MST_EIO; MST_EFORMAT the file ends before */
mst_status io_read(int fd, const char *path, uint64_t offset, void *buffer, size_t bytes);

/** Writes exactly `bytes` bytes. @retval MST_EIO, with the free space when the disk is full */
mst_status io_write(int fd, const char *path, uint64_t offset, const void *buffer, size_t bytes);

/** The message of a failed write of `path` (errno `code`), with free space where that is the reason. */
mst_status io_write_error(int fd, const char *path, int code);

/** Forces a folder's entries to the disk, so that a rename survives a power cut. @retval MST_EIO */
mst_status io_sync_folder(const char *folder);

/** The folder of a path ("." when there is none), for the caller to free. @retval MST_ENOMEM */
mst_status io_folder_of(const char *path, char **folder_out);

/** The part of a path behind its last slash. */
const char *io_base_name(const char *path);

/** Writes a small file, all or nothing: temporary name beside it, fsync, rename, fsync of the folder.
 * @retval MST_EIO, with the free space when the disk is full; MST_ENOMEM */
mst_status io_write_whole(const char *path, const void *bytes, size_t count);

#endif
