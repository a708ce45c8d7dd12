/* Random numbers as pure functions of their counter: Philox 4x32-10, and what is derived from it. */
#include "muster/random.h"

#include "normal.h"

void mst_random_bits(uint64_t seed, mst_random_purpose purpose, uint64_t a, uint64_t b,
                     uint32_t bits_out[4]) {
    mst_philox(mst_redraw_key(seed, purpose, 0), a, b, bits_out);
}

double mst_random_uniform(uint64_t seed, mst_random_purpose purpose, uint64_t a, uint64_t b) {
    uint32_t bits[4];
    mst_random_bits(seed, purpose, a, b, bits);
    return (double)mst_bits53(bits[0], bits[1]) * 0x1p-53;
}

double mst_random_normal(uint64_t seed, mst_random_purpose purpose, uint64_t a, uint64_t b, double limit) {
    return mst_normal_deviate(seed, purpose, a, b, limit);
}

/* One round function of the Feistel network: `half` random bits of (stream, round, right half). */
static uint64_t feistel_round(uint64_t key, uint64_t stream, unsigned round, uint64_t right, uint64_t mask) {
    uint32_t bits[4];
    mst_philox(key, stream, (uint64_t)round << 32 | right, bits);
    return bits[0] & mask;
}

uint64_t mst_random_permute(uint64_t seed, mst_random_purpose purpose, uint64_t stream, uint64_t count,
                            uint64_t index) {
    enum { ROUNDS = 6 };
    unsigned half = 0; /* bits of each half: 2^(2 half) >= count */
    while (half < 32 && (uint64_t)1 << (2 * half) < count) half++;
    uint64_t mask = ((uint64_t)1 << half) - 1, key = mst_redraw_key(seed, purpose, 0);
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
