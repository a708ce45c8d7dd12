/* What an open mst_data is made of. Private to the room. */
#ifndef MUSTER_DATA_READER_H
#define MUSTER_DATA_READER_H

#include "foreign.h"
#include "index.h"
#include "packing.h"

typedef struct source {
    char *path;               /* as it was named */
    source_file file[SPLITS]; /* HELDOUT: open only where that split has a file of its own */
    token_index index;
    bool is_foreign;        /* of another trainer: its tokenizer is what mst_data_config says */
    packing packed[SPLITS]; /* all zero where samples are pieces of the stream */
} source;

/* A sample's place in a file. */
typedef struct token_place {
    const source *from;
    uint64_t epoch, first_token;
} token_place;

/* Where a sample goes, [seq_len] each. */
typedef struct sample_buffers {
    int32_t *tokens, *targets;
    int32_t *starts; /* of packed samples only */
} sample_buffers;

struct mst_data {
    size_t source_count, seq_len;
    uint64_t seed;
    mst_packing packing;
    source *sources;           /* [source_count] */
    uint64_t *samples[SPLITS]; /* [source_count] whole samples of each source */
    uint32_t *first_slot;      /* [source_count + 1] */
    void *tokens;              /* [seq_len + 1] as they lie in the file */
    uint8_t *mask;             /* [seq_len + 1] */
    uint32_t *lengths;         /* [vocab] bytes of text of a token; NULL: not known */
    char *json;                /* tokenizer.json, where foreign sources were given one; NUL behind */
    size_t json_bytes;
    mst_digest digest;
};

/** The file that a split's tokens lie in. */
const source_file *source_file_of(const source *s, mst_split split);

/** Opens a source, muster's own or another trainer's, and fills in its index.
 * @param s zero; cleared by source_close, also after a failure @retval as mst_data_open */
mst_status source_open(const mst_data_config *config, size_t number, source *s);
void source_close(source *s);

/** Whether two sources may be mixed. @retval MST_ECONFIG */
mst_status source_compare(const source *first, const source *s);

/** Reads `count` tokens from a place on, and their targets, which are one further.
 * @param tokens_out, targets_out [count], count at most seq_len @retval MST_EIO; MST_EFORMAT */
mst_status reader_read(mst_data *data, mst_split split, const token_place *at, size_t count,
                       int32_t *tokens_out, int32_t *targets_out);

/** Reads data->lengths and data->json, where the files or the config say what tokens stand for.
 * @retval MST_EIO; MST_EFORMAT; MST_ENOMEM */
mst_status reader_tokenizer(const mst_data_config *config, mst_data *data);

#endif
