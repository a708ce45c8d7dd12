/* The model's own mathematics against the C library's. */
#include "rope.h"
#include "test.h"

/* The library is within an ulp or two (2.2e-16); the rest is ours. */
static void check_frequencies(double theta, size_t head_dim) {
    double worst = 0;
    for (size_t i = 0; i < head_dim / 2; i++) {
        double expected = pow(theta, -2.0 * (double)i / (double)head_dim);
        double error = fabs(mst_rope_frequency(theta, head_dim, i) / expected - 1);
        /* exp magnifies the rounding of its argument, at most ln(1e12) = 28, by that argument: 28 * 1.1e-16
         * and a few ulp. */
        CHECK(error <= 8e-15, "theta %g, pair %zu of %zu: relative error %.3g", theta, i, head_dim, error);
        worst = error > worst ? error : worst;
    }
    printf("theta %g, head_dim %zu: worst relative error of a frequency %.2e\n", theta, head_dim, worst);
}

static void check_angles(void) {
    double worst = 0, angle = 0;
    for (size_t n = 0; angle < MST_ROPE_POSITIONS; n++) {
        double c, s;
        mst_rope_turn(angle, &c, &s);
        double error = fmax(fabs(c - cos(angle)), fabs(s - sin(angle)));
        CHECK(error <= 1e-15, "angle %.17g: error %.3g", angle, error);
        worst = error > worst ? error : worst;
        /* Small angles densely, then ever larger ones, and each whole number at the start. */
        angle = n < 4000 ? (double)n : angle * 1.0001 + 0.3;
    }
    printf("worst error of cosine and sine up to %d radians: %.2e\n", MST_ROPE_POSITIONS, worst);
}

/* Near multiples of pi / 2 a reduction that loses digits shows as a relative error of the small one of the
 * two. */
static void check_small_results(void) {
    double worst = 0;
    for (int k = 1; k <= 600000; k = k * 3 / 2 + 1) {
        double angle = k * 0x1.921fb54442d18p+0, c, s;
        mst_rope_turn(angle, &c, &s);
        double expected = k % 2 ? cos(angle) : sin(angle), seen = k % 2 ? c : s;
        double error = fabs(seen / expected - 1);
        /* Our pi / 2 is right to 2^-122, so k of them to 2^-102 = 2e-31, and the results are 6e-17 and more.
         */
        CHECK(error <= 1e-15, "angle %.17g: relative error %.3g", angle, error);
        worst = error > worst ? error : worst;
    }
    printf("worst relative error beside multiples of pi / 2: %.2e\n", worst);
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
    check_angles();
    check_small_results();
    check_tables();
    return test_finish("test_model_rope");
}
