/*
 * Progress is reported while a checkpoint is saved, loaded, digested and verified: from the
 * calling thread, work and waiting both, and often enough that the watchdog bears saves and loads
 * that take longer than its patience.
 */
#include <pthread.h>
#include <time.h>

#include "muster/watchdog.h"
#include "state.h"
#include "test.h"

static const uint64_t seed = 31;
/* Seconds of the watchdog's patience, and how many times as long a slow operation takes. */
static const double patience = 1.5, slowness = 2;

typedef struct listener {
    mst_watchdog *watchdog;
    pthread_t caller;
    size_t works, waits, strange; /* strange: reports from another thread */
    bool waiting;                 /* the last report */
    double delay;                 /* seconds that each report of work takes */
} listener;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void nap(double seconds) {
    nanosleep(&(struct timespec){.tv_sec = (time_t)seconds,
                                 .tv_nsec = (long)(1e9 * (seconds - (double)(time_t)seconds))},
              NULL);
}

static void listen(void *progress_context, bool waiting) {
    listener *l = progress_context;
    l->strange += !pthread_equal(pthread_self(), l->caller);
    l->waiting = waiting;
    if (waiting) {
        l->waits++;
        mst_watchdog_waiting(l->watchdog, "wait", 0);
        return;
    }
    l->works++;
    mst_watchdog_progress(l->watchdog, "work", 0);
    if (l->delay > 0) nap(l->delay);
}

/* One operation is over: what was heard of it, and a fresh start. Returns the reports of work. */
static size_t check_heard(listener *l, const char *operation, bool waits) {
    const size_t works = l->works;
    CHECK(works > 0, "%s: no report of work", operation);
    CHECK((l->waits > 0) == waits, "%s: %zu reports of waiting", operation, l->waits);
    CHECK(l->strange == 0, "%s: %zu reports from another thread", operation, l->strange);
    CHECK(!l->waiting, "%s ends as if it still waited", operation);
    l->works = l->waits = 0;
    return works;
}

enum operation { SAVE, SAVE_AGAIN, LOAD, SLOW_COUNT };

/* How often the operations report on this rank. */
static void check_all(test_state *s, listener *l, const char *folder, size_t reports_out[SLOW_COUNT]) {
    char path[4096];
    mst_checkpoint_digests digests;
    CHECK_OK(mst_checkpoint_save(&s->context, folder, &s->layout, s->shards, &s->meta, &digests, path));
    reports_out[SAVE] = check_heard(l, "save", true);
    CHECK_OK(mst_checkpoint_save(&s->context, folder, &s->layout, s->shards, &s->meta, &digests, path));
    reports_out[SAVE_AGAIN] = check_heard(l, "save of what is there", true);
    CHECK_OK(mst_checkpoint_load(&s->context, path, &s->layout, s->shards));
    reports_out[LOAD] = check_heard(l, "load", true);
    CHECK_OK(mst_checkpoint_digest(&s->context, &s->layout, s->shards, &s->meta, &digests));
    check_heard(l, "digest", true);
    CHECK_OK(mst_checkpoint_verify(&s->context, path, &digests));
    check_heard(l, "verify", false);
    mst_comm_barrier(s->context.comm);
}

/* The watchdog would end the job, and with it this test, if the slow rank seemed to stall, or the others.
 * The longest wait is that of SAVE_AGAIN: rank 0 verifies what is there. */
static void check_slow(test_state *s, listener *l, const char *folder, const size_t reports[SLOW_COUNT]) {
    static const char *const names[SLOW_COUNT] = {"save", "save of what is there", "load"};
    const int last = mst_comm_size(s->context.comm) - 1;
    char path[4096];
    mst_checkpoint_digests digests;
    CHECK_OK(mst_watchdog_create(s->context.comm, patience, &l->watchdog));
    for (enum operation operation = SAVE; operation < SLOW_COUNT; operation++) {
        const int slow = operation == LOAD ? last : 0;
        const bool mine = mst_comm_rank(s->context.comm) == slow;
        l->delay = mine ? slowness * patience / (double)reports[operation] : 0;
        const double begun = now();
        if (operation == LOAD)
            CHECK_OK(mst_checkpoint_load(&s->context, path, &s->layout, s->shards));
        else
            CHECK_OK(
                mst_checkpoint_save(&s->context, folder, &s->layout, s->shards, &s->meta, &digests, path));
        CHECK(now() - begun > 0.8 * slowness * patience, "the slow %s took only %g s", names[operation],
              now() - begun);
    }
    CHECK(test_state_differences(s, seed) == 0, "the slow load gives other elements");
    mst_watchdog_destroy(&l->watchdog);
}

int main(void) {
    mst_comm *comm;
    test_state state;
    listener heard = {.caller = pthread_self()};
    char folder[4096] = "", slow[4096], name[64];
    size_t reports[SLOW_COUNT];
    CHECK_OK(mst_comm_create(&comm));
    if (mst_comm_rank(comm) == 0) test_folder_make(folder);
    CHECK_OK(mst_comm_broadcast(comm, 0, folder, sizeof folder));
    test_state_create(comm, seed, &state);
    state.context.progress = listen;
    state.context.progress_context = &heard;
    check_all(&state, &heard, folder, reports);
    test_path(folder, "slow", slow);
    check_slow(&state, &heard, slow, reports);
    mst_comm_barrier(comm);
    if (mst_comm_rank(comm) == 0) test_folder_remove(folder);
    snprintf(name, sizeof name, "checkpoint progress, rank %d of %d (%zu reports of a save)",
             mst_comm_rank(comm), mst_comm_size(comm), reports[SAVE]);
    test_state_destroy(&state);
    mst_comm_destroy(&comm);
    return test_finish(name);
}
