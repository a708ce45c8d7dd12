/* When a run is told that its held-out loss has left its best behind. */
#include "trend.h"

#include "test.h"

/* The number, from 1, of the evaluation at which it is told, the first from `from` on; 0: at none. */
static int told_at(const double *losses, int count, int from) {
    trend t;
    int told = 0;
    trend_begin(&t);
    for (int i = 1; i <= count; i++) {
        const mst_heldout heldout = {.loss = losses[i - 1], .bits_per_byte = losses[i - 1] / 2};
        const bool now = trend_add(&t, 10 * (uint64_t)i, &heldout);
        if (now && told == 0 && i >= from) told = i;
    }
    return told;
}

#define TOLD(from, ...)                                                                                      \
    told_at((const double[]){__VA_ARGS__}, (int)(sizeof(double[]){__VA_ARGS__} / sizeof(double)), from)

int main(void) {
    trend t;
    CHECK(TOLD(1, 5, 4, 3, 2, 1) == 0, "a loss that falls");
    CHECK(TOLD(1, 3, 3, 3, 3, 3) == 0, "a loss that stays");
    CHECK(TOLD(1, 3, 2, 2.01, 2.015, 2.019, 2.01, 2.02) == 0, "within one per cent of the best");
    CHECK(TOLD(1, 3, 2, 2.1, 2.2, 2.01, 2.1, 2.2, 2.01) == 0, "back near the best every third time");
    CHECK(TOLD(1, 3, 2, 2.1, 2.3, 2.2, 2.4) == 5, "the third that is worse");
    CHECK(TOLD(6, 3, 2, 2.1, 2.2, 2.3, 2.01, 2.3, 2.4, 2.5, 2.6) == 0, "told again without a new best one");
    CHECK(TOLD(6, 3, 2, 2.1, 2.2, 2.3, 1.9, 2.0, 2.1, 2.2) == 9, "told again after a new best one");
    CHECK(TOLD(1, NAN, 2, NAN, 2.1, NAN, 2.2, INFINITY, 2.3) == 8, "what is not finite is passed over");

    trend_begin(&t);
    CHECK(!isfinite(t.best.loss), "best before any evaluation: %g", t.best.loss);
    trend_add(&t, 10, &(mst_heldout){.loss = 3, .bits_per_byte = 2});
    trend_add(&t, 20, &(mst_heldout){.loss = 3, .bits_per_byte = 1});
    CHECK(t.best_step == 10 && t.best.bits_per_byte == 2, "of equal ones step %llu",
          (unsigned long long)t.best_step);
    return test_finish("trend");
}
