/* Element types of tensors, and the bf16 conversions that define their rounding. */
#ifndef MUSTER_DTYPE_H
#define MUSTER_DTYPE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum mst_dtype {
    MST_F32,
    MST_BF16,
    MST_F64, /* the specification bodies only: finite differences and error bounds */
} mst_dtype;

typedef uint16_t mst_bf16; /* the upper half of an IEEE fp32 */

/** Bytes of one element. */
static inline size_t mst_dtype_size(mst_dtype dtype) {
    return dtype == MST_F64 ? 8 : dtype == MST_F32 ? 4 : 2;
}

/** The type in which results of `dtype` are accumulated and statistics are kept: F64 for F64, else F32. */
static inline mst_dtype mst_dtype_acc(mst_dtype dtype) {
    return dtype == MST_F64 ? MST_F64 : MST_F32;
}

/** "f32", "bf16" or "f64". */
static inline const char *mst_dtype_name(mst_dtype dtype) {
    return dtype == MST_F64 ? "f64" : dtype == MST_F32 ? "f32" : "bf16";
}

static inline float mst_bf16_to_f32(mst_bf16 x) {
    uint32_t bits = (uint32_t)x << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/** Rounds to nearest, ties to even; a NaN stays a (quiet) NaN with its sign. */
static inline mst_bf16 mst_bf16_from_f32(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint32_t rounded = bits + 0x7fffu + ((bits >> 16) & 1u), quiet = bits | 0x400000u;
    return (mst_bf16)((x != x ? quiet : rounded) >> 16);
}

#ifdef __cplusplus
}
#endif
#endif
