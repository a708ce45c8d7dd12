/* Random numbers: published known answers, the mathematics of the normal deviates,
 * and permutations that are ones. */
#include "muster/random.h"
#include "test.h"

enum { SEED = 20240607 };

/* Philox with a given raw key: the purpose is folded into the key by an odd multiplier,
 * which this takes out again. */
static void raw_philox(uint64_t key, uint64_t a, uint64_t b, uint32_t out[4]) {
    mst_random_bits(key ^ (MST_RANDOM_TEST * 0xd1342543de82ef95u), MST_RANDOM_TEST, a, b, out);
}

/* The file kat_vectors of Random123 1.14, lines "philox4x32 10". */
static void test_known_answers(void) {
    static const struct {
        uint64_t a, b, key;
        uint32_t expected[4];
    } known[] = {
        {0, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {UINT64_MAX, UINT64_MAX, UINT64_MAX, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {0x85a308d3243f6a88,
         0x0370734413198a2e,
         0x299f31d0a4093822,
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        uint32_t out[4];
        raw_philox(known[i].key, known[i].a, known[i].b, out);
        CHECK(memcmp(out, known[i].expected, sizeof out) == 0, "vector %zu: %08x %08x %08x %08x", i, out[0],
              out[1], out[2], out[3]);
    }
}

/* Purposes, seeds and counters all matter. */
static void test_distinct(void) {
    uint32_t base[4], other[4];
    mst_random_bits(1, MST_RANDOM_INIT, 2, 3, base);
    mst_random_bits(1, MST_RANDOM_SHUFFLE, 2, 3, other);
    CHECK(memcmp(base, other, sizeof base) != 0, "the purpose changes nothing");
    mst_random_bits(2, MST_RANDOM_INIT, 2, 3, other);
    CHECK(memcmp(base, other, sizeof base) != 0, "the seed changes nothing");
    mst_random_bits(1, MST_RANDOM_INIT, 3, 2, other);
    CHECK(memcmp(base, other, sizeof base) != 0, "a and b are interchangeable");
}

/* Sample moments of n deviates, within 5 standard errors: sqrt(1, 2, 15, 96 over n) for
 * mean, variance, skew, kurtosis. */
static void test_normal_moments(void) {
    enum { N = 400000 };
    double sum[5] = {0};
    for (uint64_t i = 0; i < N; i++) {
        double z = mst_random_normal(SEED, MST_RANDOM_TEST, i, 1, 0.0), power = 1.0;
        for (int p = 0; p < 5; p++, power *= z) sum[p] += power;
    }
    static const double expected[5] = {1, 0, 1, 0, 3}, deviation[5] = {0, 1, 2, 15, 96};
    for (int p = 1; p < 5; p++) {
        double moment = sum[p] / N;
        CHECK(fabs(moment - expected[p]) <= 5.0 * sqrt(deviation[p] / N), "moment %d is %g", p, moment);
    }
}

static void test_truncation(void) {
    enum { N = 50000 };
    double sum2 = 0.0;
    for (uint64_t i = 0; i < N; i++) {
        double z = mst_random_normal(SEED, MST_RANDOM_TEST, i, 2, 2.0);
        double free_z = mst_random_normal(SEED, MST_RANDOM_TEST, i, 2, 0.0);
        if (!(fabs(z) <= 2.0)) CHECK(false, "deviate %g is beyond 2", z);
        if (fabs(free_z) <= 2.0 && z != free_z) CHECK(false, "a deviate within the limit was redrawn");
        sum2 += z * z;
    }
    /* Variance of a normal truncated at 2: 1 - 4 phi(2) / (2 Phi(2) - 1) = 0.773741;
     * its square deviates by about 0.94. */
    CHECK(fabs(sum2 / N - 0.773741) <= 5.0 * 0.94 / sqrt(N), "variance %g", sum2 / N);
    CHECK(fabs(mst_random_normal(SEED, MST_RANDOM_TEST, 1, 3, 0.01)) <= 0.01, "narrow truncation");
}

static void test_uniform(void) {
    enum { N = 100000 };
    double sum = 0.0;
    for (uint64_t i = 0; i < N; i++) {
        double u = mst_random_uniform(SEED, MST_RANDOM_TEST, 7, i);
        if (!(u >= 0.0 && u < 1.0)) CHECK(false, "uniform %g", u);
        sum += u;
    }
    CHECK(fabs(sum / N - 0.5) <= 5.0 * sqrt(1.0 / 12 / N), "mean %g", sum / N);
}

static void test_permutation(uint64_t count) {
    unsigned char *seen = calloc(count, 1);
    CHECK(seen, "no memory for %llu flags", (unsigned long long)count);
    if (!seen) return;
    uint64_t repeated = 0, outside = 0, fixed = 0;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t to = mst_random_permute(SEED, MST_RANDOM_SHUFFLE, count, count, i);
        if (to >= count)
            outside++;
        else
            repeated += seen[to]++ != 0;
        fixed += to == i;
    }
    CHECK(outside == 0 && repeated == 0, "count %llu: %llu outside, %llu twice", (unsigned long long)count,
          (unsigned long long)outside, (unsigned long long)repeated);
    /* A random permutation has one fixed point on average, and more than 12 once in 10^10. */
    if (count > 100)
        CHECK(fixed <= 12, "%llu fixed points of %llu", (unsigned long long)fixed, (unsigned long long)count);
    free(seen);
}

/* Every one of the 6 orders of three things comes equally often over the streams:
 * chi-square with 5 degrees of freedom. */
static void test_permutation_is_fair(void) {
    enum { N = 6000 };
    int times[6] = {0};
    for (uint64_t stream = 0; stream < N; stream++) {
        uint64_t p[3];
        for (uint64_t i = 0; i < 3; i++) p[i] = mst_random_permute(SEED, MST_RANDOM_SHUFFLE, stream, 3, i);
        times[p[0] * 2 + (p[1] > p[2])]++;
    }
    double chi2 = 0.0;
    for (int i = 0; i < 6; i++) chi2 += (times[i] - N / 6.0) * (times[i] - N / 6.0) / (N / 6.0);
    CHECK(chi2 < 25.7, "chi-square %g (25.7 is exceeded once in 10,000)", chi2);
}

static void test_large_permutation(void) {
    uint64_t count = UINT64_MAX, a = mst_random_permute(SEED, MST_RANDOM_SHUFFLE, 0, count, 0);
    uint64_t b = mst_random_permute(SEED, MST_RANDOM_SHUFFLE, 0, count, count - 1);
    CHECK(a < count && b < count && a != b, "2^64 - 1 elements");
}

int main(void) {
    printf("seed %d\n", SEED);
    test_known_answers();
    test_distinct();
    test_uniform();
    test_normal_moments();
    test_truncation();
    static const uint64_t counts[] = {1, 2, 3, 4, 5, 16, 17, 63, 64, 65, 4097, 1000003};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) test_permutation(counts[i]);
    test_permutation_is_fair();
    test_large_permutation();
    return test_finish("random");
}
