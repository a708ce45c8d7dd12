/*
 * Logarithm and cosine in fp64 without a mathematics library: only +, -, *, / and integer operations, which
 * IEEE 754 defines to the last bit, so every compiler and every machine gives the same bits. Private to
 * kernels/ and its tests.
 */
#ifndef MUSTER_BASE_ELEMENTARY_H
#define MUSTER_BASE_ELEMENTARY_H

#include <stdint.h>
#include <string.h>

/*
 * Natural logarithm of a normal number x > 0, within 4 units of 2^-53 relative to the result.
 * x = 2^e m with sqrt(1/2) < m < sqrt(2); log m = 2 artanh(f) with f = (m - 1) / (m + 1), |f| < 0.1716, by
 * its power series: the first term left out, f^25 / 25, is below 2^-64 of the sum.
 */
static inline double elementary_log(double x) {
    static const double ln2_high = 0x1.62e42fefa3800p-1; /* 42 bits of ln 2: e times this is exact */
    static const double ln2_low = 0x1.ef35793c76730p-45;
    static const double sqrt2 = 0x1.6a09e667f3bcdp0;
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    int exponent = (int)(bits >> 52) - 1023;
    bits = (bits & 0x000fffffffffffffu) | 0x3ff0000000000000u;
    double m;
    memcpy(&m, &bits, sizeof m);
    if (m > sqrt2) {
        m *= 0.5;
        exponent++;
    }
    double f = (m - 1.0) / (m + 1.0), f2 = f * f, series = 0.0;
    for (int n = 23; n >= 3; n -= 2) series = f2 * (1.0 / n + series);
    double log_m = 2.0 * f + 2.0 * f * series;
    return exponent * ln2_high + (exponent * ln2_low + log_m);
}

/*
 * cos(2 pi turns) for 0 <= turns < 1, within 4 units of 2^-53 relative to the result.
 * The nearest multiple of a quarter turn is taken off exactly; what is left, |angle| <= pi / 4, goes into the
 * Taylor series of cos or sin: the first terms left out, angle^20 / 20! and angle^19 / 19!, are below 2^-60
 * of the sum.
 */
static inline double elementary_cos_turns(double turns) {
    static const double half_pi = 0x1.921fb54442d18p0;
    static const double inverse_factorial[2][9] = {
        /* of 2, 4, ... 18 for cos, and of 3, 5, ... 17 for sin, with alternating sign */
        {-1.0 / 2, 1.0 / 24, -1.0 / 720, 1.0 / 40320, -1.0 / 3628800, 1.0 / 479001600, -1.0 / 87178291200,
         1.0 / 20922789888000, -1.0 / 6402373705728000},
        {-1.0 / 6, 1.0 / 120, -1.0 / 5040, 1.0 / 362880, -1.0 / 39916800, 1.0 / 6227020800,
         -1.0 / 1307674368000, 1.0 / 355687428096000, 0.0},
    };
    int quarter = (int)(4.0 * turns + 0.5), odd = quarter & 1;
    double angle = (4.0 * turns - quarter) * half_pi, a2 = angle * angle, series = 0.0;
    for (int n = 8; n >= 0; n--) series = a2 * (inverse_factorial[odd][n] + series);
    double value = odd ? angle + angle * series : 1.0 + series;
    /* Quarter turns: cos, -sin, -cos, sin, and again cos. */
    return quarter == 1 || quarter == 2 ? -value : value;
}

#endif
