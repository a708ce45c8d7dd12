/* A file that a command writes: refused early where it cannot be written, and there whole or not at all. */
#ifndef CLI_OUTPUT_H
#define CLI_OUTPUT_H

#include <stddef.h>

#include "muster/status.h"

/** Tries whether a file could be written, before the work for it begins; leaves nothing behind.
 * @retval MST_ECONFIG no name, or that of a folder or of something else that is no file; MST_EIO; MST_ENOMEM */
mst_status cli_output_check(const char *path);

/**
 * Writes a file: temporary name beside it, write, fsync, rename, fsync of the folder.
 *
 * After a failure, and after an interrupt, a former file is as it was and no other is left.
 * @retval MST_EIO, MST_ENOMEM
 */
mst_status cli_output_write(const char *path, const void *bytes, size_t count);

/** Writes a file of this name, which does not exist, and brings it to the disk. */
typedef mst_status cli_output_fn(void *context, const char *temporary);

/**
 * The same for a file that takes its time: `make` writes it under a temporary name. An interrupt ends the process at once; the
 * temporary file is removed.
 */
mst_status cli_output_make(const char *path, cli_output_fn *make, void *context);

/** Whether a new folder of this name can be made: there is nothing, or an empty folder. @retval MST_ECONFIG */
mst_status cli_output_folder_check(const char *path);

/** Fills the folder `temporary`, which is there and empty, and brings its files to the disk; looks now and then whether it is to
 * stop: cli_output_interrupted. */
typedef mst_status cli_output_folder_fn(void *context, const char *temporary);

/**
 * The same for a folder: it appears whole or not at all. After a failure and after an interrupt nothing is left of it; an interrupt
 * then ends the process.
 */
mst_status cli_output_make_folder(const char *path, cli_output_folder_fn *make, void *context);

/** MST_OK, until a signal wants the process to end: then an error, which ends the work. */
mst_status cli_output_interrupted(void);

#endif
