/* The vectors that a norm works on: `groups` of them, `cols` elements each, stand side by side in a row. */
#ifndef MST_CPU_VECTORS_H
#define MST_CPU_VECTORS_H

#include "cpu.h"

/** First element of vector v: group v % groups of row v / groups. */
static inline size_t vector_start(size_t v, size_t groups, size_t cols, size_t ld) {
    return v / groups * ld + v % groups * cols;
}

/** Refuses shapes that cannot be. @retval MST_EINVAL, naming the operation */
static inline mst_status check_vectors(const char *operation, size_t groups, size_t cols, size_t lda,
                                       size_t ldb) {
    if (groups == 0) return mst_error(MST_EINVAL, "%s: groups is 0; it must be at least 1", operation);
    if (lda >= groups * cols && ldb >= groups * cols) return MST_OK;
    return mst_error(MST_EINVAL, "%s: rows are %zu and %zu elements apart; they have %zu", operation, lda,
                     ldb, groups * cols);
}

#endif
