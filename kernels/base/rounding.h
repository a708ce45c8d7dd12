/*
 * Stochastic rounding: up or down, with the odds that make the mean of many roundings the value itself, so that changes too small
 * for the type still count. The odds are decided by a hash of (key, element): no state, the same for whoever rounds. Private to
 * kernels/. The CPU and the GPU compile these same lines.
 */
#ifndef MST_BASE_ROUNDING_H
#define MST_BASE_ROUNDING_H

#include "both.h"
#include "muster/dtype.h"

/* 32 bits of an element: Wellons' hash "lowbias32", whose outputs pass for random. */
MST_BOTH uint32_t mst_rounding_bits(uint32_t key, uint32_t element) {
    uint32_t x = element ^ key;
    x = (x ^ x >> 16) * 0x7feb352du;
    x = (x ^ x >> 15) * 0x846ca68bu;
    return x ^ x >> 16;
}

/* A value to bf16: what is cut off is compared with `odds`, 16 random bits. A NaN stays a quiet NaN, an infinity itself. */
MST_BOTH mst_bf16 mst_bf16_at_odds(float x, uint32_t odds) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    const uint32_t finite = bits + odds, quiet = x != x ? bits | 0x400000u : bits;
    return (mst_bf16)(((bits & 0x7f800000u) == 0x7f800000u ? quiet : finite) >> 16);
}

#endif
