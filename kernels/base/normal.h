/*
 * A normal deviate and what it is made of: Philox 4x32-10, logarithm and cosine. Private to kernels/. The CPU and the GPU
 * compile these same lines: only integers, +, -, *, / and square roots, which IEEE 754 defines to the last bit.
 */
#ifndef MST_BASE_NORMAL_H
#define MST_BASE_NORMAL_H

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "both.h"
#include "muster/random.h"

MST_BOTH double mst_double_of_bits(uint64_t bits) {
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/*
 * x = 2^e m with sqrt(1/2) < m < sqrt(2); log m = 2 artanh(f) with f = (m - 1) / (m + 1), |f| < 0.1716, by
 * its power series: the first term left out, f^25 / 25, is below 2^-64 of the sum.
 */
MST_BOTH double mst_log(double x) {
    static const double ln2_high = 0x1.62e42fefa3800p-1; /* 42 bits of ln 2: e times this is exact */
    static const double ln2_low = 0x1.ef35793c76730p-45;
    static const double sqrt2 = 0x1.6a09e667f3bcdp0;
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    int exponent = (int)(bits >> 52) - 1023;
    double m = mst_double_of_bits((bits & 0x000fffffffffffffu) | 0x3ff0000000000000u);
    if (m > sqrt2) {
        m *= 0.5;
        exponent++;
    }
    double f = (m - 1.0) / (m + 1.0), f2 = f * f, series = 0.0;
    for (int n = 23; n >= 3; n -= 2) series = f2 * (1.0 / n + series);
    double log_m = 2.0 * f + 2.0 * f * series;
    return exponent * ln2_high + (exponent * ln2_low + log_m);
}

/* Cosine or sine by its Taylor series, |angle| <= pi / 4: the first terms left out, angle^20 / 20! and
 * angle^19 / 19!, are below 2^-60 of the sum. */
MST_BOTH double mst_near_zero(double angle, bool sine) {
    static const double inverse_factorial[2][9] = {
        /* of 2, 4, ... 18 for cos, and of 3, 5, ... 17 for sin, with alternating sign */
        {-1.0 / 2, 1.0 / 24, -1.0 / 720, 1.0 / 40320, -1.0 / 3628800, 1.0 / 479001600, -1.0 / 87178291200,
         1.0 / 20922789888000, -1.0 / 6402373705728000},
        {-1.0 / 6, 1.0 / 120, -1.0 / 5040, 1.0 / 362880, -1.0 / 39916800, 1.0 / 6227020800,
         -1.0 / 1307674368000, 1.0 / 355687428096000, 0.0},
    };
    double a2 = angle * angle, series = 0.0;
    for (int n = 8; n >= 0; n--) series = a2 * (inverse_factorial[sine][n] + series);
    return sine ? angle + angle * series : 1.0 + series;
}

/* The nearest multiple of a quarter turn is taken off exactly. */
MST_BOTH double mst_cos_turns(double turns) {
    static const double half_pi = 0x1.921fb54442d18p0;
    int quarter = (int)(4.0 * turns + 0.5);
    double angle = (4.0 * turns - quarter) * half_pi;
    double value = mst_near_zero(angle, quarter & 1);
    /* Quarter turns: cos, -sin, -cos, sin, and again cos. */
    return quarter == 1 || quarter == 2 ? -value : value;
}

/*
 * Purposes and redraws share one 64-bit key with the seed. An odd multiplier makes the map one to one in the
 * seed for each variant, and in the variant for each seed.
 */
MST_BOTH uint64_t mst_key_of(uint64_t seed, uint64_t variant) {
    return seed ^ (variant * 0xd1342543de82ef95u);
}

/* The key of the n-th redraw of a rejected deviate; n = 0 is the key of mst_random_bits. */
MST_BOTH uint64_t mst_redraw_key(uint64_t seed, mst_random_purpose purpose, uint64_t n) {
    return mst_key_of(seed, (uint64_t)purpose + (n << 8));
}

/* Philox 4x32 with 10 rounds; constants from Salmon et al., SC 2011, table 2. */
MST_BOTH void mst_philox(uint64_t key, uint64_t a, uint64_t b, uint32_t out[4]) {
    uint32_t x0 = (uint32_t)a, x1 = (uint32_t)(a >> 32), x2 = (uint32_t)b, x3 = (uint32_t)(b >> 32);
    uint32_t key0 = (uint32_t)key, key1 = (uint32_t)(key >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t product0 = (uint64_t)0xd2511f53u * x0;
        uint64_t product2 = (uint64_t)0xcd9e8d57u * x2;
        x0 = (uint32_t)(product2 >> 32) ^ x1 ^ key0;
        x2 = (uint32_t)(product0 >> 32) ^ x3 ^ key1;
        x1 = (uint32_t)product2;
        x3 = (uint32_t)product0;
        key0 += 0x9e3779b9u; /* Weyl sequences: golden ratio, and sqrt(3) - 1 */
        key1 += 0xbb67ae85u;
    }
    out[0] = x0;
    out[1] = x1;
    out[2] = x2;
    out[3] = x3;
}

/* The top 53 of 64 random bits. */
MST_BOTH uint64_t mst_bits53(uint32_t low, uint32_t high) {
    return ((uint64_t)high << 32 | low) >> 11;
}

MST_BOTH double mst_normal_deviate(uint64_t seed, mst_random_purpose purpose, uint64_t a, uint64_t b,
                                   double limit) {
    for (uint64_t n = 0;; n++) {
        uint32_t bits[4];
        mst_philox(mst_redraw_key(seed, purpose, n), a, b, bits);
        /* (0, 1]: its logarithm exists */
        double radius_uniform = (double)(mst_bits53(bits[0], bits[1]) + 1) * 0x1p-53;
        double turns = (double)mst_bits53(bits[2], bits[3]) * 0x1p-53;
        double z = sqrt(-2.0 * mst_log(radius_uniform)) * mst_cos_turns(turns);
        if (!(limit > 0.0) || fabs(z) <= limit) return z;
    }
}

#endif
