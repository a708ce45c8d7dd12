/* When a start has to stop: the arithmetic of coordinator/run/walltime.c. */
#include <math.h>
#include <string.h>
#include <time.h>

#include "test.h"
#include "walltime.h"

static bool near(double a, double b) {
    return fabs(a - b) <= 1e-9 * fmax(1, fabs(b));
}

static void check_ends(void) {
    walltime w;
    const double now = (double)time(NULL);
    walltime_begin(&w, 0, INFINITY, 3, 0);
    CHECK(isinf(w.end) && !w.of_job && w.clock[0] == '\0', "no limit");
    for (int i = 0; i < 100; i++) walltime_step(&w, 1e6);
    CHECK(!walltime_is_up(&w, 1e12, (walltime_ahead){.saves = 2}), "no limit is never up");
    walltime_begin(&w, 10, INFINITY, 3, 0);
    CHECK(w.end == 600 && !w.of_job && strstr(w.clock, " UTC") != NULL, "run.minutes counts from the start");
    walltime_begin(&w, 10, now + 100, 3, 0);
    CHECK(w.of_job && w.end > 101 && w.end <= 103, "the job ends first: %g", w.end);
    walltime_begin(&w, 10, now + 1000, 3, 0);
    CHECK(!w.of_job && w.end == 600, "run.minutes ends first: %g", w.end);
    walltime_begin(&w, 0, now - 100, 3, 0);
    CHECK(walltime_is_up(&w, 3, (walltime_ahead){0}), "an end that is over");
}

static void check_costs(void) {
    walltime w;
    walltime_begin(&w, 10, INFINITY, 0, 2e9);
    CHECK(near(walltime_needs(&w, (walltime_ahead){.saves = 1}), 1.5 * 10 + 5), "2 GB at 200 MB/s");
    walltime_step(&w, 4);
    CHECK(near(walltime_needs(&w, (walltime_ahead){.saves = 2, .evaluations = 1}), 1.5 * (8 + 20 + 12) + 5),
          "two saves and an evaluation that nobody has measured");
    walltime_save(&w, 2);
    walltime_evaluation(&w, 7);
    CHECK(near(walltime_needs(&w, (walltime_ahead){.saves = 2, .evaluations = 3}), 1.5 * (8 + 4 + 21) + 5),
          "measured");
    walltime_step(&w, 2);
    CHECK(near(w.step, 3.9), "a shorter step lowers it slowly: %g", w.step);
    walltime_step(&w, 30);
    CHECK(w.step == 30, "a longer one counts at once: %g", w.step);
    for (int i = 0; i < 200; i++) walltime_step(&w, 1);
    CHECK(w.step > 1 && w.step < 1.01, "and is forgotten: %g", w.step);
}

static void check_decision(void) {
    walltime w;
    const walltime_ahead one = {.saves = 1};
    walltime_begin(&w, 1, INFINITY, 0, 0);
    walltime_step(&w, 2);
    walltime_save(&w, 4); /* needs 1.5 * (4 + 4) + 5 = 17 of 60 */
    CHECK(!walltime_is_up(&w, 42.9, one), "still time");
    CHECK(walltime_is_up(&w, 43.1, one) && w.up, "no time for another step");
    for (int i = 0; i < 100; i++) walltime_step(&w, 0);
    CHECK(walltime_is_up(&w, 43.2, one), "what was decided stays");
}

int main(void) {
    check_ends();
    check_costs();
    check_decision();
    return test_finish("limits");
}
