/*
 * What both passes of attention share. Queries are taken in strips of STRIP that stand side by side in vector
 * lanes: scores[key][query], so that maxima and sums over keys need no sum across lanes. Every product is a
 * block of MR rows by NR columns whose elements are each summed in order of depth by fma_f32, so MR, NR and
 * the vector length change no bit.
 *
 * Where the processor multiplies pairs of bf16 (AVX512_BF16), bf16 tensors are left as they are: a product's operands are
 * then pairs of neighbours along its depth, in the place of a float each, and weights are rounded to bf16 before they are
 * multiplied. Functions that serve both take `pairs`, a constant; depth, row lengths and leading dimensions are in floats
 * or in pairs.
 *
 * Token t sees tokens 0 to t, and exactly these: a key after the query takes part in no product with it, not
 * even times zero, because its elements may be infinite or NaN.
 *
 * Where a sequence holds several documents, each is computed as if it were a sequence of its own: tokens, tiles and strips
 * are counted from its beginning. So the bits of its rows do not depend on where it stands, but for dk and dv where several
 * tasks share a head.
 *
 * Private to attention*.c.
 */
#ifndef MST_CPU_ATTENTION_H
#define MST_CPU_ATTENTION_H

#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

#include "cpu.h"
#include "cpu_math.h"
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
#ifdef __AVX512BF16__
    return (vector)_mm512_set1_ps(x); /* gcc takes the loop apart where a product of pairs follows */
#else
    vector r;
#pragma GCC unroll 16
    for (int i = 0; i < VECTOR; i++) r[i] = x;
    return r;
#endif
}

MST_INLINE vector vector_fma(vector a, vector b, vector c) {
    vector r;
#pragma GCC unroll 16
    for (int i = 0; i < VECTOR; i++) r[i] = fma_f32(a[i], b[i], c[i]);
    return r;
}

/** c + the products of pairs of bf16, by the processor's own rule; denormals count as zero. */
MST_INLINE vector vector_dot(vector a, vector b, vector c) {
#ifdef __AVX512BF16__
    return (vector)_mm512_dpbf16_ps((__m512)c, (__m512bh)(__m512i)a, (__m512bh)(__m512i)b);
#else
    (void)a, (void)b; /* takes_pairs says no */
    return c;
#endif
}

/** Whether a pass over these tensors multiplies pairs. */
static inline bool takes_pairs(const mst_attention_args *a) {
#ifdef __AVX512BF16__
    return a->dtype == MST_BF16;
#else
    (void)a;
    return false;
#endif
}

/*
 * c[i][l] (+)= sum over k of a(i, k) b[k][l], k ascending, for MR rows and `vectors` vectors of columns.
 * a(i, k) = a[i * a_row + k * a_depth]. `pairs`, `vectors` (1 or 2) and `add` are constants.
 */
MST_INLINE void block(bool pairs, size_t vectors, const float *a, size_t a_row, size_t a_depth,
                      const float *b, size_t ldb, size_t depth, float *c, size_t ldc, bool add) {
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
            for (size_t l = 0; l < vectors; l++)
                sum[i][l] =
                    pairs ? vector_dot(factor, row[l], sum[i][l]) : vector_fma(factor, row[l], sum[i][l]);
        }
    }
#pragma GCC unroll 8
    for (size_t i = 0; i < MR; i++)
#pragma GCC unroll 2
        for (size_t l = 0; l < vectors; l++) *(vector *)(c + i * ldc + l * VECTOR) = sum[i][l];
}

/** block for any number of columns that is a multiple of PAD; ldb and ldc are `width`. Adds to c. */
MST_INLINE void block_row(bool pairs, size_t width, const float *a, size_t a_row, size_t a_depth,
                          const float *b, size_t depth, float *c) {
    size_t l = 0;
    for (; l + 2 * VECTOR <= width; l += 2 * VECTOR)
        block(pairs, 2, a, a_row, a_depth, b + l, width, depth, c + l, width, true);
    for (; l < width; l += VECTOR)
        block(pairs, 1, a, a_row, a_depth, b + l, width, depth, c + l, width, true);
}

/** c += weight times row `at` of `rows`, where rows stand one by one or in pairs: then the weight is rounded, too. */
MST_INLINE void add_row(bool pairs, size_t width, float weight, const float *rows, size_t at, float *c) {
    if (!pairs) {
        const float *b = rows + at * width;
#pragma omp simd
        for (size_t l = 0; l < width; l++) c[l] = fma_f32(weight, b[l], c[l]);
        return;
    }
    const float *b = rows + at / 2 * width;
    const float rounded = rounded_to(MST_BF16, weight);
    const uint32_t shift = at % 2 == 0 ? 16 : 0;
#pragma omp simd
    for (size_t l = 0; l < width; l++)
        c[l] = fma_f32(rounded, float_of_bits((bits_of_float(b[l]) << shift) & 0xffff0000u), c[l]);
}

/**
 * scores[key][query] = rows[key] . column[query].
 * @param keys a multiple of MR
 * @param depth of head_dim: elements, or pairs
 * @param rows [keys, ld], of which `depth` columns count
 * @param panel [depth, STRIP]
 * @param scores [keys, STRIP]
 */
MST_INLINE void multiply_scores(bool pairs, size_t keys, size_t depth, const float *rows, size_t ld,
                                const float *panel, float *scores) {
    for (size_t l = 0; l < STRIP; l += 2 * VECTOR)
        for (size_t i = 0; i < keys; i += MR)
            block(pairs, 2, rows + i * ld, ld, 1, panel + l, STRIP, depth, scores + i * STRIP + l, STRIP,
                  false);
}

/* Weights as the two products over tokens read them: in place where they are floats. */
typedef struct weight_operands {
    const float *weights;     /* [keys, STRIP] */
    const float *key_pairs;   /* [keys / 2, STRIP] pairs of keys */
    const float *query_pairs; /* [keys, STRIP / 2] pairs of queries */
} weight_operands;

/**
 * result[query] += sum over the keys that it sees of weights[key][query] rows[key].
 * @param query, key first ones of the strip and of the tile, multiples of MR
 * @param keys of the tile; rows is [keys, width], one by one or in pairs; result [STRIP, width]
 */
MST_INLINE void add_over_keys(bool pairs, size_t query, size_t key, size_t keys, const weight_operands *w,
                              const float *rows, size_t width, float *result) {
    for (size_t i = 0; i < STRIP; i += MR) {
        if (query + i < key) continue; /* then the last of these MR stands before key, too */
        size_t all = smaller(keys, query + i + 1 - key), some = smaller(keys, all + MR - 1);
        size_t whole = pairs ? all / 2 * 2 : all;
        block_row(pairs, width, (pairs ? w->key_pairs : w->weights) + i, 1, STRIP, rows,
                  pairs ? whole / 2 : whole, result + i * width);
        for (size_t k = whole; k < some; k++)
            for (size_t r = k < all ? 0 : k - all + 1; r < MR; r++)
                add_row(pairs, width, w->weights[k * STRIP + i + r], rows, k, result + (i + r) * width);
    }
}

/**
 * result[key] += sum over the queries that see it of weights[key][query] rows[query].
 * @param query, key, keys, rows as above
 * @param queries of the strip: rows is [queries, width], result [keys rounded up to MR, width]
 */
MST_INLINE void add_over_queries(bool pairs, size_t query, size_t queries, size_t key, size_t keys,
                                 const weight_operands *w, const float *rows, size_t width, float *result) {
    for (size_t i = 0; i < keys; i += MR) {
        /* Query number `some` sees the first of these MR keys; query number `all` and those after it see all. */
        size_t some = key + i > query ? key + i - query : 0, all = some,
               end = pairs ? queries / 2 * 2 : queries;
        if (key + i + MR - 1 > query + some) all = some + MR - !pairs; /* where a pair begins */
        const float *weights = w->weights + i * STRIP;
        for (size_t k = some; k < smaller(all, queries); k++)
            for (size_t r = 0; r < smaller(k - some + 1, MR); r++)
                add_row(pairs, width, weights[r * STRIP + k], rows, k, result + (i + r) * width);
        if (all < end && pairs)
            block_row(true, width, w->query_pairs + i * (STRIP / 2) + all / 2, STRIP / 2, 1,
                      rows + all / 2 * width, (end - all) / 2, result + i * width);
        if (all < end && !pairs)
            block_row(false, width, weights + all, STRIP, 1, rows + all * width, end - all,
                      result + i * width);
        for (size_t k = all > end ? all : end; k < queries; k++)
            for (size_t r = 0; r < MR; r++)
                add_row(pairs, width, weights[r * STRIP + k], rows, k, result + (i + r) * width);
    }
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

/** Where in its sequence the document of a token begins. */
static inline size_t document_begin(const mst_attention_args *a, size_t sequence, size_t token) {
    return a->starts ? (size_t)a->starts[sequence * a->seq_len + token] : 0;
}

/** Where it ends, but at most `limit`. */
static inline size_t document_end(const mst_attention_args *a, size_t sequence, size_t token, size_t limit) {
    if (!a->starts) return limit;
    size_t begin = document_begin(a, sequence, token), end = token + 1;
    while (end < limit && document_begin(a, sequence, end) == begin) end++;
    return end;
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
    MST_CHECK(!a->starts || a->past == 0, MST_EINVAL,
              "%s: starts of documents and a past of %zu; only one of them is possible", name, a->past);
done:
    return status;
}

static inline bool is_empty(const mst_attention_args *a) {
    return a->sequences == 0 || a->seq_len == 0 || a->heads == 0 || a->head_dim == 0;
}

#endif
