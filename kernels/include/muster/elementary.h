/*
 * Exponential, logarithm, cosine and sine in fp64 without a mathematics library, whose last bits differ from
 * release to release and from processor to processor: a last bit here would change every bit of a run. Only
 * +, -, *, / and integer operations, which IEEE 754 defines to the last bit, so every compiler and every
 * machine gives the same bits.
 *
 * Errors are in units of 2^-53, relative to the result. Not collective; pure functions, safe from any thread.
 * An argument outside the stated range is the caller's error: the result means nothing.
 */
#ifndef MUSTER_ELEMENTARY_H
#define MUSTER_ELEMENTARY_H

#ifdef __cplusplus
extern "C" {
#endif

/** exp(x), -700 <= x <= 700, within 4 units. */
double mst_elementary_exp(double x);

/** Natural logarithm of a normal number x > 0, within 4 units. */
double mst_elementary_log(double x);

/** cos(2 pi turns), 0 <= turns < 1, within 4 units; exact at quarter turns. */
double mst_elementary_cos_turns(double turns);

/** Cosine and sine of an angle in radians, 0 <= angle <= 2^20, each within 4 units, also where it is small
 * because the angle is near a multiple of pi / 2. */
void mst_elementary_cos_sin(double angle, double *cosine_out, double *sine_out);

#ifdef __cplusplus
}
#endif
#endif
