/*
 * What both passes of attention share. Queries are taken in strips of STRIP that stand side by side in vector
 * lanes: scores[key][query], so that maxima and sums over keys need no sum across lanes. Every product is a
 * block of MR rows by NR columns whose elements are each summed in order of depth by fma_f32, so MR, NR and
 * the vector length change no bit.
 *
 * Token t sees tokens 0 to t, and exactly these: a key after the query takes part in no product with it, not
 * even times zero, because its elements may be infinite or NaN.
 *
 * Private to attention*.c.
 */
#ifndef MST_CPU_ATTENTION_H
#define MST_CPU_ATTENTION_H

#include "cpu.h"
#include "muster/elementary.h"

/** Sets the slot of the backward pass. */
mst_cpu_fill_fn MST_AT_LEVEL(mst_cpu_fill_attention_grad);
/** The forward pass for seq_len 1, a token that goes on from kept keys: the bits of the general one. Arguments
 * are checked. */
mst_attention_forward_fn MST_AT_LEVEL(mst_attention_row);

/* Vectors by the compilers' extension: plain loops over local arrays stay in registers
 * with gcc, but not with clang. */
#if defined(__AVX512F__)
enum { MR = 8, VECTOR = 16 };
#elif defined(__AVX2__)
enum { MR = 4, VECTOR = 8 };
#else
enum { MR = 4, VECTOR = 4 };
#endif
typedef float vector __attribute__((vector_size(4 * VECTOR), aligned(4), may_alias));

enum {
    STRIP = 32,               /* queries side by side */
    STRIPS = 4,               /* strips that one visit of a tile of keys serves */
    QUERIES = STRIP * STRIPS, /* of a tile */
    KEYS = 64,                /* of a tile */
    PAD = 16,                 /* rows of head_dim elements are padded with zeros to a multiple */
};

static inline size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

static inline size_t round_up(size_t count, size_t multiple) {
    return (count + multiple - 1) / multiple * multiple;
}

MST_INLINE vector vector_of(float x) {
    vector r;
#pragma GCC unroll 16
    for (int i = 0; i < VECTOR; i++) r[i] = x;
    return r;
}

MST_INLINE vector vector_fma(vector a, vector b, vector c) {
    vector r;
#pragma GCC unroll 16
    for (int i = 0; i < VECTOR; i++) r[i] = fma_f32(a[i], b[i], c[i]);
    return r;
}

/*
 * c[i][l] (+)= sum over k of a(i, k) b[k][l], k ascending, for MR rows and `vectors` vectors of columns.
 * a(i, k) = a[i * a_row + k * a_depth]. `vectors` (1 or 2) and `add` are constants.
 */
MST_INLINE void block(size_t vectors, const float *a, size_t a_row, size_t a_depth, const float *b,
                      size_t ldb, size_t depth, float *c, size_t ldc, bool add) {
    vector sum[MR][2];
#pragma GCC unroll 8
    for (size_t i = 0; i < MR; i++)
#pragma GCC unroll 2
        for (size_t l = 0; l < vectors; l++)
            sum[i][l] = add ? *(const vector *)(c + i * ldc + l * VECTOR) : vector_of(0.0f);
    for (size_t k = 0; k < depth; k++) {
        vector row[2];
#pragma GCC unroll 2
        for (size_t l = 0; l < vectors; l++) row[l] = *(const vector *)(b + k * ldb + l * VECTOR);
#pragma GCC unroll 8
        for (size_t i = 0; i < MR; i++) {
            vector factor = vector_of(a[i * a_row + k * a_depth]);
#pragma GCC unroll 2
            for (size_t l = 0; l < vectors; l++) sum[i][l] = vector_fma(factor, row[l], sum[i][l]);
        }
    }
#pragma GCC unroll 8
    for (size_t i = 0; i < MR; i++)
#pragma GCC unroll 2
        for (size_t l = 0; l < vectors; l++) *(vector *)(c + i * ldc + l * VECTOR) = sum[i][l];
}

/** block for any number of columns that is a multiple of PAD; ldb and ldc are `width`. Adds to c. */
MST_INLINE void block_row(size_t width, const float *a, size_t a_row, size_t a_depth, const float *b,
                          size_t depth, float *c) {
    size_t l = 0;
    for (; l + 2 * VECTOR <= width; l += 2 * VECTOR)
        block(2, a, a_row, a_depth, b + l, width, depth, c + l, width, true);
    for (; l < width; l += VECTOR) block(1, a, a_row, a_depth, b + l, width, depth, c + l, width, true);
}

/** c += factor b, one row. */
MST_INLINE void add_row(size_t width, float factor, const float *b, float *c) {
#pragma omp simd
    for (size_t l = 0; l < width; l++) c[l] = fma_f32(factor, b[l], c[l]);
}

/**
 * scores[key][query] = rows[key] . column[query].
 * @param keys a multiple of MR
 * @param rows [keys, width], of which head_dim columns count
 * @param panel [width, STRIP]
 * @param scores [keys, STRIP]
 */
static inline void multiply_scores(size_t keys, size_t head_dim, const float *rows, size_t width,
                                   const float *panel, float *scores) {
    for (size_t l = 0; l < STRIP; l += 2 * VECTOR)
        for (size_t i = 0; i < keys; i += MR)
            block(2, rows + i * width, width, 1, panel + l, STRIP, head_dim, scores + i * STRIP + l, STRIP,
                  false);
}

/**
 * result[query] += sum over the keys that it sees of weights[key][query] rows[key].
 * @param query, key first ones of the strip and of the tile, multiples of MR
 * @param keys of the tile; weights is [keys, STRIP], rows [keys, width], result [STRIP, width]
 */
static inline void add_over_keys(size_t query, size_t key, size_t keys, const float *weights,
                                 const float *rows, size_t width, float *result) {
    for (size_t i = 0; i < STRIP; i += MR) {
        if (query + i < key) continue; /* then the last of these MR stands before key, too */
        size_t all = smaller(keys, query + i + 1 - key), some = smaller(keys, all + MR - 1);
        block_row(width, weights + i, 1, STRIP, rows, all, result + i * width);
        for (size_t k = all; k < some; k++)
            for (size_t r = k - all + 1; r < MR; r++)
                add_row(width, weights[k * STRIP + i + r], rows + k * width, result + (i + r) * width);
    }
}

/**
 * result[key] += sum over the queries that see it of weights[key][query] rows[query].
 * @param query, key, keys, weights as above
 * @param queries of the strip: rows is [queries, width], result [keys rounded up to MR, width]
 */
static inline void add_over_queries(size_t query, size_t queries, size_t key, size_t keys,
                                    const float *weights, const float *rows, size_t width, float *result) {
    for (size_t i = 0; i < keys; i += MR) {
        /* Query number `some` sees the first of these MR keys, query number `all` and
         * those after it see all. */
        size_t some = key + i > query ? key + i - query : 0, all = some;
        if (key + i + MR - 1 > query + some) all = some + MR - 1;
        for (size_t k = some; k < smaller(all, queries); k++)
            for (size_t r = 0; r <= k - some; r++)
                add_row(width, weights[(i + r) * STRIP + k], rows + k * width, result + (i + r) * width);
        if (all < queries)
            block_row(width, weights + i * STRIP + all, STRIP, 1, rows + all * width, queries - all,
                      result + i * width);
    }
}

MST_INLINE void pack_rows_of(const void *source, mst_dtype dtype, size_t ld, size_t rows, size_t head_dim,
                             float scale, float *result, size_t width) {
    for (size_t r = 0; r < rows; r++) {
#pragma omp simd
        for (size_t d = 0; d < head_dim; d++) result[r * width + d] = load(source, r * ld + d, dtype) * scale;
        for (size_t d = head_dim; d < width; d++) result[r * width + d] = 0.0f;
    }
}

/** result [padded, width] = scale source [rows, head_dim] as fp32, zeros around it. */
static inline void pack_rows(const void *source, mst_dtype dtype, size_t ld, size_t rows, size_t padded,
                             size_t head_dim, float scale, float *result, size_t width) {
    if (dtype == MST_BF16)
        pack_rows_of(source, MST_BF16, ld, rows, head_dim, scale, result, width);
    else
        pack_rows_of(source, MST_F32, ld, rows, head_dim, scale, result, width);
    for (size_t i = rows * width; i < padded * width; i++) result[i] = 0.0f;
}

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define MST_HAS_SHUFFLE 1
#endif
#endif

/* result[j][i] = source[i][j] for i, j < 4. Compilers make one load and one store
 * per element of the plain loop. */
MST_INLINE void transpose_4x4(const float *source, size_t ld, float *result, size_t ld_result) {
#ifdef MST_HAS_SHUFFLE
    typedef float quad __attribute__((vector_size(16), aligned(4), may_alias));
    quad a = *(const quad *)source, b = *(const quad *)(source + ld);
    quad c = *(const quad *)(source + 2 * ld), d = *(const quad *)(source + 3 * ld);
    quad ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5),
         ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    quad cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5),
         cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    *(quad *)result = __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5);
    *(quad *)(result + ld_result) = __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7);
    *(quad *)(result + 2 * ld_result) = __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5);
    *(quad *)(result + 3 * ld_result) = __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7);
#else
    for (size_t i = 0; i < 4; i++)
        for (size_t j = 0; j < 4; j++) result[j * ld_result + i] = source[i * ld + j];
#endif
}

/** panel [width, STRIP] = rows [STRIP, width] transposed. */
static inline void transpose_strip(const float *rows, size_t width, float *panel) {
    for (size_t d = 0; d < width; d += 4)
        for (size_t q = 0; q < STRIP; q += 4)
            transpose_4x4(rows + q * width + d, width, panel + d * STRIP + q, STRIP);
}

/** Takes `count` floats, a multiple of 16, from the front of scratch memory. */
static inline float *take(float **memory, size_t count) {
    float *taken = *memory;
    *memory += count;
    return taken;
}

/** Element 0 of one token and one head of a tensor with `ld` elements from row to row. */
static inline size_t token_offset(const mst_attention_args *a, size_t sequence, size_t token, size_t ld,
                                  size_t head) {
    return (sequence * a->seq_len + token) * ld + head * a->head_dim;
}

/** The same of k and v, which have the past tokens before the others. */
static inline size_t key_offset(const mst_attention_args *a, size_t sequence, size_t token, size_t ld,
                                size_t head) {
    return (sequence * (a->past + a->seq_len) + token) * ld + head * a->head_dim;
}

/** log(sum exp(score)); an empty sum (every score -inf) is NaN, as in the definition. */
static inline float log_sum_exp(float maximum, float sum) {
    if (!(sum > 0.0f)) return __builtin_nanf("");
    return (float)((double)maximum + mst_elementary_log((double)sum));
}

MST_INLINE void store_row_of(void *out, size_t at, mst_dtype dtype, const float *row, float scale,
                             size_t head_dim) {
#pragma omp simd
    for (size_t d = 0; d < head_dim; d++) store(out, at + d, dtype, row[d] * scale);
}

/** out [head_dim] at element `at` = row / sum. */
static inline void store_row(void *out, size_t at, mst_dtype dtype, const float *row, float sum,
                             size_t head_dim) {
    float scale = 1.0f / sum;
    if (dtype == MST_BF16)
        store_row_of(out, at, MST_BF16, row, scale, head_dim);
    else
        store_row_of(out, at, MST_F32, row, scale, head_dim);
}

static inline mst_status check_attention(const char *name, const mst_attention_args *a) {
    mst_status status = check_dtype(name, a->dtype);
    if (status != MST_OK) return status;
    MST_CHECK(a->kv_heads > 0 ? a->heads % a->kv_heads == 0 : a->heads == 0, MST_EINVAL,
              "%s: %zu query heads cannot share %zu key/value heads; heads must be a multiple of kv_heads",
              name, a->heads, a->kv_heads);
    size_t q_cols = a->heads * a->head_dim, kv_cols = a->kv_heads * a->head_dim;
    MST_CHECK(a->ldq >= q_cols && a->ldk >= kv_cols && a->ldv >= kv_cols, MST_EINVAL,
              "%s: leading dimensions %zu, %zu, %zu are below the rows' lengths %zu, %zu, %zu", name, a->ldq,
              a->ldk, a->ldv, q_cols, kv_cols, kv_cols);
done:
    return status;
}

static inline bool is_empty(const mst_attention_args *a) {
    return a->sequences == 0 || a->seq_len == 0 || a->heads == 0 || a->head_dim == 0;
}

#endif
