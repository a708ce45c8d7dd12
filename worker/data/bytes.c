/* The byte-level tokenizer: a byte is a token. */
#include "muster/data.h"

void mst_bytes_encode(const uint8_t *bytes, size_t count, int32_t *tokens_out) {
    for (size_t i = 0; i < count; i++) tokens_out[i] = bytes[i];
}

size_t mst_bytes_decode(const int32_t *tokens, size_t count, uint8_t *bytes_out) {
    size_t used = 0;
    for (size_t i = 0; i < count; i++)
        if (tokens[i] >= 0 && tokens[i] < MST_BYTE_EOS) bytes_out[used++] = (uint8_t)tokens[i];
    return used;
}
