/* Series after a reduction to a small range. With contraction off each operation rounds as IEEE says. */
#include "muster/elementary.h"

#include <stdbool.h>
#include <stdint.h>

#include "normal.h"

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
    return sum * mst_double_of_bits((uint64_t)(n + 1023) << 52);
}

double mst_elementary_log(double x) {
    return mst_log(x);
}

double mst_elementary_cos_turns(double turns) {
    return mst_cos_turns(turns);
}

/* pi / 2 in parts of 32, 32 and 53 bits: the first two times a number below 2^21 are exact, and a difference
 * is rounded only where the next one takes off next to nothing. */
void mst_elementary_cos_sin(double angle, double *cosine_out, double *sine_out) {
    static const double half_pi[3] = {0x1.921fb544p0, 0x1.0b4611a6p-34, 0x1.3198a2e037073p-69};
    static const double two_by_pi = 0x1.45f306dc9c883p-1;
    int quarter = (int)(angle * two_by_pi + 0.5);
    double r = ((angle - quarter * half_pi[0]) - quarter * half_pi[1]) - quarter * half_pi[2];
    double c = mst_near_zero(r, false), s = mst_near_zero(r, true);
    bool odd = quarter & 1;
    *cosine_out = (quarter + 1) & 2 ? -(odd ? s : c) : (odd ? s : c);
    *sine_out = quarter & 2 ? -(odd ? c : s) : (odd ? c : s);
}
