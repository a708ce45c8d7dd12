/* Counter-based random numbers: a value is a pure function of (seed, purpose, a, b),
 * never of who asks or when. */
#ifndef MUSTER_RANDOM_H
#define MUSTER_RANDOM_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a random number is for; part of its key. Never renumber: stored runs depend on it. */
typedef enum mst_random_purpose {
    MST_RANDOM_INIT = 1,
    MST_RANDOM_SHUFFLE = 2,
    MST_RANDOM_MIX = 3,
    MST_RANDOM_SAMPLE = 4,
    MST_RANDOM_TEST = 5,
    MST_RANDOM_HELDOUT = 6,
    MST_RANDOM_MOMENTS = 7,
} mst_random_purpose;

/** Philox 4x32-10: 128 random bits of counter (a, b) under the key (seed, purpose).
 * Salmon et al., SC 2011. */
void mst_random_bits(uint64_t seed, mst_random_purpose purpose, uint64_t a, uint64_t b, uint32_t bits_out[4]);

/** A double in [0, 1) with 53 random bits. */
double mst_random_uniform(uint64_t seed, mst_random_purpose purpose, uint64_t a, uint64_t b);

/**
 * A normal deviate (mean 0, deviation 1) truncated to |z| <= limit by redrawing; limit <= 0 means not
 * truncated. Box-Muller in fp64 with our own log and cos, so that the bits depend on no mathematics library.
 */
double mst_random_normal(uint64_t seed, mst_random_purpose purpose, uint64_t a, uint64_t b, double limit);

/**
 * A keyed permutation of 0 to count - 1: where index goes. count >= 1, index < count.
 * Feistel network over the next even power of two, walking the cycle until the result is in range.
 */
uint64_t mst_random_permute(uint64_t seed, mst_random_purpose purpose, uint64_t stream, uint64_t count,
                            uint64_t index);

#ifdef __cplusplus
}
#endif
#endif
