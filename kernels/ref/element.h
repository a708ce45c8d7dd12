/* One element of a tensor as a double, whatever its dtype. Private to the specification bodies. */
#ifndef MUSTER_REF_ELEMENT_H
#define MUSTER_REF_ELEMENT_H

#include <math.h>

#include "muster/dtype.h"

static inline double load(const void *tensor, mst_dtype dtype, size_t i) {
    switch (dtype) {
    case MST_F64:
        return ((const double *)tensor)[i];
    case MST_F32:
        return ((const float *)tensor)[i];
    default:
        return mst_bf16_to_f32(((const mst_bf16 *)tensor)[i]);
    }
}

/*
 * Rounds to bf16 once. Going through fp32 would round twice, unless the step to fp32 rounds to odd: an
 * inexact result takes the neighbour whose last bit is set, so that it never looks like a tie.
 */
static inline mst_bf16 bf16_from_f64(double x) {
    float nearest = (float)x;
    uint32_t bits;
    memcpy(&bits, &nearest, sizeof bits);
    if (!isnan(x) && (double)nearest != x && (bits & 1u) == 0) {
        bits = fabs((double)nearest) > fabs(x) ? bits - 1 : bits + 1; /* one unit towards x */
        memcpy(&nearest, &bits, sizeof nearest);
    }
    return mst_bf16_from_f32(nearest);
}

/* Rounds to nearest, ties to even. */
static inline void store(void *tensor, mst_dtype dtype, size_t i, double value) {
    switch (dtype) {
    case MST_F64:
        ((double *)tensor)[i] = value;
        break;
    case MST_F32:
        ((float *)tensor)[i] = (float)value;
        break;
    default:
        ((mst_bf16 *)tensor)[i] = bf16_from_f64(value);
        break;
    }
}

/* tensor[i] += value, rounded once. */
static inline void add(void *tensor, mst_dtype dtype, size_t i, double value) {
    store(tensor, dtype, i, load(tensor, dtype, i) + value);
}

#endif
