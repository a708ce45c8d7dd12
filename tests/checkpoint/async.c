/*
 * Saving while the state changes: what comes back is the state at the time of the copy; failures on any rank, at any
 * stage, leave nothing and do not keep the next save from success. Run under mpirun.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "file.h"
#include "muster/saver.h"
#include "state.h"
#include "test.h"

static const uint64_t seed = 41;

/* What the system does instead of what it should. */
static ckpt_calls real;
static pthread_t caller;
static atomic_bool held;       /* writes wait */
static atomic_long own_writes; /* by the thread that calls the saver */
static bool fails_pwrite, fails_rename, fails_mkdir;
static bool lies; /* one byte of each long write is another */

static void nap(void) {
    nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
}

static bool refuse(bool refused) {
    if (refused) errno = EIO;
    return refused;
}

static ssize_t pwrite_(int fd, const void *buffer, size_t bytes, off_t offset) {
    while (held) nap();
    if (pthread_equal(pthread_self(), caller)) atomic_fetch_add(&own_writes, 1);
    if (refuse(fails_pwrite)) return -1;
    if (!lies || bytes <= 16384) return real.pwrite(fd, buffer, bytes, offset);
    /* Aligned, for a file that is written past the page cache. */
    char *other = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    if (other == NULL) exit(1);
    memcpy(other, buffer, bytes);
    other[bytes / 2] ^= 1;
    const ssize_t put = real.pwrite(fd, other, bytes, offset);
    free(other);
    return put;
}
static int rename_(const char *from, const char *to) {
    return refuse(fails_rename) ? -1 : real.rename(from, to);
}
static int mkdir_(const char *path, mode_t mode) {
    return refuse(fails_mkdir) ? -1 : real.mkdir(path, mode);
}

static mst_status forbid(void *permit_context) {
    ++*(int *)permit_context;
    return mst_error(MST_EPEER, "not permitted");
}

typedef struct scene {
    test_state state;
    char folder[4096];
    int rank;
    mst_saver *saver;
} scene;

static void open_saver(scene *x, bool tidies) {
    const mst_saver_options options = {
        .folder = x->folder, .copies = true, .tidies = tidies, .wishes = {.newest = 1}};
    CHECK_OK(mst_saver_create(&x->state.context, &x->state.layout, x->state.shards, &options, &x->saver));
}

/* The state as it was made, in the shards. */
static void refill(scene *x) {
    test_state fresh;
    test_state_create(x->state.context.comm, seed, &fresh);
    for (size_t u = 0; u < fresh.layout.unit_count; u++) {
        const size_t bytes = fresh.shards[u].blocks * MST_BLOCK * sizeof(float);
        memcpy(x->state.shards[u].master, fresh.shards[u].master, bytes);
        memcpy(x->state.shards[u].m, fresh.shards[u].m, bytes);
        memcpy(x->state.shards[u].v, fresh.shards[u].v, bytes);
    }
    test_state_destroy(&fresh);
}

/* The folder's checkpoint of a step has the state as it was made. */
static void check_content(scene *x, const char *path) {
    CHECK_OK(mst_checkpoint_load(&x->state.context, path, &x->state.layout, x->state.shards));
    const size_t differences = test_state_differences(&x->state, seed);
    CHECK(differences == 0, "%s: %zu elements differ", path, differences);
}

/* @param leftovers names that begin with a dot */
static void check_entries(scene *x, size_t leftovers, const char *when) {
    size_t dots;
    mst_comm_barrier(x->state.context.comm);
    const size_t entries = test_folder_entries(x->folder, &dots);
    CHECK(entries == 1 + leftovers && dots == leftovers, "%s: %zu entries, %zu leftovers", when, entries,
          dots);
    mst_comm_barrier(x->state.context.comm);
}

/* The state changes while every write waits: the copy is what is saved. */
static void check_copy(scene *x) {
    mst_checkpoint_digests expected;
    mst_saved saved;
    bool over = true;
    CHECK_OK(mst_checkpoint_digest(&x->state.context, &x->state.layout, x->state.shards, &x->state.meta,
                                   &expected));
    CHECK(!mst_saver_busy(x->saver), "busy before the first save");
    held = true;
    CHECK_OK(mst_saver_begin(x->saver, &x->state.meta));
    test_state_spoil(&x->state);
    for (int i = 0; i < 5; i++) {
        CHECK_OK(mst_saver_poll(x->saver, &over, &saved));
        CHECK(!over && mst_saver_busy(x->saver), "over before anything was written");
        nap();
    }
    size_t dots;
    mst_comm_barrier(x->state.context.comm);
    CHECK(test_folder_entries(x->folder, &dots) == 1 && dots == 1, "more than a folder in the making");
}

static void go_on(scene *x) {
    mst_saved saved = {.step = 0};
    bool over = false;
    int polls = 0;
    held = false;
    for (; !over && polls < 2000; polls++) {
        CHECK_OK(mst_saver_poll(x->saver, &over, &saved));
        nap();
    }
    CHECK(over && !mst_saver_busy(x->saver) && polls > 1, "over after %d polls", polls);
    CHECK(saved.step == x->state.meta.step && saved.warning[0] == '\0', "step %llu, warning '%s'",
          (unsigned long long)saved.step, saved.warning);
    CHECK(saved.stalled >= 0 && saved.stalled <= saved.written && saved.written <= saved.seconds,
          "seconds %g, %g, %g", saved.stalled, saved.written, saved.seconds);
    check_content(x, saved.path);
    CHECK(own_writes == 0, "%ld writes by the thread that calls", own_writes);
}

/* One save that fails, of another step: the same words on every rank, and what was there stays. */
static void expect_failure(scene *x, mst_status expected, const char *words, size_t leftovers,
                           const char *when) {
    mst_saved saved;
    char first[512];
    mst_status status = mst_saver_begin(x->saver, &x->state.meta);
    if (status == MST_OK) status = mst_saver_wait(x->saver, &saved);
    fails_pwrite = fails_rename = fails_mkdir = lies = false;
    CHECK(status == expected && strstr(mst_error_message(), words), "%s: %s: '%s'", when,
          mst_status_name(status), mst_error_message());
    CHECK(!mst_saver_busy(x->saver), "%s: still busy", when);
    snprintf(first, sizeof first, "%.500s", mst_error_message());
    CHECK_OK(mst_comm_broadcast(x->state.context.comm, 0, first, sizeof first));
    CHECK(strncmp(first, mst_error_message(), 500) == 0, "%s: rank 0 says '%s', this one '%s'", when, first,
          mst_error_message());
    check_entries(x, leftovers, when);
}

static void check_failures(scene *x, const char *good) {
    static const char *const ranks[] = {"rank 0", "rank 1"};
    x->state.meta.step++;
    for (int failing = 0; failing < 2; failing++) {
        fails_pwrite = x->rank == failing;
        expect_failure(x, MST_EIO, ranks[failing], 0, "writes fail");
        lies = x->rank == failing;
        expect_failure(x, MST_EIO, "differs from what was written", 0, "writes lie");
    }
    fails_rename = x->rank == 0;
    expect_failure(x, MST_EIO, "rename", 0, "renames fail");
    fails_mkdir = x->rank == 0;
    expect_failure(x, MST_EIO, "make folder", 0, "folders cannot be made");
    check_content(x, good);
}

static void check_permit(scene *x) {
    int asked = 0;
    mst_saver *open = x->saver;
    x->state.context.permit = forbid;
    x->state.context.permit_context = &asked;
    open_saver(x, true);
    /* What stands there may already be another writer's. */
    expect_failure(x, MST_EPEER, "not permitted", 1, "without permission");
    CHECK((asked > 0) == (x->rank == 0), "asked %d times", asked);
    mst_saver_destroy(&x->saver);
    x->state.context.permit = NULL;
    x->saver = open;
}

/* The saver that met all these failures saves again, and removes the checkpoint before. */
static void check_recovery(scene *x) {
    mst_saved saved;
    refill(x);
    x->state.meta.step++;
    CHECK_OK(mst_saver_begin(x->saver, &x->state.meta));
    test_state_spoil(&x->state);
    CHECK_OK(mst_saver_wait(x->saver, &saved));
    check_entries(x, 0, "one is kept, and nothing is left over");
    check_content(x, saved.path);
}

/* Given up in flight: the next start clears it. */
static void check_abandoned(scene *x) {
    x->state.meta.step++;
    CHECK_OK(mst_saver_begin(x->saver, &x->state.meta));
    mst_saver_destroy(&x->saver);
    CHECK(x->saver == NULL, "destroy keeps the pointer");
    mst_comm_barrier(x->state.context.comm);
    open_saver(x, true);
    check_entries(x, 0, "after a start");
    mst_saver_destroy(&x->saver);
}

int main(void) {
    mst_comm *comm;
    scene x = {.folder = ""};
    char base[4096] = "", good[4096], name[64];
    CHECK_OK(mst_comm_create(&comm));
    if (mst_comm_size(comm) < 2) SKIP("run under mpirun with at least two ranks");
    x.rank = mst_comm_rank(comm);
    if (x.rank == 0) test_folder_make(base);
    CHECK_OK(mst_comm_broadcast(comm, 0, base, sizeof base));
    test_path(base, "checkpoints", x.folder);
    test_path(x.folder, "step-00001000", good);
    test_state_create(comm, seed, &x.state);
    caller = pthread_self();
    real = ckpt_system;
    ckpt_system.pwrite = pwrite_;
    ckpt_system.rename = rename_;
    ckpt_system.mkdir = mkdir_;
    open_saver(&x, true);
    CHECK(mst_saver_bytes(x.saver) > 3 * 4 * x.state.layout.parameters / (size_t)mst_comm_size(comm),
          "%zu bytes", mst_saver_bytes(x.saver));
    check_copy(&x);
    go_on(&x);
    check_failures(&x, good);
    check_permit(&x);
    check_recovery(&x);
    check_abandoned(&x);
    test_state_destroy(&x.state);
    mst_comm_barrier(comm);
    if (x.rank == 0) test_folder_remove(base);
    snprintf(name, sizeof name, "checkpoint async, rank %d of %d", x.rank, mst_comm_size(comm));
    mst_comm_destroy(&comm);
    return test_finish(name);
}
