/* What bodies on a GPU take of its memory beside what their callers give them. Functions of sizes alone, so that a plan can ask
 * where no GPU is. */
#ifndef MUSTER_FOOTPRINT_H
#define MUSTER_FOOTPRINT_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The matrix library's workspace, bytes; fixed, as an algorithm may depend on it. */
enum { MST_PRODUCT_WORKSPACE = 32 << 20 };

/* Vectors that are added up at a time where gradients of norm weights and of biases are made. */
enum { MST_COLUMN_VECTORS = 128 };

/** Bytes of the partial sums over `vectors` vectors of `cols` elements. */
static inline size_t mst_column_sum_bytes(size_t vectors, size_t cols) {
    return (vectors + MST_COLUMN_VECTORS - 1) / MST_COLUMN_VECTORS * 2 * cols * sizeof(float);
}

/** Bytes that cuDNN takes for attention's backward pass in one order (seen with 9.19 on sm_80 to sm_90): the probabilities'
 * gradients in bf16, tokens rounded up to tiles; and where heads share keys, fp32 gradients of keys and values of each head. */
static inline size_t mst_attention_workspace(size_t sequences, size_t seq_len, size_t heads, size_t kv_heads,
                                             size_t head_dim) {
    const size_t tile = 64, tokens = (seq_len + tile - 1) / tile * tile, others = 256;
    const size_t shared = heads == kv_heads ? 0 : 2 * seq_len * head_dim * sizeof(float);
    return others + sequences * heads * (2 * tokens * tokens + shared);
}

#ifdef __cplusplus
}
#endif
#endif
