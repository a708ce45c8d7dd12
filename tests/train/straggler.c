/* Who is named for slowness, and when. */
#include "straggler.h"

#include "test.h"

/* The step, from 1, in which a rank is named that takes `slow` seconds where the others take `fast`; 0: in none of 20. */
static int named_in(int ranks, double fast, double slow, double microbatches) {
    straggler *s = NULL;
    double paces[16], median = 0;
    int step = 0;
    CHECK_OK(straggler_create(ranks, &s));
    for (int rank = 0; rank < ranks; rank++) paces[rank] = fast;
    paces[ranks - 1] = slow;
    for (int i = 1; i <= 20; i++) {
        const int rank = straggler_look(s, paces, microbatches, &median);
        if (rank < 0) continue;
        CHECK(step == 0, "named twice");
        CHECK(rank == ranks - 1 && median == fast, "rank %d is named, median %g", rank, median);
        step = i;
    }
    straggler_destroy(&s);
    CHECK(s == NULL, "it is still there");
    return step;
}

static void test_interruption(void) {
    straggler *s = NULL;
    double paces[3] = {0.1, 0.1, 0.2}, median;
    CHECK_OK(straggler_create(3, &s));
    for (int i = 1; i <= 20; i++) {
        paces[2] = i % 5 == 0 ? 0.1 : 0.2;
        CHECK(straggler_look(s, paces, 6, &median) == -1, "four slow steps of five are enough");
    }
    paces[1] = paces[2] = 0; /* ranks without a microbatch */
    for (int i = 1; i <= 20; i++) CHECK(straggler_look(s, paces, 6, &median) == -1, "one rank alone is slow");
    straggler_destroy(&s);
}

/* Two slow ones are named one after the other. */
static void test_two(void) {
    straggler *s = NULL;
    const double paces[5] = {0.1, 0.3, 0.1, 0.4, 0.1};
    double median;
    CHECK_OK(straggler_create(5, &s));
    for (int i = 1; i < STRAGGLER_STEPS; i++)
        CHECK(straggler_look(s, paces, 10, &median) == -1, "step %d", i);
    CHECK(straggler_look(s, paces, 10, &median) == 1, "the first is not named");
    CHECK(straggler_look(s, paces, 10, &median) == 3, "the second is not named");
    CHECK(straggler_look(s, paces, 10, &median) == -1, "somebody else is named");
    straggler_destroy(&s);
}

int main(void) {
    CHECK(named_in(2, 0.1, 0.2, 4) == STRAGGLER_STEPS, "of two");
    CHECK(named_in(3, 0.1, 0.2, 6) == STRAGGLER_STEPS, "of three");
    CHECK(named_in(16, 0.1, 0.16, 16) == STRAGGLER_STEPS, "of sixteen");
    CHECK(named_in(4, 0.1, 0.14, 8) == 0, "a little slower");
    CHECK(named_in(4, 0.1, 0.02, 8) == 0, "faster");
    CHECK(named_in(4, 0.001, 0.003, 8) == 0, "4 ms more a step");
    CHECK(named_in(4, 0.001, 0.003, 80) == STRAGGLER_STEPS, "40 ms more a step");
    CHECK(named_in(1, 0.1, 0.2, 8) == 0, "alone");
    test_interruption();
    test_two();
    return test_finish("straggler");
}
