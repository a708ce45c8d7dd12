/*
 * How attention lays out what it multiplies: rows of floats, rows of pairs, and panels of a strip of queries.
 * attention.h says what pairs are. Private to attention*.c.
 */
#ifndef MST_CPU_ATTENTION_PACK_H
#define MST_CPU_ATTENTION_PACK_H

#include "attention.h"

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

/** Floats or pairs in a row of `width` elements. */
MST_INLINE size_t depth_of(bool pairs, size_t width) {
    return pairs ? width / 2 : width;
}

/* result [padded, width] = source [rows, head_dim], both bf16, zeros around it. */
static inline void copy_rows(const mst_bf16 *source, size_t ld, size_t rows, size_t padded, size_t head_dim,
                             mst_bf16 *result, size_t width) {
    memset(result, 0, padded * width * sizeof *result);
    for (size_t r = 0; r < rows; r++) memcpy(result + r * width, source + r * ld, head_dim * sizeof *result);
}

/** Rows whose neighbours along head_dim are multiplied: as floats, scaled, or as they are, in pairs.
 * @param result [padded, depth_of(width)] */
MST_INLINE void pack_operand(bool pairs, const void *source, mst_dtype dtype, size_t ld, size_t rows,
                             size_t padded, size_t head_dim, float scale, float *result, size_t width) {
    if (pairs)
        copy_rows(source, ld, rows, padded, head_dim, (mst_bf16 *)(void *)result, width);
    else
        pack_rows(source, dtype, ld, rows, padded, head_dim, scale, result, width);
}

/** Rows that are multiplied with their neighbours: result [rows rounded up / 2, width] holds pairs of rows 2 i, 2 i + 1; an
 * odd last one is paired with zeros. Both [rows, width] bf16, and `packed` is dense. */
static inline void pair_rows(const float *packed, size_t rows, size_t width, float *result) {
    const mst_bf16 *source = (const mst_bf16 *)(const void *)packed;
    for (size_t r = 0; r < rows; r += 2, result += width) {
        const mst_bf16 *low = source + r * width, *high = low + width;
        const uint32_t there = r + 1 < rows;
#pragma omp simd
        for (size_t d = 0; d < width; d++)
            result[d] = float_of_bits(low[d] | (there ? (uint32_t)high[d] << 16 : 0));
    }
}

/** result [count / 2] = pairs of neighbours of weights [count], a multiple of 32. */
static inline void pair_neighbours(const float *weights, size_t count, float *result) {
#ifdef __AVX512BF16__
    for (size_t i = 0; i < count; i += 32) {
        const __m512bh both =
            _mm512_cvtne2ps_pbh(_mm512_loadu_ps(weights + i + 16), _mm512_loadu_ps(weights + i));
        _mm512_storeu_si512(result + i / 2, (__m512i)both);
    }
#else
    (void)weights, (void)count, (void)result;
#endif
}

/** result [count / 2, STRIP] = pairs of rows 2 i and 2 i + 1 of weights [count, STRIP]; count is even. */
static inline void pair_columns(const float *weights, size_t count, float *result) {
#ifdef __AVX512BF16__
    __m512i order; /* 0, 16, 1, 17, ... */
    for (int i = 0; i < 32; i++) ((uint16_t *)&order)[i] = (uint16_t)(i / 2 + i % 2 * 16);
    for (size_t k = 0; k < count; k += 2, weights += 2 * STRIP, result += STRIP)
        for (size_t i = 0; i < STRIP; i += 16) {
            const __m512bh both =
                _mm512_cvtne2ps_pbh(_mm512_loadu_ps(weights + STRIP + i), _mm512_loadu_ps(weights + i));
            _mm512_storeu_si512(result + i, _mm512_permutexvar_epi16(order, (__m512i)both));
        }
#else
    (void)weights, (void)count, (void)result;
#endif
}

#endif
