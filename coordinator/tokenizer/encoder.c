/* A tokenizer at work for token files. */
#include <stdlib.h>

#include "muster/tokenizer.h"

typedef struct encoder {
    mst_encoder offer; /* first: what the caller holds is this one */
    mst_tokenizer *tokenizer;
    mst_token_list tokens;
    uint32_t *lengths;
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

static mst_status fill(encoder *e, const char *end) {
    mst_status status = MST_OK;
    mst_encoder *offer = &e->offer;
    const size_t vocab = mst_tokenizer_vocab_size(e->tokenizer);
    size_t bytes = 0;
    bool special = false;
    offer->end = end != NULL ? mst_tokenizer_id(e->tokenizer, end) : mst_tokenizer_end(e->tokenizer);
    MST_CHECK(offer->end >= 0 || end == NULL, MST_ECONFIG, "the tokenizer has no token '%s'", end);
    MST_CHECK(
        offer->end >= 0, MST_ECONFIG,
        "the tokenizer has none of the usual names for the token that ends a document; name it with --end");
    (void)mst_tokenizer_piece(e->tokenizer, offer->end, &bytes, &special);
    MST_CHECK(special, MST_ECONFIG, "'%s' is a token of text, not a special one that could end a document",
              end);
    e->lengths = calloc(vocab, sizeof *e->lengths);
    MST_CHECK(e->lengths != NULL, MST_ENOMEM, "no memory for a vocabulary of %zu", vocab);
    for (size_t id = 0; id < vocab; id++) {
        const uint8_t *piece = mst_tokenizer_piece(e->tokenizer, (int32_t)id, &bytes, &special);
        e->lengths[id] = piece == NULL || special ? 0 : (uint32_t)bytes;
    }
    offer->encode = encode;
    offer->vocab_size = vocab;
    offer->json = mst_tokenizer_json(e->tokenizer, &offer->json_bytes);
    offer->lengths = e->lengths;
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
    free(e->lengths);
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
