/* Files of the room: every system call goes through one table, every error names the
 * path, the place and the reason. */
#ifndef CHECKPOINT_FILE_H
#define CHECKPOINT_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "context.h"
#include "muster/status.h"

enum { CKPT_PATH_MAX = 4096 };

/* The seam at which a test makes the Nth call fail. Nothing else writes to it. */
typedef struct ckpt_calls {
    int (*open)(const char *path, int flags, mode_t mode);
    int (*close)(int fd);
    ssize_t (*pread)(int fd, void *buffer, size_t bytes, off_t offset);
    ssize_t (*pwrite)(int fd, const void *buffer, size_t bytes, off_t offset);
    int (*ftruncate)(int fd, off_t bytes);
    int (*fsync)(int fd);
    int (*mkdir)(const char *path, mode_t mode);
    int (*rename)(const char *from, const char *to);
    int (*exchange)(const char *one,
                    const char *other); /* both names change places at once, where the file system can */
    int (*unlink)(const char *path);
    int (*rmdir)(const char *path);
} ckpt_calls;
extern ckpt_calls ckpt_system;

typedef struct ckpt_file {
    int fd;     /* -1: not open */
    int direct; /* the same file, past the page cache; -1: through it only */
    char path[CKPT_PATH_MAX];
    const mst_checkpoint_context *context; /* told of progress; not owned, may be NULL */
} ckpt_file;

#define CKPT_FILE_CLOSED(of) ((ckpt_file){.fd = -1, .direct = -1, .context = (of)})

/** Joins folder and name. @param path_out [CKPT_PATH_MAX] @retval MST_EINVAL too long */
mst_status ckpt_path_join(const char *folder, const char *name, char *path_out);

/** Creates a new file for reading and writing. @retval MST_EIO, also when it exists */
mst_status ckpt_file_create(const char *folder, const char *name, ckpt_file *file_out);
mst_status ckpt_file_create_path(const char *path, ckpt_file *file_out);
/** Opens a regular file for reading. @retval MST_EIO */
mst_status ckpt_file_open(const char *folder, const char *name, ckpt_file *file_out);
mst_status ckpt_file_open_path(const char *path, ckpt_file *file_out);
/** From now on whole pages that lie on page boundaries, in the file and in memory, are written and read back past the page cache
 * where the system can: nothing is copied, and no memory fills with what nobody will look at. Where it cannot, nothing changes. */
void ckpt_file_bypass(ckpt_file *file);
mst_status ckpt_file_size(const ckpt_file *file, uint64_t *bytes_out);
/** Reads exactly `bytes`. @retval MST_EIO, MST_EFORMAT the file ends before */
mst_status ckpt_file_read(const ckpt_file *file, void *buffer, size_t bytes, uint64_t offset);
/** As ckpt_file_read, of what was synced: read from there, not from the page cache, where the system can, or listens to
 * hints. @param buffer at a page boundary, with room for whole pages, and `offset` at one: else it is the latter */
mst_status ckpt_file_read_back(const ckpt_file *file, void *buffer, size_t bytes, uint64_t offset);
/** Writes all of it. Now and then it waits until what was written is on the disk,
 * so that no single fsync takes long. */
mst_status ckpt_file_write(const ckpt_file *file, const void *buffer, size_t bytes, uint64_t offset);
mst_status ckpt_file_resize(const ckpt_file *file, uint64_t bytes);
/** Waits until the file's content is on the disk. */
mst_status ckpt_file_sync(const ckpt_file *file);
/** After ckpt_file_sync: what is read next comes from the disk, where the system listens to such hints. */
void ckpt_file_forget(const ckpt_file *file);
/** Closes; accepts a closed one. The error matters after writing: NFS may report a full disk only here. */
mst_status ckpt_file_close(ckpt_file *file);

/** Makes a folder and those above it that are missing; their names are on the disk on return. */
mst_status ckpt_folder_make(const char *path);
/** Waits until the names in a folder are on the disk. */
mst_status ckpt_folder_sync(const char *path);
mst_status ckpt_rename(const char *from, const char *to);
/** Removes a folder and the files in it as far as it can.
 * Leaves the error message alone: it is for cleaning up. */
void ckpt_folder_discard(const char *path);

/** Whether something has this name. What the system cannot tell counts as a yes: using it then fails, with the reason. */
bool ckpt_exists(const char *path);
/** Whether it is a regular file. */
bool ckpt_is_file(const char *path);

/** Records an error of `operation` on `path` with errno's text, and what is free where the disk is full.
 * @retval MST_EIO */
mst_status ckpt_errno(int error, const char *operation, const char *path);

#endif
