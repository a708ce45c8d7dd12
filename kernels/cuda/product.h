/* Kinds of matrix products, and the algorithm of each. Private to this folder. */
#ifndef MST_PRODUCT_H
#define MST_PRODUCT_H

#include <cublasLt.h>

#include "cuda.h"

/* What a choice depends on, with no padding: compared byte by byte. */
typedef struct product_kind {
    size_t m, n, k, lda, ldb, ldc;
    unsigned char bf16, c_bf16, a_transposed, b_transposed, bias, accumulate, wide, zero;
} product_kind;

typedef struct product_choice {
    product_kind kind;
    bool own; /* the library has none: our kernel does it */
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t a, b, c;
    cublasLtMatmulAlgo_t algorithm;
} product_choice;

struct mst_product {
    cublasLtHandle_t handle;
    product_choice *choices; /* in the order in which they were made */
    size_t count, capacity;
};

/** Chooses this algorithm for products of a kind of which nothing is chosen yet. @param algorithm NULL: our own kernel
 * @retval MST_EUNSUPPORTED the library does not offer it */
mst_status mst_product_take(mst_cuda *cuda, const product_kind *kind, const cublasLtMatmulAlgo_t *algorithm);

/** Forgets all choices. */
void mst_product_forget(mst_product *product);

#endif
