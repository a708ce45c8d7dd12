/*
 * oneDNN behind one file: products of one fixed shape, computed by the calling thread alone. matmul_onednn.c
 * holds every difference between oneDNN 2 and 3. Private to matmul*.c.
 */
#ifndef MST_CPU_MATMUL_ONEDNN_H
#define MST_CPU_MATMUL_ONEDNN_H

#include <stdint.h>

#include "muster/kernels.h"

/* Everything that a primitive depends on. Zero the whole before filling it in: keys are compared as bytes. */
typedef struct onednn_key {
    int64_t m, n, k, lda, ldb, ldc;
    int32_t dtype, c_dtype; /* mst_dtype: F32 or BF16 */
    int32_t a_transposed, b_transposed, bias, accumulate;
} onednn_key;

/* A product of one shape; one per key, kept until the process ends. */
typedef struct onednn_product onednn_product;
/* Handles with which `threads` threads can run one product at the same time. */
typedef struct onednn_team onednn_team;

/** The instruction set that oneDNN uses, in classes that the tile grid distinguishes. */
typedef struct onednn_traits {
    bool wide; /* AVX-512 */
    bool bf16; /* bf16 products in hardware */
} onednn_traits;
onednn_traits onednn_traits_get(void);

/** As mst_matmul_cpu_limit and mst_matmul_cpu_class. */
mst_status onednn_limit(const char *level);
void onednn_class(char *text, size_t size);

/**
 * The product of a key: found, or made at its first use.
 *
 * Threads: any number of threads may call it at once. A product that was found once is
 * found again without allocation.
 * @retval MST_EUNSUPPORTED oneDNN has only its slow reference implementation for it
 * @retval MST_ELIBRARY with oneDNN's status
 */
mst_status onednn_product_find(const onednn_key *key, onednn_product **product_out);

/** Bytes of scratch memory that onednn_run needs. */
size_t onednn_product_scratch(const onednn_product *product);

/** Borrows handles for `threads` threads; an earlier team is used again where one is free.
 * @retval MST_ENOMEM, MST_ELIBRARY */
mst_status onednn_team_take(onednn_product *product, int threads, onednn_team **team_out);
/** Gives a team back and resets the pointer; accepts NULL inside. */
void onednn_team_give(onednn_product *product, onednn_team **team);

/**
 * Computes c = a b (+ bias) (+ c) on the calling thread.
 *
 * @param thread number of the caller within the team
 * @param bias fp32 [n] when the key says so
 * @param scratch at least onednn_product_scratch bytes, 64-byte aligned
 */
mst_status onednn_run(const onednn_product *product, onednn_team *team, int thread, const void *a,
                      const void *b, const float *bias, void *c, void *scratch);

#endif
