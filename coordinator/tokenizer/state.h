/* A tokenizer, whole. Private to the room. */
#ifndef TOKENIZER_STATE_H
#define TOKENIZER_STATE_H

#include "added.h"
#include "bpe.h"
#include "muster/tokenizer.h"
#include "pretokenize.h"
#include "vocab.h"

/* Bytes of a file: the largest published ones have 34 MB. As a tree of JSON values a hostile one takes some 40 times as much. */
enum { TOKENIZER_JSON_MAX = 1 << 26 };

struct mst_tokenizer {
    char *json;
    size_t json_bytes;
    vocab tokens;
    bpe *model;
    pretokenizer *words;
    bool nfc;
    added_set added, normalized_added; /* looked for before and after normalization */
    mst_token_list prefix, suffix;     /* what the post-processor adds */
    mst_byte_list scratch;             /* normalized text */
};

#endif
