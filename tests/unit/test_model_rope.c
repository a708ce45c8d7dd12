/* The tables of the rotary position embedding against the C library's mathematics. */
#include "rope.h"
#include "test.h"

/* The library is within an ulp or two (2.2e-16); the rest is ours. */
static void check_frequencies(double theta, size_t head_dim) {
    double worst = 0;
    for (size_t i = 0; i < head_dim / 2; i++) {
        double expected = pow(theta, -2.0 * (double)i / (double)head_dim);
        double error = fabs(mst_rope_frequency(theta, head_dim, i) / expected - 1);
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
    mst_rope_tables(1e4, HEAD_DIM, POSITIONS, cosine, sine);
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

int main(void) {
    check_frequencies(1e4, 64);
    check_frequencies(1e5, 64);
    check_frequencies(5e5, 128);
    check_frequencies(1e12, 256);
    check_frequencies(1, 8);
    check_tables();
    return test_finish("test_model_rope");
}
