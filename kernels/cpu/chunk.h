/*
 * Passes over elements go by chunks: loaded into small arrays of floats, which the compiler keeps in registers, computed there, and
 * stored together. Converting, rounding, and holding within limits have instructions that no compiler finds in a loop over floats;
 * these functions use them where a level has them. Private to this folder.
 *
 * x86-64-v4-bf16 rounds to bf16 by one instruction instead of eight. It rounds as mst_bf16_from_f32 does, but for denormals, which
 * become zeros of their sign, as they do in that level's products.
 */
#ifndef MST_CPU_CHUNK_H
#define MST_CPU_CHUNK_H

#ifdef __AVX512BW__
#include <immintrin.h>
#endif

#include "cpu.h"

enum { MST_VECTOR = 16 }; /* floats of a register of 512 bits */

#ifdef __AVX512BW__
MST_INLINE __mmask16 first_of_vector(size_t count) {
    return (__mmask16)(count < MST_VECTOR ? (1u << count) - 1 : 0xffff);
}

MST_INLINE __m512 vector_of_bf16(__m256i halves) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

MST_INLINE __m512 vector_at(const void *p, size_t i, mst_dtype dtype) {
    if (dtype == MST_F32) return _mm512_loadu_ps((const float *)p + i);
    return vector_of_bf16(_mm256_loadu_si256((const __m256i *)((const mst_bf16 *)p + i)));
}

/* Of a NaN and a number, max and min give the second operand. */
MST_INLINE __m512 held_vector(__m512 value, float low, float high) {
    return _mm512_min_ps(_mm512_set1_ps(high), _mm512_max_ps(_mm512_set1_ps(low), value));
}
#endif

#ifdef __AVX512BF16__
MST_INLINE __m512 rounded_vector(__m512 value) {
    return vector_of_bf16((__m256i)_mm512_cvtneps_pbh(value));
}
#endif

/** value[0 .. width - 1] = p[i .. i + width - 1]. */
MST_INLINE void load_chunk(float *value, const void *p, size_t i, size_t width, mst_dtype dtype) {
    size_t k = 0;
#ifdef __AVX512BW__
    for (; k + MST_VECTOR <= width; k += MST_VECTOR) _mm512_storeu_ps(value + k, vector_at(p, i + k, dtype));
#endif
#pragma omp simd
    for (size_t r = k; r < width; r++) value[r] = load(p, i + r, dtype);
}

/** p[i .. i + width - 1] = value[0 .. width - 1], rounded to dtype. */
MST_INLINE void store_chunk(void *p, size_t i, const float *value, size_t width, mst_dtype dtype) {
    size_t k = 0;
#ifdef __AVX512BW__
    for (; dtype == MST_F32 && k + MST_VECTOR <= width; k += MST_VECTOR)
        _mm512_storeu_ps((float *)p + i + k, _mm512_loadu_ps(value + k));
#endif
#ifdef __AVX512BF16__
    if (dtype == MST_BF16) {
        mst_bf16 *to = (mst_bf16 *)p + i;
        for (; k + MST_VECTOR <= width; k += MST_VECTOR)
            _mm256_storeu_si256((__m256i *)(to + k), (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(value + k)));
        const __mmask16 rest = first_of_vector(width - k);
        if (rest != 0)
            _mm256_mask_storeu_epi16(to + k, rest,
                                     (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(rest, value + k)));
        return;
    }
#endif
#pragma omp simd
    for (size_t r = k; r < width; r++) store(p, i + r, dtype, value[r]);
}

/** value[0 .. width - 1] as they are after a store and a load. */
MST_INLINE void round_chunk(float *value, size_t width, mst_dtype dtype) {
    if (dtype != MST_BF16) return;
#ifdef __AVX512BF16__
    size_t k = 0;
    for (; k + MST_VECTOR <= width; k += MST_VECTOR)
        _mm512_storeu_ps(value + k, rounded_vector(_mm512_loadu_ps(value + k)));
    if (k == width) return;
    const __mmask16 rest = first_of_vector(width - k);
    _mm512_mask_storeu_ps(value + k, rest, rounded_vector(_mm512_maskz_loadu_ps(rest, value + k)));
#else
#pragma omp simd
    for (size_t k = 0; k < width; k++) value[k] = rounded_to(dtype, value[k]);
#endif
}

/** value[k] = low where it is less, high where it is more; a NaN stays. */
MST_INLINE void hold_chunk(float *value, size_t width, float low, float high) {
#ifdef __AVX512BW__
    size_t k = 0;
    for (; k + MST_VECTOR <= width; k += MST_VECTOR)
        _mm512_storeu_ps(value + k, held_vector(_mm512_loadu_ps(value + k), low, high));
    if (k == width) return;
    const __mmask16 rest = first_of_vector(width - k);
    _mm512_mask_storeu_ps(value + k, rest, held_vector(_mm512_maskz_loadu_ps(rest, value + k), low, high));
#else
#pragma omp simd
    for (size_t k = 0; k < width; k++) value[k] = value[k] < low ? low : value[k];
#pragma omp simd
    for (size_t k = 0; k < width; k++) value[k] = value[k] > high ? high : value[k];
#endif
}

#endif
