/* The exponential and logistic function of the fast bodies against fp64, over the whole range of fp32. */
#include <stdint.h>

#include "cpu/cpu_math.h"
#include "test.h"

/* Distance from the exact value in units of the last place of fp32; below 2^-126 of its smallest denormal. */
static double ulps(float value, double exact) {
    if (exact == 0) return value == 0 ? 0 : INFINITY;
    double unit = ldexp(1, (fabs(exact) < 0x1p-126 ? -126 : ilogb(exact)) - 23);
    return fabs((double)value - exact) / unit;
}

/* Fixed steps through the bit patterns: every exponent, both signs, some 5 million values. */
enum { STEP = 997 };

static void test_exp(void) {
    double worst = 0, worst_flushed = 0;
    for (uint64_t bits = 0; bits <= UINT32_MAX; bits += STEP) {
        float x = float_of_bits((uint32_t)bits);
        if (isnan(x)) continue;
        double exact = exp((double)x);
        if (exact > 0x1.fffffefp127) exact = INFINITY; /* what rounds to infinity in fp32 */
        float value = exp_f32(x);
        double error = isinf(exact) ? (value == INFINITY ? 0 : INFINITY) : ulps(value, exact);
        worst = error > worst ? error : worst;
        if (x > 88.0f) continue;
        float flushed = exp_flushed(x);
        error = exact < 0x1p-126 && flushed == 0 ? 0 : ulps(flushed, exact);
        worst_flushed = error > worst_flushed ? error : worst_flushed;
    }
    printf("exp_f32: largest error %.3f units in the last place; exp_flushed: %.3f\n", worst, worst_flushed);
    CHECK(worst <= 1.5, "exp_f32 is %g units off",
          worst); /* 1/2 of the last rounding, the rest of r and q(r) */
    CHECK(worst_flushed <= 1.5, "exp_flushed is %g units off", worst_flushed);
}

static void test_exp_special(void) {
    CHECK(exp_f32(0) == 1 && exp_flushed(0) == 1, "exp(0) is %g, %g", exp_f32(0), exp_flushed(0));
    CHECK(exp_f32(-INFINITY) == 0 && exp_flushed(-INFINITY) == 0, "exp(-inf) is %g", exp_f32(-INFINITY));
    CHECK(exp_f32(INFINITY) == INFINITY, "exp(inf) is %g", exp_f32(INFINITY));
    const uint32_t nans[] = {0x7fc00000u, 0xffc00000u, 0x7f800001u, 0x7fffffffu, 0xff8001ffu};
    for (size_t i = 0; i < sizeof nans / sizeof nans[0]; i++) {
        float x = float_of_bits(nans[i]);
        CHECK(isnan(exp_f32(x)) && isnan(exp_flushed(x)), "NaN %08x is lost", (unsigned)nans[i]);
        CHECK(isnan(logistic_f32(x).value), "logistic loses NaN %08x", (unsigned)nans[i]);
    }
}

/* Both halves keep their digits on either side.
 * 3: exp, the sum, the quotient and the product round once each. */
static void test_logistic(void) {
    double worst = 0;
    for (uint64_t bits = 0; bits <= UINT32_MAX; bits += STEP) {
        float x = float_of_bits((uint32_t)bits);
        if (isnan(x) || fabsf(x) > 87.0f) continue;
        double exact = 1 / (1 + exp(-(double)x)), rest = 1 / (1 + exp((double)x));
        logistic_pair pair = logistic_f32(x);
        double error = fmax(ulps(pair.value, exact), ulps(pair.rest, rest));
        worst = error > worst ? error : worst;
    }
    printf("logistic_f32: largest error %.3f units in the last place\n", worst);
    CHECK(worst <= 3, "logistic_f32 is %g units off", worst);
    logistic_pair low = logistic_f32(-INFINITY), high = logistic_f32(INFINITY), far = logistic_f32(-1000);
    CHECK(low.value == 0 && low.rest == 1, "logistic(-inf) is %g and %g", low.value, low.rest);
    CHECK(high.value == 1 && high.rest == 0, "logistic(inf) is %g and %g", high.value, high.rest);
    CHECK(far.value == 0 && far.rest == 1, "logistic(-1000) is %g and %g", far.value, far.rest);
}

int main(void) {
    test_exp();
    test_exp_special();
    test_logistic();
    return test_finish("test_cpu_math");
}
