/* Elements of weight files: their names, and what they are in fp32. */
#ifndef CONVERT_NUMBERS_H
#define CONVERT_NUMBERS_H

#include "muster/convert.h"

/** Bytes of one element: 4 or 2. */
size_t hf_dtype_size(mst_hf_dtype dtype);
/** "F32", "F16", "BF16": as safetensors has it. */
const char *hf_dtype_tag(mst_hf_dtype dtype);
/** "float32", "float16", "bfloat16": as config.json has it. */
const char *hf_dtype_torch(mst_hf_dtype dtype);
/** The type of such a tag; MST_HF_DTYPES: none of ours. */
mst_hf_dtype hf_dtype_tagged(const char *tag);

/** Widens elements in place, exactly: on entry the raw ones fill the end of values [count]. */
void hf_widen(mst_hf_dtype dtype, float *values, size_t count);

/**
 * Rounds to the nearest, ties to even.
 * @param raw [count * hf_dtype_size]
 * @return the first element that is finite and would not stay so; count: there is none
 */
size_t hf_narrow(mst_hf_dtype dtype, const float *values, size_t count, void *raw);

#endif
