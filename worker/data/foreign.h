/*
 * Token files of other trainers, read in place: each is one stream of tokens somewhere in a file. What they say is
 * not trusted. docs/data-format.md has them one by one, with what is refused.
 */
#ifndef MUSTER_DATA_FOREIGN_H
#define MUSTER_DATA_FOREIGN_H

#include "muster/data.h"

/* A file that tokens are read from, and where they lie in it. Of muster's own token files, whose index says the rest, only
 * the first three are set. Cleared by source_file_close; all zero is closed. */
typedef struct source_file {
    char *path; /* NULL: closed. Megatron's .bin, whichever name was given */
    int fd;
    uint64_t bytes;
    size_t token_bytes; /* 2, 4 or 8; little-endian. A negative number is outside every vocabulary */
    uint64_t count, offset;
    mst_digest digest; /* of a sample of the tokens' bytes: foreign.c says of which */
} source_file;

/** Opens a regular file; the path is copied. @param file_out closed after a failure, too @retval MST_EIO; MST_ENOMEM */
mst_status source_file_open(const char *path, source_file *file_out);
void source_file_close(source_file *file);

/**
 * Opens another trainer's file by what its first bytes say, or by `type` where they say nothing.
 *
 * Memory: about a MiB, whatever the file says; Megatron's index is read once, in pieces.
 * @param file_out closed by source_file_close, also after a failure
 * @retval MST_EIO; MST_EFORMAT damaged, or no file of tokens; MST_EUNSUPPORTED a layout that is not read; MST_ENOMEM
 */
mst_status foreign_open(const char *path, mst_token_type type, source_file *file_out);

/** numpy's .npy, versions 1 to 3: the type, and where the array lies. @retval as foreign_open */
mst_status foreign_numpy(source_file *file);
bool foreign_is_numpy(const uint8_t *begin, size_t count);

/** Checks Megatron's index against its .bin, and finds the type of the tokens. @retval as foreign_open */
mst_status foreign_megatron(const source_file *index, source_file *bin);
bool foreign_is_megatron(const uint8_t *begin, size_t count);

#endif
