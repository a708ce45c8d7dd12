/* The one place where text becomes tokens and tokens become text. */
#include <stdlib.h>
#include <string.h>

#include "inference_state.h"
#include "muster/checkpoint.h"
#include "muster/data.h"

mst_status inference_open_tokenizer(mst_inference *x) {
    char *json = NULL;
    size_t bytes = 0;
    mst_status status = mst_checkpoint_tokenizer(x->path, &json, &bytes);
    if (status == MST_OK)
        status = json != NULL ? mst_tokenizer_parse(json, bytes, "the checkpoint's tokenizer", &x->tokenizer)
                              : mst_tokenizer_bytes(&x->tokenizer);
    x->bytes_are_tokens = json == NULL;
    x->text_is_known = json != NULL || x->model_config.vocab_size == MST_BYTE_VOCAB;
    free(json);
    return status;
}

mst_status inference_check_tokenizer(const mst_inference *x, const mst_data *data) {
    mst_status status = MST_OK;
    mst_data_tokenizer theirs;
    mst_digest ours;
    size_t bytes = 0;
    const char *json = mst_tokenizer_json(x->tokenizer, &bytes);
    mst_data_tokenizer_of(data, &theirs);
    if (!x->text_is_known) return MST_OK;                    /* the checkpoint does not say */
    if (!theirs.is_bytes && !theirs.has_json) return MST_OK; /* the data does not say */
    MST_TRY(mst_digest_of(json, bytes, &ours));
    bool same = x->bytes_are_tokens ? theirs.is_bytes
                                    : theirs.has_json && memcmp(&ours, &theirs.digest, sizeof ours) == 0;
    MST_CHECK(same, MST_ECONFIG,
              "the data was made with another tokenizer than the model was trained with; build it with %s",
              x->bytes_are_tokens ? "bytes" : "the checkpoint's tokenizer.json");
done:
    return status;
}

mst_status mst_inference_encode(mst_inference *inference, const uint8_t *bytes, size_t count,
                                mst_token_list *tokens_out) {
    const mst_encode_options options = {.plain = false};
    *tokens_out = (mst_token_list){0};
    return mst_tokenizer_encode(inference->tokenizer, bytes, count, &options, tokens_out);
}

const uint8_t *mst_inference_piece(const mst_inference *inference, int32_t token, size_t *bytes_out) {
    bool special = false;
    const uint8_t *piece = mst_tokenizer_piece(inference->tokenizer, token, bytes_out, &special);
    if (piece == NULL || special) *bytes_out = 0;
    return *bytes_out > 0 ? piece : NULL;
}

mst_tokenizer *mst_inference_tokenizer(const mst_inference *inference) {
    return inference->tokenizer;
}

bool mst_inference_bytes_are_tokens(const mst_inference *inference) {
    return inference->bytes_are_tokens;
}

bool mst_inference_text_is_known(const mst_inference *inference) {
    return inference->text_is_known;
}

mst_status mst_inference_take_tokenizer(mst_inference *x, const char *name) {
    mst_status status = MST_OK;
    mst_tokenizer *tokenizer = NULL;
    MST_CHECK(x->bytes_are_tokens, MST_ECONFIG, "%s holds the tokenizer that it was trained with", x->path);
    if (strcmp(name, "bytes") == 0)
        MST_TRY(mst_tokenizer_bytes(&tokenizer));
    else
        MST_TRY(mst_tokenizer_load(name, &tokenizer));
    MST_CHECK(mst_tokenizer_vocab_size(tokenizer) <= x->model_config.vocab_size, MST_ECONFIG,
              "%s has %zu tokens, and the model has %zu", name, mst_tokenizer_vocab_size(tokenizer),
              x->model_config.vocab_size);
    mst_tokenizer_destroy(&x->tokenizer);
    x->tokenizer = tokenizer;
    x->text_is_known = true;
    tokenizer = NULL;
done:
    mst_tokenizer_destroy(&tokenizer);
    return status;
}

int32_t mst_inference_end_token(const mst_inference *inference) {
    return mst_tokenizer_end(inference->tokenizer);
}
