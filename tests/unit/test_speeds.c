/* What dealing of lanes follows from the ranks' speeds, and when it is worth a change. */
#include "muster/random.h"
#include "speeds.h"
#include "test.h"

enum { RANKS_MAX = 8 };

static double longest(size_t ranks, const double *seconds, const size_t *counts) {
    double most = 0;
    for (size_t r = 0; r < ranks; r++)
        if ((double)counts[r] * seconds[r] > most) most = (double)counts[r] * seconds[r];
    return most;
}

/* The best of all dealings from rank `rank` on: tries them all. */
static double best_of_all(size_t lanes, size_t ranks, const double *seconds, size_t rank, size_t *counts) {
    double best = INFINITY;
    if (rank + 1 == ranks) {
        counts[rank] = lanes;
        return longest(ranks, seconds, counts);
    }
    for (counts[rank] = 1; counts[rank] + (ranks - rank - 1) <= lanes; counts[rank]++) {
        const double most = best_of_all(lanes - counts[rank], ranks, seconds, rank + 1, counts);
        if (most < best) best = most;
    }
    return best;
}

static void check_deal(uint64_t number, size_t lanes, size_t ranks) {
    double seconds[RANKS_MAX];
    size_t counts[RANKS_MAX], tried[RANKS_MAX], sum = 0;
    for (size_t r = 0; r < ranks; r++)
        seconds[r] = 0.1 + mst_random_uniform(number, MST_RANDOM_TEST, r, 0) * (r % 2 ? 1 : 4);
    mst_speeds_deal(lanes, ranks, seconds, counts);
    for (size_t r = 0; r < ranks; r++) {
        CHECK(counts[r] >= 1, "rank %zu has no lane", r);
        sum += counts[r];
    }
    CHECK(sum == lanes, "%zu of %zu lanes are dealt", sum, lanes);
    const double most = longest(ranks, seconds, counts), best = best_of_all(lanes, ranks, seconds, 0, tried);
    CHECK(most == best, "%zu lanes, %zu ranks: %g s, %g s are possible", lanes, ranks, most, best);
}

/* Steps of two ranks with 4 lanes each; the second takes `slow` times as long, and the rest of a step `rest`. */
static size_t steps_until_dealt(mst_speeds *s, double slow, double rest, size_t most) {
    const size_t counts[] = {4, 4};
    for (size_t step = 1; step <= most; step++) {
        /* Every seventh step is disturbed. */
        const double seconds[] = {step % 7 == 0 ? 50.0 : 1.0, slow};
        mst_speeds_note(s, 8, 2, counts, seconds, 8 * slow + rest);
        if (s->deal) return step;
    }
    return 0;
}

static void check_decisions(void) {
    mst_speeds s;
    CHECK_OK(mst_speeds_init(&s, 2));
    CHECK(steps_until_dealt(&s, 1.0, 0, 100) == 0, "equal ranks are dealt anew");
    mst_speeds_dealt(&s);
    CHECK(steps_until_dealt(&s, 1.3, 0, 100) == 0, "5 and 3 lanes take 10 s, 4 and 4 took 10.4");
    mst_speeds_clear(&s);

    CHECK_OK(mst_speeds_init(&s, 2));
    CHECK(steps_until_dealt(&s, 3.0, 2, 100) == MST_SPEEDS_WINDOW, "decided after another number of steps");
    CHECK(s.counts[0] == 6 && s.counts[1] == 2, "%zu and %zu lanes", s.counts[0], s.counts[1]);
    CHECK(fabs(s.before - 26) < 1e-9 && fabs(s.after - 14) < 1e-9, "from %g to %g s", s.before, s.after);
    mst_speeds_dealt(&s);
    CHECK(!s.deal, "it is dealt");
    CHECK(steps_until_dealt(&s, 3.0, 2, 100) == 2 * MST_SPEEDS_WINDOW, "the second time it waits longer");
    mst_speeds_dealt(&s);
    CHECK(steps_until_dealt(&s, 3.0, 1000, 100) == 0, "12 s of 1,024 are not worth it");
    for (int i = 0; i < 20; i++) mst_speeds_dealt(&s);
    CHECK(s.patience == MST_SPEEDS_PATIENCE, "waits %zu steps", s.patience);
    mst_speeds_clear(&s);

    CHECK_OK(mst_speeds_init(&s, 2));
    CHECK(steps_until_dealt(&s, 0.0, 10, 100) == 0, "a rank without lanes has no speed");
    mst_speeds_clear(&s);
}

int main(void) {
    for (uint64_t number = 0; number < 50; number++) {
        check_deal(number, 16, 2 + number % 3);
        check_deal(number, 4, 4);
        check_deal(number, 8, 1 + number % 5);
    }
    check_decisions();
    return test_finish("test_speeds");
}
