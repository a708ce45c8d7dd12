/* What an open mst_data is made of. Private to the room. */
#ifndef MUSTER_DATA_READER_H
#define MUSTER_DATA_READER_H

#include "index.h"

typedef struct source {
    char *path;
    int fd;
    token_index index;
} source;

struct mst_data {
    size_t source_count, seq_len;
    uint64_t seed;
    source *sources;           /* [source_count] */
    uint64_t *samples[SPLITS]; /* [source_count] whole samples of each source */
    uint32_t *first_slot;      /* [source_count + 1] */
    void *tokens;              /* [seq_len + 1] as they lie in the file */
    uint8_t *mask;             /* [seq_len + 1] */
    uint32_t *lengths;         /* [vocab] bytes of text of a token; NULL: not known */
    mst_digest digest;
};

/** Reads data->lengths, where the files say how many bytes each token stands for.
 * @retval MST_EIO; MST_EFORMAT; MST_ENOMEM */
mst_status reader_lengths(mst_data *data);

#endif
