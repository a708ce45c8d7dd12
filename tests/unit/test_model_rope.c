/* The tables of the rotary position embedding against the C library's mathematics. */
#include "rope.h"
#include "test.h"

/* The library is within an ulp or two (2.2e-16); the rest is ours. */
static void check_frequencies(double theta, size_t head_dim) {
    double worst = 0;
    for (size_t i = 0; i < head_dim / 2; i++) {
        double expected = pow(theta, -2.0 * (double)i / (double)head_dim);
        mst_model_config config = {.head_dim = head_dim, .rope_theta = theta};
        double error = fabs(mst_rope_frequency(&config, i) / expected - 1);
        /* exp magnifies the rounding of its argument, at most ln(1e12) = 28, by that argument:
         * 28 * 1.1e-16 and a few ulp. */
        CHECK(error <= 8e-15, "theta %g, pair %zu of %zu: relative error %.3g", theta, i, head_dim, error);
        worst = error > worst ? error : worst;
    }
    printf("theta %g, head_dim %zu: worst relative error of a frequency %.2e\n", theta, head_dim, worst);
}

static void check_tables(void) {
    enum { HEAD_DIM = 16, POSITIONS = 50 };
    float cosine[POSITIONS * HEAD_DIM / 2], sine[POSITIONS * HEAD_DIM / 2];
    const mst_model_config config = {.head_dim = HEAD_DIM, .rope_theta = 1e4};
    mst_rope_tables(&config, POSITIONS, cosine, sine);
    for (size_t p = 0; p < POSITIONS; p++) {
        for (size_t i = 0; i < HEAD_DIM / 2; i++) {
            double angle = (double)p * pow(1e4, -2.0 * (double)i / HEAD_DIM);
            size_t at = p * (HEAD_DIM / 2) + i;
            /* Half an ulp of fp32 below 1, and what fp64 adds. */
            CHECK(fabs(cosine[at] - cos(angle)) <= 0x1.0p-25 + 1e-13, "cosine of position %zu, pair %zu: %g",
                  p, i, (double)cosine[at]);
            CHECK(fabs(sine[at] - sin(angle)) <= 0x1.0p-25 + 1e-13, "sine of position %zu, pair %zu: %g", p,
                  i, (double)sine[at]);
        }
    }
}

/*
 * Llama 3.2's scaling, as its authors define it by wavelengths: longer than 8192 / low positions, divided by the
 * factor; shorter than 8192 / high, as it was; in between a mixture of both.
 */
static void check_scaling(void) {
    const mst_model_config plain = {.head_dim = 64, .rope_theta = 5e5};
    mst_model_config config = plain;
    config.rope_factor = 32, config.rope_low_freq_factor = 1, config.rope_high_freq_factor = 4;
    config.rope_original_seq_len = 8192;
    size_t kinds[3] = {0};
    for (size_t i = 0; i < 32; i++) {
        double before = mst_rope_frequency(&plain, i), length = 2 * acos(-1) / before, expected = before;
        if (length > 8192) {
            expected = before / 32;
            kinds[0]++;
        } else if (length > 8192.0 / 4) {
            double smooth = (8192 / length - 1) / (4 - 1);
            expected = (1 - smooth) * before / 32 + smooth * before;
            kinds[1]++;
        } else {
            kinds[2]++;
        }
        double error = fabs(mst_rope_frequency(&config, i) / expected - 1);
        CHECK(error <= 1e-14, "scaled pair %zu: relative error %.3g", i, error);
    }
    CHECK(kinds[0] > 5 && kinds[1] > 1 && kinds[2] > 5, "%zu, %zu, %zu pairs of each kind", kinds[0],
          kinds[1], kinds[2]);
    config.rope_factor = 1;
    CHECK(mst_rope_frequency(&config, 31) == mst_rope_frequency(&plain, 31), "a factor of 1 scales");
}

int main(void) {
    check_frequencies(1e4, 64);
    check_frequencies(1e5, 64);
    check_frequencies(5e5, 128);
    check_frequencies(1e12, 256);
    check_frequencies(1, 8);
    check_scaling();
    check_tables();
    return test_finish("test_model_rope");
}
