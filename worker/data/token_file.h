/* Writing a whole token file, and checking one. */
#ifndef MUSTER_DATA_TOKEN_FILE_H
#define MUSTER_DATA_TOKEN_FILE_H

#include "index.h"
#include "spill.h"

/* What a split's arrays are filled from. */
typedef struct split_content {
    spill tokens, documents; /* as split_index */
    spill loss_mask;         /* only where the index says that there is one */
} split_content;

/* A tokenizer's arrays, not owned; all zero for bytes. */
typedef struct tokenizer_content {
    const char *json;
    size_t json_bytes;
    const uint32_t *lengths; /* [vocab_size] */
} tokenizer_content;

/**
 * Writes a token file, all or nothing: under a temporary name beside `output`, synced, read again and
 * compared, then renamed.
 *
 * After a failure there is no temporary file, and a former output is as it was.
 * @param index vocabulary, tokenizer and has_loss_mask in; counts, offsets and digests out
 * @retval MST_EIO, with the free space when the disk is full; MST_EHDF5; MST_EFORMAT the disk
 * gave back other bytes; MST_ENOMEM
 */
mst_status token_file_write(const char *output, split_content content[SPLITS],
                            const tokenizer_content *tokenizer, const index_notes *notes, token_index *index);

/** Reads all of a file and compares it with its index: digests, tokens, document offsets.
 * @retval MST_EIO; MST_EFORMAT */
mst_status token_file_verify(int fd, const char *path, const token_index *index);

#endif
