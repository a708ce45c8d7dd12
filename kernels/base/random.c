/* Random numbers as pure functions of their counter: Philox 4x32-10, and what is derived from it. */
#include "muster/random.h"

#include <math.h>

#include "muster/elementary.h"

/*
 * Purposes and redraws share one 64-bit key with the seed. An odd multiplier makes the map one to one in the
 * seed for each variant, and in the variant for each seed.
 */
static uint64_t key_of(uint64_t seed, uint64_t variant) {
    return seed ^ (variant * 0xd1342543de82ef95u);
}

/* The key of the n-th redraw of a rejected deviate; n = 0 is the key of mst_random_bits. */
static uint64_t redraw_key(uint64_t seed, mst_random_purpose purpose, uint64_t n) {
    return key_of(seed, (uint64_t)purpose + (n << 8));
}

/* Philox 4x32 with 10 rounds; constants from Salmon et al., SC 2011, table 2. */
static void philox(uint64_t key, uint64_t a, uint64_t b, uint32_t out[4]) {
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
static uint64_t bits53(uint32_t low, uint32_t high) {
    return ((uint64_t)high << 32 | low) >> 11;
}

void mst_random_bits(uint64_t seed, mst_random_purpose purpose, uint64_t a, uint64_t b,
                     uint32_t bits_out[4]) {
    philox(redraw_key(seed, purpose, 0), a, b, bits_out);
}

double mst_random_uniform(uint64_t seed, mst_random_purpose purpose, uint64_t a, uint64_t b) {
    uint32_t bits[4];
    mst_random_bits(seed, purpose, a, b, bits);
    return (double)bits53(bits[0], bits[1]) * 0x1p-53;
}

double mst_random_normal(uint64_t seed, mst_random_purpose purpose, uint64_t a, uint64_t b, double limit) {
    for (uint64_t n = 0;; n++) {
        uint32_t bits[4];
        philox(redraw_key(seed, purpose, n), a, b, bits);
        /* (0, 1]: its logarithm exists */
        double radius_uniform = (double)(bits53(bits[0], bits[1]) + 1) * 0x1p-53;
        double turns = (double)bits53(bits[2], bits[3]) * 0x1p-53;
        double z = sqrt(-2.0 * mst_elementary_log(radius_uniform)) * mst_elementary_cos_turns(turns);
        if (!(limit > 0.0) || fabs(z) <= limit) return z;
    }
}

/* One round function of the Feistel network: `half` random bits of (stream, round, right half). */
static uint64_t feistel_round(uint64_t key, uint64_t stream, unsigned round, uint64_t right, uint64_t mask) {
    uint32_t bits[4];
    philox(key, stream, (uint64_t)round << 32 | right, bits);
    return bits[0] & mask;
}

uint64_t mst_random_permute(uint64_t seed, mst_random_purpose purpose, uint64_t stream, uint64_t count,
                            uint64_t index) {
    enum { ROUNDS = 6 };
    unsigned half = 0; /* bits of each half: 2^(2 half) >= count */
    while (half < 32 && (uint64_t)1 << (2 * half) < count) half++;
    uint64_t mask = ((uint64_t)1 << half) - 1, key = redraw_key(seed, purpose, 0);
    /* The network permutes [0, 2^(2 half)), so walking from an index in range comes back into range,
     * at the latest at the index itself. The range is more than a quarter of the whole:
     * fewer than four steps on average. */
    do {
        uint64_t left = index >> half, right = index & mask;
        for (unsigned round = 0; round < ROUNDS; round++) {
            uint64_t next = left ^ feistel_round(key, stream, round, right, mask);
            left = right;
            right = next;
        }
        index = left << half | right;
    } while (index >= count);
    return index;
}
