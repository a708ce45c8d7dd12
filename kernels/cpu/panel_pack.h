/*
 * Panels of the operands of panel_product.c, as its inner loop reads them. The summed dimension k is counted in *pairs*: two
 * neighbouring bf16 elements, the first in the lower half of 32 bits. Private to this folder.
 *
 *   a: [rows / ROWS, pairs, ROWS]    b: [pairs, COLS]
 *
 * Groups of rows of a lie a cache line further apart than they must: else those of a power of two of pairs would all want the
 * same places of the first cache.
 *
 * What lies beyond the matrix is zero.
 */
#ifndef MST_CPU_PANEL_PACK_H
#define MST_CPU_PANEL_PACK_H

#include "chunk.h"

enum { ROWS = 8, VECTORS = 3, LANES = MST_VECTOR, COLS = VECTORS * LANES };

typedef uint32_t pair;

/* Part of a stored matrix whose rows go along k ([outer, k]) or across it ([k, outer]). */
typedef struct operand {
    const mst_bf16 *first;
    size_t ld;       /* elements from row to row as stored */
    size_t outer, k; /* extent from `first` on; outer: rows of a, columns of b */
    bool along;
} operand;

MST_INLINE size_t pairs_of(size_t k) {
    return (k + 1) / 2;
}

/* Pairs from a packed group of ROWS rows to the next. */
MST_INLINE size_t group_stride(size_t pairs) {
    return pairs * ROWS + LANES;
}

/* 16 x 16 pairs, transposed. */
MST_INLINE void transpose(__m512i row[LANES]) {
    __m512i t[LANES];
    for (int i = 0; i < LANES; i += 2) {
        t[i] = _mm512_unpacklo_epi32(row[i], row[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(row[i], row[i + 1]);
    }
    for (int i = 0; i < LANES; i += 4) {
        row[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        row[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        row[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        row[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; i++) { /* quarter c of row 4 q + i: element 4 c + i of rows 4 q to 4 q + 3 */
        const __m512i even01 = _mm512_shuffle_i32x4(row[i], row[i + 4], 0x88);
        const __m512i even23 = _mm512_shuffle_i32x4(row[i + 8], row[i + 12], 0x88);
        const __m512i odd01 = _mm512_shuffle_i32x4(row[i], row[i + 4], 0xdd);
        const __m512i odd23 = _mm512_shuffle_i32x4(row[i + 8], row[i + 12], 0xdd);
        t[i] = _mm512_shuffle_i32x4(even01, even23, 0x88);
        t[i + 8] = _mm512_shuffle_i32x4(even01, even23, 0xdd);
        t[i + 4] = _mm512_shuffle_i32x4(odd01, odd23, 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(odd01, odd23, 0xdd);
    }
    for (int i = 0; i < LANES; i++) row[i] = t[i];
}

/* Of a matrix along k: pairs `p` to p + 15 of a row. */
MST_INLINE __m512i pairs_along(const operand *x, size_t row, size_t p) {
    if (row >= x->outer) return _mm512_setzero_si512();
    const mst_bf16 *from = x->first + row * x->ld + 2 * p;
    const size_t left = x->k - 2 * p;
    return left >= 2 * LANES ? _mm512_loadu_si512(from) : _mm512_maskz_loadu_epi16((1u << left) - 1, from);
}

/* Of a matrix across k: pair p of columns `col` to col + 15. */
MST_INLINE __m512i pairs_across(const operand *x, size_t col, size_t p) {
    const __mmask16 here = first_of_vector(col < x->outer ? x->outer - col : 0);
    const mst_bf16 *from = x->first + 2 * p * x->ld + col;
    const __m512i first = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(here, from));
    if (2 * p + 1 == x->k) return first;
    const __m512i second = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(here, from + x->ld));
    return _mm512_or_si512(first, _mm512_slli_epi32(second, 16));
}

/** The first COLS columns of b; `to` has room for a multiple of LANES pairs. */
MST_INLINE void pack_b(const operand *b, pair *to) {
    const size_t pairs = pairs_of(b->k), vectors = tiles_of(b->outer < COLS ? b->outer : COLS, LANES);
    for (size_t p = 0; !b->along && p < pairs; p++)
        for (size_t v = 0; v < vectors; v++)
            _mm512_storeu_si512(to + p * COLS + v * LANES, pairs_across(b, v * LANES, p));
    for (size_t p = 0; b->along && p < pairs; p += LANES)
        for (size_t v = 0; v < vectors; v++) {
            __m512i row[LANES];
            for (size_t i = 0; i < LANES; i++) row[i] = pairs_along(b, v * LANES + i, p);
            transpose(row);
            for (size_t i = 0; i < LANES; i++) _mm512_storeu_si512(to + (p + i) * COLS + v * LANES, row[i]);
        }
}

/* A pair of 16 rows, which are two groups. */
MST_INLINE void put_groups(pair *to, size_t group, __m512i pairs) {
    _mm256_storeu_si256((__m256i *)(void *)to, _mm512_castsi512_si256(pairs));
    _mm256_storeu_si256((__m256i *)(void *)(to + group), _mm512_extracti64x4_epi64(pairs, 1));
}

/* Rows across k lie far apart, where the processor fetches nothing by itself. */
MST_INLINE void prefetch_across(const operand *x, size_t col, size_t p) {
    const uintptr_t from = (uintptr_t)x->first + (2 * p * x->ld + col) * sizeof(mst_bf16);
    __builtin_prefetch((const void *)from);
    __builtin_prefetch((const void *)(from + x->ld * sizeof(mst_bf16)));
}

/** All rows of a; `to` has room for a multiple of two groups. */
MST_INLINE void pack_a(const operand *a, pair *to) {
    enum { AHEAD = 6 };
    const size_t pairs = pairs_of(a->k), group = group_stride(pairs);
    for (size_t p = 0; !a->along && p < pairs; p++)
        for (size_t r = 0; r < a->outer; r += LANES) {
            prefetch_across(a, r, p + AHEAD);
            put_groups(to + r / ROWS * group + p * ROWS, group, pairs_across(a, r, p));
        }
    for (size_t r = 0; a->along && r < a->outer; r += LANES)
        for (size_t p = 0; p < pairs; p += LANES) {
            __m512i row[LANES];
            for (size_t i = 0; i < LANES; i++) row[i] = pairs_along(a, r + i, p);
            transpose(row);
            for (size_t i = 0; i < LANES && p + i < pairs; i++)
                put_groups(to + r / ROWS * group + (p + i) * ROWS, group, row[i]);
        }
}

/** Fetches part `part` of `parts` of what pack_b will read into the second cache. */
MST_INLINE void prefetch_b(const operand *b, size_t part, size_t parts) {
    enum { LINE = 64 };
    const size_t cols = b->outer < COLS ? b->outer : COLS, rows = b->along ? cols : b->k;
    const size_t bytes = (b->along ? b->k : cols) * sizeof(mst_bf16);
    for (size_t r = rows * part / parts; r < rows * (part + 1) / parts; r++)
        for (size_t at = 0; at < bytes; at += LINE)
            __builtin_prefetch((const char *)(b->first + r * b->ld) + at, 0, 2);
}

#endif
