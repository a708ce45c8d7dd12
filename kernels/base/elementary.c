/* Series after a reduction to a small range. With contraction off each operation rounds as IEEE says. */
#include "muster/elementary.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static double double_of_bits(uint64_t bits) {
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/*
 * x = n ln 2 + r with |r| <= ln(2) / 2; exp r by its Taylor series: the first term left out, r^15 / 15!, is
 * below 2^-62. n ln2_high is exact, and so is x less it: what is lost before the series is 2^-55.
 */
double mst_elementary_exp(double x) {
    static const double log2_e = 0x1.71547652b82fep0;
    static const double ln2_high = 0x1.62e42feep-1,
                        ln2_low = 0x1.a39ef35793c76p-33; /* 32 bits, and the rest */
    int n = (int)(x * log2_e + (x < 0.0 ? -0.5 : 0.5));
    double r = (x - n * ln2_high) - n * ln2_low, sum = 1.0;
    for (int k = 14; k >= 1; k--) sum = 1.0 + sum * r / k;
    return sum * double_of_bits((uint64_t)(n + 1023) << 52);
}

/*
 * x = 2^e m with sqrt(1/2) < m < sqrt(2); log m = 2 artanh(f) with f = (m - 1) / (m + 1), |f| < 0.1716, by
 * its power series: the first term left out, f^25 / 25, is below 2^-64 of the sum.
 */
double mst_elementary_log(double x) {
    static const double ln2_high = 0x1.62e42fefa3800p-1; /* 42 bits of ln 2: e times this is exact */
    static const double ln2_low = 0x1.ef35793c76730p-45;
    static const double sqrt2 = 0x1.6a09e667f3bcdp0;
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    int exponent = (int)(bits >> 52) - 1023;
    double m = double_of_bits((bits & 0x000fffffffffffffu) | 0x3ff0000000000000u);
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
static double near_zero(double angle, bool sine) {
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
double mst_elementary_cos_turns(double turns) {
    static const double half_pi = 0x1.921fb54442d18p0;
    int quarter = (int)(4.0 * turns + 0.5);
    double angle = (4.0 * turns - quarter) * half_pi;
    double value = near_zero(angle, quarter & 1);
    /* Quarter turns: cos, -sin, -cos, sin, and again cos. */
    return quarter == 1 || quarter == 2 ? -value : value;
}

/* pi / 2 in parts of 32, 32 and 53 bits: the first two times a number below 2^21 are exact, and a difference
 * is rounded only where the next one takes off next to nothing. */
void mst_elementary_cos_sin(double angle, double *cosine_out, double *sine_out) {
    static const double half_pi[3] = {0x1.921fb544p0, 0x1.0b4611a6p-34, 0x1.3198a2e037073p-69};
    static const double two_by_pi = 0x1.45f306dc9c883p-1;
    int quarter = (int)(angle * two_by_pi + 0.5);
    double r = ((angle - quarter * half_pi[0]) - quarter * half_pi[1]) - quarter * half_pi[2];
    double c = near_zero(r, false), s = near_zero(r, true);
    bool odd = quarter & 1;
    *cosine_out = (quarter + 1) & 2 ? -(odd ? s : c) : (odd ? s : c);
    *sine_out = quarter & 2 ? -(odd ? c : s) : (odd ? c : s);
}
