#include "numbers.h"

#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "safetensors holds little-endian numbers, unconverted");

static const struct {
    const char *name, *tag, *torch;
    size_t size;
} dtypes[MST_HF_DTYPES] = {
    [MST_HF_F32] = {"f32", "F32", "float32", 4},
    [MST_HF_F16] = {"f16", "F16", "float16", 2},
    [MST_HF_BF16] = {"bf16", "BF16", "bfloat16", 2},
};

const char *mst_hf_dtype_name(mst_hf_dtype dtype) {
    return dtypes[dtype].name;
}
size_t hf_dtype_size(mst_hf_dtype dtype) {
    return dtypes[dtype].size;
}
const char *hf_dtype_tag(mst_hf_dtype dtype) {
    return dtypes[dtype].tag;
}
const char *hf_dtype_torch(mst_hf_dtype dtype) {
    return dtypes[dtype].torch;
}

mst_hf_dtype hf_dtype_tagged(const char *tag) {
    int i = 0;
    while (i < MST_HF_DTYPES && strcmp(dtypes[i].tag, tag) != 0) i++;
    return (mst_hf_dtype)i;
}

/* IEEE 754 binary16: 5 bits of exponent, biased by 15; 10 of fraction. */
static float widen_f16(uint16_t half) {
    const uint32_t sign = (uint32_t)(half & 0x8000u) << 16, exponent = half >> 10 & 31u,
                   fraction = half & 1023u;
    uint32_t bits;
    float value;
    if (exponent == 0) { /* 0 or a denormal: a whole number of 2^-24 */
        value = (float)fraction * 0x1p-24f;
        memcpy(&bits, &value, sizeof bits);
        bits |= sign;
    } else {
        bits = sign | (exponent == 31 ? 255u : exponent + 112u) << 23 | fraction << 13;
    }
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint16_t narrow_f16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000u);
    const uint32_t size = bits & 0x7fffffffu;
    if (size > 0x7f800000u) return (uint16_t)(sign | 0x7e00u | (size >> 13 & 0x3ffu)); /* NaN */
    if (size >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); /* from 65520 on: infinite */
    if (size < 0x38800000u) { /* below 2^-14: adding 0.5 leaves multiples of 2^-24 in the low bits, rounded */
        float magnitude;
        uint32_t sum;
        memcpy(&magnitude, &size, sizeof magnitude);
        magnitude += 0.5f;
        memcpy(&sum, &magnitude, sizeof sum);
        return (uint16_t)(sign | (sum - 0x3f000000u));
    }
    return (uint16_t)(sign | (size - 0x38000000u + 0xfffu + (size >> 13 & 1u)) >> 13);
}

void hf_widen(mst_hf_dtype dtype, float *values, size_t count) {
    if (dtype == MST_HF_F32) return;
    const char *raw = (const char *)values + count * sizeof(uint16_t);
    for (size_t i = 0; i < count; i++) { /* what is written never reaches what is still to be read */
        uint16_t half;
        memcpy(&half, raw + i * sizeof half, sizeof half);
        values[i] = dtype == MST_HF_BF16 ? mst_bf16_to_f32(half) : widen_f16(half);
    }
}

size_t hf_narrow(mst_hf_dtype dtype, const float *values, size_t count, void *raw) {
    size_t first = count;
    if (dtype == MST_HF_F32) {
        memcpy(raw, values, count * sizeof *values);
        return count;
    }
    for (size_t i = count; i-- > 0;) {
        const uint16_t half = dtype == MST_HF_BF16 ? mst_bf16_from_f32(values[i]) : narrow_f16(values[i]),
                       infinite = dtype == MST_HF_BF16 ? 0x7f80u : 0x7c00u;
        const bool finite = values[i] - values[i] == 0;
        if (finite && (half & 0x7fffu) == infinite) first = i;
        memcpy((char *)raw + i * sizeof half, &half, sizeof half);
    }
    return first;
}
