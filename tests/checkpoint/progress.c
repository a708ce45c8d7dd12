/*
 * Progress is reported while a checkpoint is saved, loaded, digested and verified: from the
 * calling thread, work and waiting both, and often enough that the watchdog bears saves and loads
 * that take longer than its patience. None is reported while a call of the system stands still.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "file.h"
#include "muster/clock.h"
#include "muster/watchdog.h"
#include "state.h"
#include "test.h"

static const uint64_t seed = 31;
/* Seconds of the watchdog's patience, and how many times as long a slow operation takes. */
static const double patience = 1.5, slowness = 2;

typedef struct listener {
    mst_watchdog *watchdog;
    pthread_t caller;
    atomic_size_t works;
    size_t waits, strange; /* strange: reports from another thread */
    bool waiting;          /* the last report */
} listener;

/* The disk: how often it was asked, how slow it is. */
static ckpt_calls real;
static atomic_size_t calls;
static double delay;       /* seconds that each call takes more */
static atomic_bool stands; /* the next write takes a second */
static listener *watched;  /* what it heard during that second */
static size_t heard_standing;

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
}

static ssize_t slow_pread(int fd, void *buffer, size_t bytes, off_t offset) {
    atomic_fetch_add(&calls, 1);
    if (delay > 0) nap(delay);
    return real.pread(fd, buffer, bytes, offset);
}

static ssize_t slow_pwrite(int fd, const void *buffer, size_t bytes, off_t offset) {
    atomic_fetch_add(&calls, 1);
    if (delay > 0) nap(delay);
    if (atomic_exchange(&stands, false)) {
        nap(0.3); /* until what happened before is reported */
        const size_t before = watched->works;
        nap(1);
        heard_standing = watched->works - before;
    }
    return real.pwrite(fd, buffer, bytes, offset);
}

/* One operation is over: what was heard of it, and a fresh start. Returns how often it read and wrote. */
static size_t check_heard(listener *l, const char *operation, bool waits) {
    const size_t works = l->works, asked = calls;
    CHECK(works > 0, "%s: no report of work", operation);
    CHECK((l->waits > 0) == waits, "%s: %zu reports of waiting", operation, l->waits);
    CHECK(l->strange == 0, "%s: %zu reports from another thread", operation, l->strange);
    CHECK(!l->waiting, "%s ends as if it still waited", operation);
    l->works = 0;
    l->waits = 0;
    calls = 0;
    return asked;
}

enum operation { SAVE, SAVE_AGAIN, LOAD, SLOW_COUNT };

/* How often the operations ask the disk on this rank. */
static void check_all(test_state *s, listener *l, const char *folder, size_t calls_out[SLOW_COUNT]) {
    char path[4096];
    mst_checkpoint_digests digests;
    CHECK_OK(mst_checkpoint_save(&s->context, folder, &s->layout, s->shards, &s->meta, &digests, path));
    calls_out[SAVE] = check_heard(l, "save", true);
    CHECK_OK(mst_checkpoint_save(&s->context, folder, &s->layout, s->shards, &s->meta, &digests, path));
    calls_out[SAVE_AGAIN] = check_heard(l, "save of what is there", true);
    CHECK_OK(mst_checkpoint_load(&s->context, path, &s->layout, s->shards));
    calls_out[LOAD] = check_heard(l, "load", true);
    CHECK_OK(mst_checkpoint_digest(&s->context, &s->layout, s->shards, &s->meta, &digests));
    check_heard(l, "digest", true);
    CHECK_OK(mst_checkpoint_verify(&s->context, path, &digests));
    check_heard(l, "verify", false);
    mst_comm_barrier(s->context.comm);
}

/* The watchdog would end the job, and with it this test, if the slow rank seemed to stall, or the others.
 * The longest wait is that of SAVE_AGAIN: rank 0 verifies what is there. */
static void check_slow(test_state *s, listener *l, const char *folder, const size_t asked[SLOW_COUNT]) {
    static const char *const names[SLOW_COUNT] = {"save", "save of what is there", "load"};
    const int last = mst_comm_size(s->context.comm) - 1;
    char path[4096];
    mst_checkpoint_digests digests;
    CHECK_OK(mst_watchdog_create(s->context.comm, patience, &l->watchdog));
    for (enum operation operation = SAVE; operation < SLOW_COUNT; operation++) {
        const int slow = operation == LOAD ? last : 0;
        const bool mine = mst_comm_rank(s->context.comm) == slow;
        delay = mine ? slowness * patience / (double)asked[operation] : 0;
        if (operation == LOAD) delay *= mst_queue_threads(s->context.queue); /* they read side by side */
        const double begun = mst_clock_now();
        if (operation == LOAD)
            CHECK_OK(mst_checkpoint_load(&s->context, path, &s->layout, s->shards));
        else
            CHECK_OK(
                mst_checkpoint_save(&s->context, folder, &s->layout, s->shards, &s->meta, &digests, path));
        CHECK(mst_clock_now() - begun > 0.8 * slowness * patience, "the slow %s took only %g s",
              names[operation], mst_clock_now() - begun);
    }
    CHECK(test_state_differences(s, seed) == 0, "the slow load gives other elements");
    delay = 0;
    mst_watchdog_destroy(&l->watchdog);
}

/* A disk that hangs must not look like work. */
static void check_standing(test_state *s, listener *l, const char *folder) {
    mst_checkpoint_digests digests;
    s->meta.step++;
    watched = l;
    stands = true;
    CHECK_OK(mst_checkpoint_save(&s->context, folder, &s->layout, s->shards, &s->meta, &digests, NULL));
    CHECK(!stands && heard_standing == 0, "%zu reports of work while a write stood still", heard_standing);
}

int main(void) {
    mst_comm *comm;
    test_state state;
    listener heard = {.caller = pthread_self()};
    char folder[4096] = "", slow[4096], name[128];
    size_t asked[SLOW_COUNT];
    CHECK_OK(mst_comm_create(&comm));
    real = ckpt_system;
    ckpt_system.pread = slow_pread;
    ckpt_system.pwrite = slow_pwrite;
    if (mst_comm_rank(comm) == 0) test_folder_make(folder);
    CHECK_OK(mst_comm_broadcast(comm, 0, folder, sizeof folder));
    test_state_create(comm, seed, &state);
    state.context.progress = listen;
    state.context.progress_context = &heard;
    check_all(&state, &heard, folder, asked);
    test_path(folder, "slow", slow);
    check_slow(&state, &heard, slow, asked);
    check_standing(&state, &heard, slow);
    mst_comm_barrier(comm);
    if (mst_comm_rank(comm) == 0) test_folder_remove(folder);
    snprintf(name, sizeof name, "checkpoint progress, rank %d of %d (a save reads and writes %zu times)",
             mst_comm_rank(comm), mst_comm_size(comm), asked[SAVE]);
    test_state_destroy(&state);
    mst_comm_destroy(&comm);
    return test_finish(name);
}
