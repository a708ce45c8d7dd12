/*
 * What every fast CPU body shares. Each C file of this folder is compiled once for every instruction-set
 * level, with MST_LEVEL as its name (x86_64_v2, x86_64_v3, x86_64_v4, x86_64_v4_bf16, or generic). Bodies are static, with
 * names to search for; a file exports one function per level, which fills its slots of the table.
 *
 * Rules, so that every compiler and every number of threads gives the same bits:
 *  - a parallel loop is cut into tiles whose size follows from the arguments alone;
 *  - a sum runs over MST_LANES fixed lanes, which lanes_sum adds in a fixed tree;
 *  - a product and a sum are fused where fma_f32 stands, and nowhere else (-ffp-contract=off).
 */
#ifndef MST_CPU_H
#define MST_CPU_H

#include <string.h>

#include "muster/kernels.h"

/* MST_AT_LEVEL(name): the name of an exported function at this level, such as mst_cpu_fill_norm_x86_64_v4. */
#define MST_AT_LEVEL_JOIN(name, level)   name##_##level
#define MST_AT_LEVEL_EXPAND(name, level) MST_AT_LEVEL_JOIN(name, level)
#define MST_AT_LEVEL(name)               MST_AT_LEVEL_EXPAND(name, MST_LEVEL)

/** Sets slots of a table to the bodies of one level. Not collective. */
typedef void mst_cpu_fill_fn(mst_kernels *table);

#ifdef MST_LEVEL
mst_cpu_fill_fn MST_AT_LEVEL(mst_cpu_fill_norm);          /* norm.c */
mst_cpu_fill_fn MST_AT_LEVEL(mst_cpu_fill_norm_grad);     /* norm_grad.c, bias_grad included */
mst_cpu_fill_fn MST_AT_LEVEL(mst_cpu_fill_rope);          /* rope.c */
mst_cpu_fill_fn MST_AT_LEVEL(mst_cpu_fill_row_product);   /* row_product.c: matmul */
mst_cpu_fill_fn MST_AT_LEVEL(mst_cpu_fill_activation);    /* activation.c */
mst_cpu_fill_fn MST_AT_LEVEL(mst_cpu_fill_embedding);     /* embedding.c */
mst_cpu_fill_fn MST_AT_LEVEL(mst_cpu_fill_attention);     /* attention.c */
mst_cpu_fill_fn MST_AT_LEVEL(mst_cpu_fill_cross_entropy); /* cross_entropy.c */
mst_cpu_fill_fn MST_AT_LEVEL(mst_cpu_fill_ordered_sum);   /* ordered_sum.c */
mst_cpu_fill_fn MST_AT_LEVEL(mst_cpu_fill_adamw);         /* adamw.c */
mst_cpu_fill_fn MST_AT_LEVEL(mst_cpu_fill_elements);      /* elements.c: cast, random_normal, block_digest */
mst_cpu_fill_fn MST_AT_LEVEL(mst_cpu_fill);               /* fill.c: all of the above */
#endif

/* Inlined so that a dtype given as a constant makes a loop of its own. */
#define MST_INLINE static inline __attribute__((always_inline))

/** Element i of p as a float. `dtype` is a constant, F32 or BF16. */
MST_INLINE float load(const void *p, size_t i, mst_dtype dtype) {
    return dtype == MST_BF16 ? mst_bf16_to_f32(((const mst_bf16 *)p)[i]) : ((const float *)p)[i];
}

/** p[i] = value, rounded to dtype. */
MST_INLINE void store(void *p, size_t i, mst_dtype dtype, float value) {
    if (dtype == MST_BF16)
        ((mst_bf16 *)p)[i] = mst_bf16_from_f32(value);
    else
        ((float *)p)[i] = value;
}

/** Value as it is after a store and a load. */
MST_INLINE float rounded_to(mst_dtype dtype, float value) {
    return dtype == MST_BF16 ? mst_bf16_to_f32(mst_bf16_from_f32(value)) : value;
}

/** Address of element i. */
static inline const void *element(const void *p, size_t i, mst_dtype dtype) {
    return (const char *)p + i * mst_dtype_size(dtype);
}

static inline void *element_mut(void *p, size_t i, mst_dtype dtype) {
    return (char *)p + i * mst_dtype_size(dtype);
}

/** a * b + c: rounded once where the level has the instruction, twice where it has not.
 * Levels are device classes. */
MST_INLINE float fma_f32(float a, float b, float c) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
    return __builtin_fmaf(a, b, c);
#else
    return a * b + c;
#endif
}

/* Lanes of a sum: element i of a row goes to lane i % MST_LANES, in order of i.
 * With 64 an AVX-512 sum has four chains, which hide its latency; and clang keeps the lanes in registers only
 * if it does not unroll the loop over them. */
enum { MST_LANES = 64 };

/** The sum of all lanes as a balanced tree. Overwrites them. */
MST_INLINE float lanes_sum(float lane[MST_LANES]) {
    for (size_t width = MST_LANES / 2; width > 0; width /= 2)
        for (size_t k = 0; k < width; k++) lane[k] += lane[k + width];
    return lane[0];
}

/** Fetches the cache line of element i into the first cache, for reading. Any address will do. */
MST_INLINE void prefetch(const void *p, size_t i, mst_dtype dtype) {
    __builtin_prefetch((const void *)((uintptr_t)p + i * mst_dtype_size(dtype)));
}

/** Number of tiles of `tile` that cover `count`. */
static inline size_t tiles_of(size_t count, size_t tile) {
    return count / tile + (count % tile != 0);
}

/** The end of tile number `task`. */
static inline size_t tile_end(size_t count, size_t tile, size_t task) {
    return count - task * tile < tile ? count : (task + 1) * tile;
}

/** Rows of a task that has about `elements` elements: at least one. */
static inline size_t tile_of_rows(size_t cols, size_t elements) {
    return cols < elements ? elements / cols : 1;
}

/** Where row r stands in its document. @param starts as mst_attention_args has them, or NULL */
MST_INLINE size_t position_of(size_t first, size_t seq_len, const int32_t *starts, size_t r) {
    size_t position = first + r % seq_len;
    return starts ? position - (size_t)starts[r] : position;
}

/** Refuses a type that the fast bodies do not compute. @retval MST_EUNSUPPORTED, naming the operation */
static inline mst_status check_dtype(const char *operation, mst_dtype dtype) {
    if (dtype == MST_F32 || dtype == MST_BF16) return MST_OK;
    return mst_error(MST_EUNSUPPORTED,
                     "%s: %s on device cpu, which computes f32 and bf16; open device ref for it", operation,
                     mst_dtype_name(dtype));
}

#endif
