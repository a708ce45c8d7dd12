/* Files as muster reads and writes them: whole, at an offset, there or not there at all; every message says the path, what
 * the system said and how much room is left. (Checkpoints have their own, below which tests make each call fail.) */
#ifndef MUSTER_FILES_H
#define MUSTER_FILES_H

#include <stddef.h>
#include <stdint.h>

#include "muster/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Reads exactly `bytes` bytes. @retval MST_EIO; MST_EFORMAT the file ends before */
mst_status mst_file_read(int fd, const char *path, uint64_t offset, void *buffer, size_t bytes);

/** Writes exactly `bytes` bytes. @retval MST_EIO, with the free space when the disk is full */
mst_status mst_file_write(int fd, const char *path, uint64_t offset, const void *buffer, size_t bytes);

/** The message of a failed write of `path` (errno `code`), with free space where that is the reason. */
mst_status mst_file_write_error(int fd, const char *path, int code);

/** Gives a file that is on the disk its name, in the place of one that may be there; on the disk on return. @retval MST_EIO */
mst_status mst_file_publish(const char *temporary, const char *path);

/** Writes a small file, all or nothing: temporary name beside it, fsync, rename, fsync of the folder.
 * @retval MST_EIO, with the free space when the disk is full; MST_ENOMEM */
mst_status mst_file_replace(const char *path, const void *bytes, size_t count);

/** The folder of a path ("." when there is none), for the caller to free. @retval MST_ENOMEM */
mst_status mst_folder_of(const char *path, char **folder_out);

/** The part of a path behind its last slash. */
const char *mst_base_name(const char *path);

/** A hidden name beside `path`, of this process, for a file in the making; freed by the caller. @retval MST_ENOMEM */
mst_status mst_name_beside(const char *path, char **name_out);

/** Forces a folder's entries to the disk, so that a rename survives a power cut. @retval MST_EIO */
mst_status mst_folder_sync(const char *folder);

/** Removes a folder and the files in it, as far as it can; it is for cleaning up, and leaves the error message alone. */
void mst_folder_discard(const char *path);

/** Makes a folder and those above it that are missing; their names are on the disk on return. @retval MST_EIO, MST_ENOMEM */
mst_status mst_folder_make(const char *path);

#ifdef __cplusplus
}
#endif
#endif
