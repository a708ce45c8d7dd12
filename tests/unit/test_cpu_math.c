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
        CHECK(isnan(logistic_negative(x, MST_F32).value) && isnan(logistic_negative(x, MST_BF16).value),
              "logistic loses NaN %08x", (unsigned)nans[i]);
    }
}

/* The value, and the slope on either side, keep their digits: exp, the sum, the quotient and one or three products round once each.
 * For bf16 2^-16 of them, a 128th of its last place. */
static void test_logistic(mst_dtype dtype, double bound, double slope_bound) {
    const float unit = logistic_unit(dtype);
    double worst = 0, worst_slope = 0;
    for (uint64_t bits = 0; bits <= UINT32_MAX; bits += STEP) {
        float x = float_of_bits((uint32_t)bits);
        if (isnan(x) || fabsf(x) > 87.0f) continue;
        double exact = 1 / (1 + exp(-(double)x)), slope = exact / (1 + exp((double)x));
        logistic_pair pair = logistic_negative(-x * unit, dtype);
        worst = fmax(worst, ulps(pair.value, exact));
        worst_slope = fmax(worst_slope, ulps(pair.slope, slope));
    }
    printf("logistic_negative for %s: largest error %.3f units in the last place; slope: %.3f\n",
           mst_dtype_name(dtype), worst, worst_slope);
    CHECK(worst <= bound, "the logistic function is %g units off", worst);
    CHECK(worst_slope <= slope_bound, "its slope is %g units off", worst_slope);
    logistic_pair high = logistic_negative(-88.0f * unit, dtype),
                  low = logistic_negative(87.3f * unit, dtype);
    CHECK(high.value == 1 && high.slope == 0, "logistic(88) is %g, its slope %g", high.value, high.slope);
    CHECK(low.value > 0 && low.value < 2e-38f, "logistic(-87.3) is %g", low.value);
}

int main(void) {
    test_exp();
    test_exp_special();
    test_logistic(MST_F32, 3, 6);
    test_logistic(MST_BF16, 128, 128);
    return test_finish("test_cpu_math");
}
