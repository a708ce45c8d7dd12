/* A tokenizer at work for token files. */
#include <stdlib.h>

#include "muster/tokenizer.h"

typedef struct encoder {
    mst_encoder offer; /* first: what the caller holds is this one */
    mst_tokenizer *tokenizer;
    mst_token_list tokens;
} encoder;

static mst_status encode(void *context, const uint8_t *bytes, size_t count, const int32_t **tokens_out,
                         size_t *count_out) {
    encoder *e = context;
    const mst_encode_options options = {.plain = true};
    e->tokens.count = 0;
    mst_status status = mst_tokenizer_encode(e->tokenizer, bytes, count, &options, &e->tokens);
    *tokens_out = e->tokens.at;
    *count_out = e->tokens.count;
    return status;
}

mst_status mst_tokenizer_vocabulary(const mst_tokenizer *tokenizer, mst_vocabulary *vocabulary_out) {
    mst_status status = MST_OK;
    const size_t size = mst_tokenizer_vocab_size(tokenizer);
    uint32_t *lengths = calloc(size, sizeof *lengths);
    *vocabulary_out = (mst_vocabulary){.size = size, .end = mst_tokenizer_end(tokenizer), .lengths = lengths};
    MST_CHECK(lengths != NULL, MST_ENOMEM, "no memory for a vocabulary of %zu", size);
    for (size_t id = 0; id < size; id++) {
        size_t bytes = 0;
        bool special = false;
        const uint8_t *piece = mst_tokenizer_piece(tokenizer, (int32_t)id, &bytes, &special);
        lengths[id] = piece == NULL || special ? 0 : (uint32_t)bytes;
    }
    vocabulary_out->json = mst_tokenizer_json(tokenizer, &vocabulary_out->json_bytes);
done:
    return status;
}

void mst_tokenizer_vocabulary_clear(mst_vocabulary *vocabulary) {
    free((void *)(uintptr_t)vocabulary->lengths); /* the data room sees them as const */
    *vocabulary = (mst_vocabulary){0};
}

static mst_status fill(encoder *e, const char *end) {
    mst_status status = MST_OK;
    mst_vocabulary *vocabulary = &e->offer.vocabulary;
    size_t bytes = 0;
    bool special = false;
    e->offer.encode = encode;
    MST_TRY(mst_tokenizer_vocabulary(e->tokenizer, vocabulary));
    if (end != NULL) vocabulary->end = mst_tokenizer_id(e->tokenizer, end);
    MST_CHECK(vocabulary->end >= 0 || end == NULL, MST_ECONFIG, "the tokenizer has no token '%s'", end);
    MST_CHECK(
        vocabulary->end >= 0, MST_ECONFIG,
        "the tokenizer has none of the usual names for the token that ends a document; name it with --end");
    (void)mst_tokenizer_piece(e->tokenizer, vocabulary->end, &bytes, &special);
    MST_CHECK(special, MST_ECONFIG, "'%s' is a token of text, not a special one that could end a document",
              end);
done:
    return status;
}

mst_status mst_tokenizer_encoder(mst_tokenizer *tokenizer, const char *end, mst_encoder **encoder_out) {
    encoder *e = calloc(1, sizeof *e);
    *encoder_out = NULL;
    if (e == NULL) return mst_error(MST_ENOMEM, "no memory for an encoder");
    e->tokenizer = tokenizer;
    e->offer.context = e;
    mst_encoder *offer = &e->offer;
    mst_status status = fill(e, end);
    if (status != MST_OK)
        mst_tokenizer_encoder_destroy(&offer);
    else
        *encoder_out = offer;
    return status;
}

void mst_tokenizer_encoder_destroy(mst_encoder **offer) {
    encoder *e = *offer != NULL ? (*offer)->context : NULL;
    *offer = NULL;
    if (e == NULL) return;
    free(e->tokens.at);
    mst_tokenizer_vocabulary_clear(&e->offer.vocabulary);
    free(e);
}

mst_status mst_tokenizer_of_data(const mst_data *data, mst_tokenizer **tokenizer_out) {
    mst_data_tokenizer kind;
    char *json = NULL;
    size_t bytes = 0;
    *tokenizer_out = NULL;
    mst_data_tokenizer_of(data, &kind);
    if (kind.is_bytes) return mst_tokenizer_bytes(tokenizer_out);
    if (!kind.has_json)
        return mst_error(MST_EUNSUPPORTED, "the token files do not say by which tokenizer they were made");
    mst_status status = mst_data_tokenizer_json(data, &json, &bytes);
    if (status == MST_OK) status = mst_tokenizer_parse(json, bytes, "the data's tokenizer", tokenizer_out);
    free(json);
    return status;
}
