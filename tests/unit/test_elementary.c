/* Exponential, logarithm, cosine and sine against the long double functions of libm. */
#include "muster/elementary.h"
#include "muster/random.h"
#include "test.h"

enum { SEED = 20240607, N = 200000 };

static double uniform(uint64_t i) {
    return mst_random_uniform(SEED, MST_RANDOM_TEST, i, 0);
}

/* Relative error in units of 2^-53 against the long double functions of libm. */
static double ulps(double value, long double exact) {
    if (exact == 0.0L) return value == 0.0 ? 0.0 : INFINITY;
    return (double)(fabsl(value - exact) / fabsl(exact) * 0x1p53L);
}

/* cos(2 pi turns) by libm; quarter turns are taken off first, exactly, since pi is not exact. */
static long double cos_turns_exact(double turns) {
    int quarter = (int)(4.0 * turns + 0.5);
    long double angle = 1.570796326794896619231321691639751442L * (4.0L * turns - quarter);
    switch (quarter % 4) {
    case 0:
        return cosl(angle);
    case 1:
        return -sinl(angle);
    case 2:
        return -cosl(angle);
    default:
        return sinl(angle);
    }
}

/* Bound 4: the argument of the series is off by 1/4 unit, its last sum by 1, the last term by 2 times
 * |r| e^|r| < 0.5, and the terms before it by less than that again. */
static void test_exp(void) {
    double worst = 0.0;
    for (uint64_t i = 0; i < N; i++) {
        double x = ldexp(2.0 * uniform(i) - 1.0, (int)(i % 40) - 30);
        double border = ((double)(i % 1999) - 999.5) * 0x1.62e42fefa39efp-1; /* between two powers of 2 */
        x = fabs(x) <= 700.0 ? x : 700.0 * uniform(i);
        border = fabs(border) <= 700.0 ? border : 700.0;
        worst = fmax(worst, fmax(ulps(mst_elementary_exp(x), expl(x)),
                                 ulps(mst_elementary_exp(border), expl(border))));
    }
    printf("exp within %.2f units of 2^-53\n", worst);
    CHECK(worst <= 4.0, "exp is off by %g units", worst);
    CHECK(mst_elementary_exp(0.0) == 1.0, "exp 0 = %g", mst_elementary_exp(0.0));
}

/* Bound 4: the rounding of f (1.5 units), of the sum and of exponent * ln2_low, and the two parts of the
 * result cancel to half at most. */
static void test_log(void) {
    double worst = 0.0;
    for (uint64_t i = 0; i < N; i++) {
        double u = uniform(i);
        double x = ldexp(1.0 + u, (int)(i % 108) - 54), near_one = 1.0 - ldexp(u, -(int)(i % 50));
        worst = fmax(worst, ulps(mst_elementary_log(x), logl(x)));
        worst = fmax(worst, ulps(mst_elementary_log(near_one), logl(near_one)));
    }
    printf("log within %.2f units of 2^-53\n", worst);
    CHECK(worst <= 4.0, "log is off by %g units", worst);
    CHECK(mst_elementary_log(1.0) == 0.0, "log 1 = %g", mst_elementary_log(1.0));
}

/* Bound 4: the rounding of the angle (1.5, damped), of the last term and of the sum. */
static void test_cos_turns(void) {
    double worst = 0.0;
    for (uint64_t i = 0; i < N; i++) {
        double u = uniform(i), near_quarter = 0.25 * (double)(i % 4) + ldexp(u, -(int)(i % 40) - 3);
        worst = fmax(worst, ulps(mst_elementary_cos_turns(u), cos_turns_exact(u)));
        worst = fmax(worst, ulps(mst_elementary_cos_turns(near_quarter), cos_turns_exact(near_quarter)));
    }
    printf("cos of turns within %.2f units of 2^-53\n", worst);
    CHECK(worst <= 4.0, "cos is off by %g units", worst);
    CHECK(mst_elementary_cos_turns(0.0) == 1.0 && mst_elementary_cos_turns(0.5) == -1.0, "at half turns");
    CHECK(mst_elementary_cos_turns(0.25) == 0.0 && mst_elementary_cos_turns(0.75) == 0.0, "at quarter turns");
}

static double worse_of_cos_and_sin(double angle) {
    double c, s;
    mst_elementary_cos_sin(angle, &c, &s);
    double worst = fmax(ulps(c, cosl(angle)), ulps(s, sinl(angle)));
    CHECK(worst <= 4.0, "angle %.17g: off by %g units", angle, worst);
    return worst;
}

/*
 * Bound 4: the angle is off by 1 unit, the last term and the sum by one each. Beside a multiple of pi / 2 a
 * reduction that loses digits would show in the small one of the two: our pi / 2 is right to 2^-122, so k of
 * them to 2^-102 = 2e-31, and the results are 6e-17 and more.
 */
static void test_cos_sin(void) {
    double worst = 0.0, worst_beside = 0.0;
    for (uint64_t i = 0; i < N; i++) {
        worst = fmax(worst, worse_of_cos_and_sin(ldexp(uniform(i), (int)(i % 41) - 20)));
        double multiple = floor(ldexp(uniform(i), (int)(i % 20))) * 0x1.921fb54442d18p0;
        worst_beside = fmax(worst_beside, worse_of_cos_and_sin(multiple));
    }
    for (int i = 0; i <= 4000; i++) worst = fmax(worst, worse_of_cos_and_sin(i));
    worst = fmax(worst, worse_of_cos_and_sin(0x1p20));
    printf("cos and sin within %.2f, beside multiples of pi / 2 within %.2f units of 2^-53\n", worst,
           worst_beside);
}

int main(void) {
    printf("seed %d\n", SEED);
    test_exp();
    test_log();
    test_cos_turns();
    test_cos_sin();
    return test_finish("elementary");
}
