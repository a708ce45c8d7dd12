/* The one place where text becomes tokens and tokens become text: today bytes are tokens. */
#include <stdlib.h>

#include "inference_state.h"

mst_status mst_inference_encode(const mst_inference *inference, const uint8_t *bytes, size_t count,
                                mst_token_list *tokens_out) {
    mst_status status = MST_OK;
    (void)inference;
    *tokens_out =
        (mst_token_list){.at = malloc((count + 1) * sizeof(int32_t)), .count = count, .room = count + 1};
    MST_CHECK(tokens_out->at != NULL, MST_ENOMEM, "no memory for a prompt of %zu bytes", count);
    mst_bytes_encode(bytes, count, tokens_out->at);
done:
    return status;
}

const uint8_t *mst_inference_piece(const mst_inference *inference, int32_t token, size_t *bytes_out) {
    *bytes_out = token >= 0 && token < MST_BYTE_EOS;
    return *bytes_out > 0 ? &inference->bytes[token] : NULL;
}

int32_t mst_inference_end_token(const mst_inference *inference) {
    (void)inference;
    return MST_BYTE_EOS;
}
