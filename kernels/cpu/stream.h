/*
 * Lines written past the caches: memory that is read again only when the caches have long held other things. A plain store reads
 * the line from memory first. Private to this folder.
 */
#ifndef MST_CPU_STREAM_H
#define MST_CPU_STREAM_H

#include <stdint.h>
#include <string.h>

#ifdef __SSE2__
#include <immintrin.h>
#endif

#include "cpu.h"

enum { MST_LINE = 64 }; /* bytes of a cache line */

/** Elements from p to the next line: none where p begins one. */
MST_INLINE size_t elements_to_line(const void *p, mst_dtype dtype) {
    return (MST_LINE - (uintptr_t)p % MST_LINE) % MST_LINE / mst_dtype_size(dtype);
}

/** Copies whole lines. @param to the beginning of a line */
MST_INLINE void stream(void *to, const void *from, size_t bytes) {
#if defined(__AVX__)
    for (size_t k = 0; k < bytes; k += sizeof(__m256i))
        _mm256_stream_si256((__m256i *)((char *)to + k),
                            _mm256_loadu_si256((const __m256i *)((const char *)from + k)));
#elif defined(__SSE2__)
    for (size_t k = 0; k < bytes; k += sizeof(__m128i))
        _mm_stream_si128((__m128i *)((char *)to + k),
                         _mm_loadu_si128((const __m128i *)((const char *)from + k)));
#else
    memcpy(to, from, bytes);
#endif
}

/** Of a task that has streamed lines, the last thing: others may read them then. */
MST_INLINE void stream_end(void) {
#ifdef __SSE2__
    _mm_sfence();
#endif
}

#endif
