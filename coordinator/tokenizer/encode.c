/* From text to tokens: added tokens, normalization, words, merges. */
#include <string.h>

#include "lists.h"
#include "normalize.h"
#include "state.h"

typedef struct encoding {
    mst_tokenizer *t;
    bool plain;
    mst_token_list *tokens;
} encoding;

static mst_status append(mst_token_list *tokens, const int32_t *more, size_t count) {
    mst_status status = token_list_reserve(tokens, count);
    if (status != MST_OK || count == 0) return status;
    memcpy(tokens->at + tokens->count, more, count * sizeof *more);
    tokens->count += count;
    return MST_OK;
}

static mst_status encode_word(void *context, const uint8_t *word, size_t count) {
    encoding *e = context;
    return bpe_encode(e->t->model, word, count, e->tokens);
}

/* What is done with a text between two added tokens. */
typedef mst_status between_fn(encoding *e, const uint8_t *text, size_t count);

/* Text without added tokens. */
static mst_status encode_words(encoding *e, const uint8_t *text, size_t count) {
    return pretokenizer_walk(e->t->words, text, count, encode_word, e);
}

/* Finds the added tokens of a set, and hands the rest on. */
static mst_status encode_added(encoding *e, const added_set *set, const uint8_t *text, size_t count,
                               between_fn *between) {
    added_search search = {0};
    added_piece piece;
    mst_status status = MST_OK;
    if (e->plain) return between(e, text, count);
    while (status == MST_OK && added_next(set, text, count, &search, &piece))
        status = piece.id >= 0 ? append(e->tokens, &piece.id, 1)
                               : between(e, text + piece.start, piece.end - piece.start);
    return status;
}

/* Text without the added tokens that are looked for before normalization. */
static mst_status encode_raw(encoding *e, const uint8_t *text, size_t count) {
    mst_byte_list *scratch = &e->t->scratch;
    if (e->t->nfc && !normalize_is_plain(text, count)) {
        scratch->count = 0;
        mst_status status = normalize_nfc(text, count, scratch);
        if (status != MST_OK) return status;
        text = scratch->at;
        count = scratch->count;
    }
    return encode_added(e, &e->t->normalized_added, text, count, encode_words);
}

mst_status mst_tokenizer_encode(mst_tokenizer *tokenizer, const uint8_t *bytes, size_t count,
                                const mst_encode_options *options, mst_token_list *tokens) {
    encoding e = {.t = tokenizer, .plain = options->plain, .tokens = tokens};
    size_t before = tokens->count;
    mst_status status = MST_OK;
    if (options->affixes) status = append(tokens, tokenizer->prefix.at, tokenizer->prefix.count);
    if (status == MST_OK) status = encode_added(&e, &tokenizer->added, bytes, count, encode_raw);
    if (status == MST_OK && options->affixes)
        status = append(tokens, tokenizer->suffix.at, tokenizer->suffix.count);
    if (status != MST_OK) tokens->count = before; /* nothing half-done */
    return status;
}
