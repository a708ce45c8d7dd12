/*
 * Exponential and logistic function for the bodies, in fp32 without branches, so that loops over them become
 * vector code. No mathematics library: its bits depend on the machine. Private to this folder.
 */
#ifndef MST_CPU_MATH_H
#define MST_CPU_MATH_H

#include <stdint.h>
#include <string.h>

#include "cpu.h"

MST_INLINE float float_of_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

MST_INLINE uint32_t bits_of_float(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* exp(x) = fraction * 2^n. In `shifted` n + 127, the exponent field of 2^n, stands in the lowest bits. */
typedef struct split_exp {
    float fraction; /* sqrt(1/2) to sqrt(2) */
    float shifted;
} split_exp;

/* Adding it rounds a small number to an integer: one unit in the last place of the sum is 1. */
#define EXP_ROUNDER (0x1.8p23f + 127.0f)

/*
 * x = n ln 2 + r with |r| <= ln(2) / 2; exp(r) = 1 + r + r^2 q(r), q of degree 4 by the Remez exchange
 * (relative error of exp(r): 2^-28). ln 2 is cut in two so that n * ln2_high is exact, also where there is no
 * fused product. |x| < 2^21; a NaN gives a NaN fraction.
 */
MST_INLINE split_exp exp_split(float x) {
    const float log2_e = 0x1.715476p0f, ln2_high = 0x1.62e4p-1f, ln2_low = 0x1.7f7d1cp-20f;
    float shifted = fma_f32(x, log2_e, EXP_ROUNDER);
    float n = shifted - EXP_ROUNDER;
    float r = fma_f32(n, -ln2_low, fma_f32(n, -ln2_high, x));
    float q = fma_f32(r, 0x1.6a2402p-10f, 0x1.123a1ep-7f);
    q = fma_f32(q, r, 0x1.5558f2p-5f);
    q = fma_f32(q, r, 0x1.555492p-3f);
    q = fma_f32(q, r, 0x1.fffffcp-2f);
    float fraction = fma_f32(fma_f32(q, r, 1.0f), r, 1.0f);
    return (split_exp){fraction, shifted};
}

/* 2^x for a result that will be rounded to bf16: x = n + r with |r| <= 1/2, 2^r = 1 + r q(r), q of degree 3 by linear
 * programming (relative error: 2^-18.4, a 500th of bf16's). |x| < 2^21; a NaN gives a NaN fraction. */
MST_INLINE split_exp exp2_split_short(float x) {
    float shifted = x + EXP_ROUNDER;
    float r = x - (shifted - EXP_ROUNDER);
    float q = fma_f32(r, 0x1.3a01e0p-7f, 0x1.c9fbfap-5f);
    q = fma_f32(q, r, 0x1.ec0378p-3f);
    q = fma_f32(q, r, 0x1.62e12ep-1f);
    return (split_exp){fma_f32(q, r, 1.0f), shifted};
}

/** exp(x) within 2 units in the last place, denormal results included;
 * exp(-inf) = 0, exp(inf) = inf, NaN stays NaN. */
MST_INLINE float exp_f32(float x) {
    /* below, the result rounds to 0; above 89 it overflows; a NaN passes both */
    x = x < -104.0f ? -104.0f : x;
    x = x > 89.0f ? 89.0f : x;
    split_exp e = exp_split(x);
    int32_t n = (int32_t)bits_of_float(e.shifted) - (int32_t)bits_of_float(EXP_ROUNDER);
    int32_t half = n >> 1; /* 2^n itself may be out of range */
    float scale = float_of_bits((uint32_t)(half + 127) << 23),
          rest = float_of_bits((uint32_t)(n - half + 127) << 23);
    return e.fraction * scale * rest;
}

/** exp(x) for x <= 88, the same but 0 where the result is below 2^-126.5:
 * the weights of a softmax. NaN stays NaN. */
MST_INLINE float exp_flushed(float x) {
    split_exp e = exp_split(x < -88.0f ? -88.0f : x); /* at -88, n + 127 = 0: the bits of 0.0 */
    return e.fraction * float_of_bits(bits_of_float(e.shifted) << 23);
}

/* logistic(x) = 1 / (1 + exp(-x)) and its derivative, the value times 1 - value. */
typedef struct logistic_pair {
    float value, slope;
} logistic_pair;

/** What an argument of logistic_negative comes multiplied with: for bf16 results it is the exponent of 2. */
MST_INLINE float logistic_unit(mst_dtype dtype) {
    return dtype == MST_BF16 ? 0x1.715476p0f : 1.0f;
}

/** The logistic function of -t, for -88 <= t <= 87.3, given t times the unit. At -88 the slope is 0. NaN stays NaN. */
MST_INLINE logistic_pair logistic_negative(float t, mst_dtype dtype) {
    split_exp e = dtype == MST_BF16 ? exp2_split_short(t) : exp_split(t);
    float power = e.fraction * float_of_bits(bits_of_float(e.shifted) << 23), value = 1.0f / (1.0f + power);
    return (logistic_pair){value,
                           value * (power * value)}; /* 1 - value = power * value, without cancellation */
}

#endif
