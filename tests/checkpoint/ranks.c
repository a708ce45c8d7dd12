/*
 * Any number of writers to any number of readers, and failures on several ranks.
 * Run by ranks.sh under mpirun.
 *   ranks pass BASE    saves BASE/wR with this rank count R if it is missing,
 *                      and loads all BASE/w* that are there
 *   ranks full BASE    saves on a disk that is full for all ranks, for one, for rank 0; then with room again
 *   ranks save BASE    saves BASE/wR only
 */
#include <signal.h>
#include <sys/resource.h>

#include "state.h"
#include "test.h"

static const uint64_t seed = 77;
static const int writers[] = {1, 2, 3, 4, 5, 8};

static void saved_at(const char *base, int ranks, char path[4096]) {
    char name[32];
    snprintf(name, sizeof name, "w%d", ranks);
    test_path(base, name, path);
}

static void save(test_state *s, const char *folder) {
    mst_checkpoint_digests saved, verified;
    char path[4096];
    CHECK_OK(mst_checkpoint_save(&s->context, folder, &s->layout, s->shards, &s->meta, &saved, path));
    if (mst_comm_rank(s->context.comm) == 0) {
        CHECK_OK(mst_checkpoint_verify(&s->context, path, &verified));
        CHECK(memcmp(&saved, &verified, sizeof saved) == 0, "%s: digests differ", path);
    }
}

/* Loads what `ranks` ranks wrote; its digests must be those that this state has on any number of ranks. */
static void load(test_state *s, const char *folder, const mst_checkpoint_digests *expected) {
    char path[4096];
    mst_checkpoint_meta meta;
    mst_checkpoint_digests digests;
    mst_comm_barrier(s->context.comm);
    CHECK_OK(mst_checkpoint_newest(folder, 0, path));
    if (path[0] == '\0') return;
    test_state_spoil(s);
    CHECK_OK(mst_checkpoint_load(&s->context, path, &s->layout, s->shards));
    size_t differences = test_state_differences(s, seed);
    CHECK(differences == 0, "%s on %d ranks: %zu elements differ", path, mst_comm_size(s->context.comm),
          differences);
    CHECK_OK(mst_checkpoint_open(path, &meta, &digests));
    CHECK(memcmp(&digests, expected, sizeof digests) == 0, "%s: other digests", path);
    mst_checkpoint_meta_clear(&meta);
}

static void pass(test_state *s, const char *base) {
    char folder[4096], newest[4096];
    mst_checkpoint_digests digests;
    CHECK_OK(mst_checkpoint_digest(&s->context, &s->layout, s->shards, &s->meta, &digests));
    saved_at(base, mst_comm_size(s->context.comm), folder);
    CHECK_OK(mst_checkpoint_newest(folder, 0, newest));
    mst_comm_barrier(s->context.comm);
    if (newest[0] == '\0') save(s, folder);
    for (size_t i = 0; i < sizeof writers / sizeof *writers; i++) {
        saved_at(base, writers[i], folder);
        load(s, folder, &digests);
    }
}

/* A file may not grow beyond the limit: writes fail as on a full disk (EFBIG). */
static void limit_files(rlim_t bytes) {
    struct rlimit limit;
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = bytes;
    setrlimit(RLIMIT_FSIZE, &limit);
}

static void fail_on(test_state *s, const char *folder, int rank, rlim_t bytes) {
    mst_checkpoint_digests digests;
    char path[4096];
    bool mine = rank < 0 || rank == mst_comm_rank(s->context.comm);
    if (mine) limit_files(bytes);
    mst_status status =
        mst_checkpoint_save(&s->context, folder, &s->layout, s->shards, &s->meta, &digests, path);
    limit_files(RLIM_INFINITY);
    CHECK(status == MST_EIO, "limit %llu on rank %d: got %s", (unsigned long long)bytes, rank,
          mst_status_name(status));
    CHECK(strstr(mst_error_message(), "File too large") && strstr(mst_error_message(), ".tmp-step-00001000"),
          "%s", mst_error_message());
    size_t dots;
    CHECK(test_folder_entries(folder, &dots) == 0, "something is left after a failure");
    /* The same message on every rank. */
    char first[512];
    snprintf(first, sizeof first, "%.400s", mst_error_message());
    CHECK_OK(mst_comm_broadcast(s->context.comm, 0, first, sizeof first));
    CHECK(strncmp(first, mst_error_message(), 400) == 0, "rank 0 says '%s', this one '%s'", first,
          mst_error_message());
    mst_comm_barrier(s->context.comm);
}

static void full(test_state *s, const char *base) {
    char folder[4096];
    test_path(base, "full", folder);
    signal(SIGXFSZ, SIG_IGN);
    const rlim_t limits[] = {0, 100, 1500, 3000, 20000, 100000};
    int last = mst_comm_size(s->context.comm) - 1;
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        fail_on(s, folder, -1, limits[i]);
        fail_on(s, folder, last, limits[i]);
        fail_on(s, folder, 0, limits[i]);
    }
    save(s, folder);
}

int main(int argc, char **argv) {
    mst_comm *comm;
    test_state state;
    if (argc != 3) SKIP("run by ranks.sh: ranks pass|full|save BASE");
    CHECK_OK(mst_comm_create(&comm));
    test_state_create(comm, seed, &state);
    char folder[4096];
    if (strcmp(argv[1], "pass") == 0) pass(&state, argv[2]);
    if (strcmp(argv[1], "full") == 0) full(&state, argv[2]);
    if (strcmp(argv[1], "save") == 0) {
        saved_at(argv[2], mst_comm_size(comm), folder);
        save(&state, folder);
    }
    test_state_destroy(&state);
    char name[64];
    snprintf(name, sizeof name, "checkpoint %s, rank %d of %d", argv[1], mst_comm_rank(comm),
             mst_comm_size(comm));
    mst_comm_destroy(&comm);
    return test_finish(name);
}
