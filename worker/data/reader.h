/* What an open mst_data is made of. Private to the room. */
#ifndef MUSTER_DATA_READER_H
#define MUSTER_DATA_READER_H

#include "foreign.h"
#include "index.h"

typedef struct source {
    char *path;               /* as it was named */
    source_file file[SPLITS]; /* HELDOUT: open only where that split has a file of its own */
    token_index index;
    bool is_foreign; /* of another trainer: its tokenizer is what mst_data_config says */
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

/** Reads data->lengths and data->json, where the files or the config say what tokens stand for.
 * @retval MST_EIO; MST_EFORMAT; MST_ENOMEM */
mst_status reader_tokenizer(const mst_data_config *config, mst_data *data);

#endif
