/*
 * Own exp, log, sine and cosine in plain fp64 arithmetic: the libraries' versions differ in their last bits
 * from release to release and from processor to processor, and a last bit here would change every bit of a
 * run. Taylor series after a reduction to a small range; with contraction off, each operation rounds as IEEE
 * says.
 */
#include "rope.h"

/* High parts of 32 bits: their products with whole numbers up to 2^21 are exact. */
static const double ln2_high = 0x1.62e42feep-1, ln2_low = 0x1.a39ef35793c76p-33;
static const double half_pi_0 = 0x1.921fb544p+0, half_pi_1 = 0x1.0b4611a6p-34,
                    half_pi_2 = 0x1.3198a2e037073p-69;

/* ln x for x in [1, 1e12]: x = 2^e m with m in [sqrt(1/2), sqrt(2)), ln m = 2 artanh((m - 1) / (m + 1)). */
static double log_of(double x) {
    double e = 0;
    for (; x >= 0x1.6a09e667f3bcdp+0; x *= 0.5) e += 1;
    double s = (x - 1) / (x + 1), s2 = s * s, sum = 0;
    for (int k = 23; k >= 3; k -= 2) sum = (sum + 1.0 / k) * s2;
    return e * ln2_high + (e * ln2_low + 2 * s * (1 + sum));
}

/* exp x for x in [-30, 0]: x = n ln 2 + r with |r| <= ln(2) / 2. */
static double exp_of(double x) {
    int n = (int)(x * 0x1.71547652b82fep+0 - 0.5);
    double r = (x - n * ln2_high) - n * ln2_low, sum = 1;
    for (int k = 14; k >= 1; k--) sum = 1 + sum * r / k;
    for (; n < 0; n++) sum *= 0.5;
    return sum;
}

double mst_rope_frequency(double theta, size_t head_dim, size_t i) {
    return exp_of(-(2.0 * (double)i / (double)head_dim) * log_of(theta));
}

/* Sine and cosine by their series, |r| <= pi / 4. */
static double sine_of(double r) {
    double r2 = r * r, sum = 0;
    for (int k = 18; k >= 2; k -= 2) sum = (sum + 1) * -r2 / (k * (k + 1));
    return r + r * sum;
}

static double cosine_of(double r) {
    double r2 = r * r, sum = 0;
    for (int k = 19; k >= 3; k -= 2) sum = (sum + 1) * -r2 / (k * (k + 1));
    return 1 - r2 * 0.5 * (1 + sum);
}

void mst_rope_turn(double angle, double *cosine_out, double *sine_out) {
    long quarter = (long)(angle * 0x1.45f306dc9c883p-1 + 0.5);
    double n = (double)quarter;
    double r = ((angle - n * half_pi_0) - n * half_pi_1) - n * half_pi_2;
    double c = cosine_of(r), s = sine_of(r);
    switch (quarter % 4) {
    case 0:
        *cosine_out = c, *sine_out = s;
        break;
    case 1:
        *cosine_out = -s, *sine_out = c;
        break;
    case 2:
        *cosine_out = -c, *sine_out = -s;
        break;
    default:
        *cosine_out = s, *sine_out = -c;
        break;
    }
}

void mst_rope_tables(double theta, size_t head_dim, size_t positions, float *cosine, float *sine) {
    size_t pairs = head_dim / 2;
    for (size_t i = 0; i < pairs; i++) {
        double frequency = mst_rope_frequency(theta, head_dim, i);
        for (size_t p = 0; p < positions; p++) {
            double c, s;
            mst_rope_turn((double)p * frequency, &c, &s);
            cosine[p * pairs + i] = (float)c;
            sine[p * pairs + i] = (float)s;
        }
    }
}
