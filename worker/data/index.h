/*
 * The index of a token file: one line and a JSON text at the file's start, in the user block, where h5py and
 * HDF5 look past it. It says where every dataset lies, so that a reader needs pread and no HDF5.
 * docs/data-format.md has the format byte by byte.
 */
#ifndef MUSTER_DATA_INDEX_H
#define MUSTER_DATA_INDEX_H

#include <jansson.h>

#include "muster/data.h"

enum { SPLITS = 2 };

/* How every token file of muster begins, of whatever version. */
#define INDEX_NAME "muster tokens "
enum { INDEX_NAME_BYTES = sizeof INDEX_NAME - 1 };

/* A contiguous array in the file. */
typedef struct array_index {
    uint64_t count, offset; /* elements; absolute position in the file, in bytes (0 when count is 0) */
    mst_digest digest;      /* SHA-256 of its bytes */
} array_index;

typedef struct split_index {
    array_index tokens;    /* uint16 or uint32 */
    array_index documents; /* uint64 [documents + 1]: where each begins in tokens, then where the last ends */
    array_index loss_mask; /* uint8 [tokens], 0: not a target; only if has_loss_mask */
    bool has_loss_mask;
} split_index;

/* How text became tokens. */
typedef struct tokenizer_index {
    mst_digest digest;   /* names the tokenizer */
    int32_t end;         /* the token that ends a document; -1: not said (a file of another program) */
    bool is_bytes;       /* the byte tokenizer, which has no arrays */
    bool has_json;       /* Hugging Face's format */
    array_index json;    /* uint8: tokenizer.json, whose digest is the tokenizer's */
    array_index lengths; /* uint32 [vocab_size]: bytes of text that a token stands for */
} tokenizer_index;

/* Of another trainer's file: without documents, and the tokens' digest is of a sample. */
typedef struct token_index {
    size_t token_bytes; /* 2 or 4; of another trainer's file also 8 */
    uint64_t vocab_size;
    tokenizer_index tokenizer;
    char heldout_seed[24]; /* decimal; with the fraction it decides which documents are held out */
    double heldout_fraction;
    split_index split[SPLITS];
} token_index;

/* What else a build records, for people; the reader does not use it. */
typedef struct index_notes {
    uint64_t seed;
    double heldout_fraction;
    const char *text_field;
    json_t *sources;           /* array of {name, bytes, sha256}; not owned */
    const char *template_name; /* what made texts of conversations; NULL: there was nothing of the kind */
    mst_digest template_digest;
} index_notes;

/** "train" or "heldout". */
const char *index_split_name(mst_split split);

/** The token type that holds a vocabulary: 2 or 4 bytes. */
size_t index_token_bytes(uint64_t vocab_size);

/** Renders the line and the JSON, with a NUL behind; the caller frees it. @retval MST_ENOMEM */
mst_status index_render(const token_index *index, const index_notes *notes, char **text_out);

/**
 * Reads the index of an open file and checks it against the file: every array lies inside it.
 * @retval MST_EIO; MST_EFORMAT with file, field and value; MST_EUNSUPPORTED a newer version
 */
mst_status index_read(int fd, const char *path, token_index *index_out);

/** SHA-256 that names what a reader gets from the file:
 * vocabulary, tokenizer and arrays, not where they lie. */
mst_status index_content_digest(const token_index *index, mst_digest *digest_out);

#endif
