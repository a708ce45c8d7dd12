/* The byte-level tokenizer: a byte is a token. */
#include "muster/data.h"

void mst_bytes_encode(const uint8_t *bytes, size_t count, int32_t *tokens_out) {
    for (size_t i = 0; i < count; i++) tokens_out[i] = bytes[i];
}
