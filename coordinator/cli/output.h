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

#endif
