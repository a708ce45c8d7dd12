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

#ifdef __cplusplus
}
#endif
#endif
