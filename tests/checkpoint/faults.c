/*
 * The Nth system call fails, for N = 1, 2, ... until a save succeeds: each time the error comes back, nothing
 * half-written is left, and the checkpoints that were whole before still are. Then the same with the process
 * killed at the Nth call. A new step; one that replaces another; the same where names cannot be exchanged.
 * Before: a long file is brought to the disk piece by piece.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#include "file.h"
#include "state.h"
#include "test.h"

static ckpt_calls real;
static atomic_long calls;               /* by any thread */
static long fail_at, fail_forever_from; /* 0: never */
static long syncs;
static bool can_exchange, kills;
static const char *failed_call;

/* Whether this call is the one to fail. */
static bool fails(const char *name) {
    const long number = atomic_fetch_add(&calls, 1) + 1;
    if (number != fail_at && (fail_forever_from == 0 || number < fail_forever_from)) return false;
    if (kills) _exit(9);
    if (failed_call == NULL) failed_call = name;
    errno = EIO;
    return true;
}

static int open_(const char *path, int flags, mode_t mode) {
    return fails(flags & O_DIRECT ? "bypass" : "open") ? -1 : real.open(path, flags, mode);
}
static int close_(int fd) {
    int failed = real.close(fd); /* the file is closed all the same, as by the system */
    return fails("close") ? -1 : failed;
}
static ssize_t pread_(int fd, void *buffer, size_t bytes, off_t offset) {
    return fails("pread") ? -1 : real.pread(fd, buffer, bytes > 1000 ? bytes / 2 : bytes, offset);
}
static ssize_t pwrite_(int fd, const void *buffer, size_t bytes, off_t offset) {
    return fails("pwrite") ? -1 : real.pwrite(fd, buffer, bytes > 1000 ? bytes / 2 : bytes, offset);
}
static int ftruncate_(int fd, off_t bytes) {
    return fails("ftruncate") ? -1 : real.ftruncate(fd, bytes);
}
static int fsync_(int fd) {
    (void)fd; /* a disk is not what is tested here */
    syncs++;
    return fails("fsync") ? -1 : 0;
}
static int mkdir_(const char *path, mode_t mode) {
    return fails("mkdir") ? -1 : real.mkdir(path, mode);
}
static int rename_(const char *from, const char *to) {
    return fails("rename") ? -1 : real.rename(from, to);
}
static int exchange_(const char *one, const char *other) {
    if (!can_exchange) {
        errno = EINVAL;
        return -1;
    }
    return fails("exchange") ? -1 : real.exchange(one, other);
}

static mst_status save(const test_state *s, const char *folder, mst_checkpoint_digests *digests) {
    return mst_checkpoint_save(&s->context, folder, &s->layout, s->shards, &s->meta, digests, NULL);
}

/* With the system whole again: the checkpoint is there, whole, with one of two states. */
static void check_whole(const test_state *s, const char *path, const mst_digest *one,
                        const mst_digest *other) {
    mst_checkpoint_digests found = {0};
    CHECK_OK(mst_checkpoint_verify(&s->context, path, &found));
    CHECK(memcmp(&found.state, one, 32) == 0 || memcmp(&found.state, other, 32) == 0, "%s: another state",
          path);
}

typedef struct fault_scene {
    const char *name;
    bool replaces, forever, can_exchange;
} fault_scene;

/* An older checkpoint at step 500, perhaps another at step 1000 (kept from the last time if it is still the
 * same), and the state to save at step 1000. */
static void prepare(test_state *s, const fault_scene *scene, const char *folder, mst_digest states_out[3]) {
    mst_checkpoint_digests digests;
    char step[4096];
    test_path(folder, "step-00001000", step);
    s->meta.samples = 1;
    s->meta.step = 500;
    CHECK_OK(save(s, folder, &digests));
    states_out[0] = digests.state;
    s->meta.step = 1000;
    if (scene->replaces) CHECK_OK(save(s, folder, &digests));
    if (!scene->replaces) test_folder_remove(step);
    states_out[1] = digests.state;
    s->meta.samples = 2;
    CHECK_OK(mst_checkpoint_digest(&s->context, &s->layout, s->shards, &s->meta, &digests));
    states_out[2] = digests.state;
}

/* One save whose call `number` fails. True when there were not so many calls. */
static bool try_once(test_state *s, const fault_scene *scene, const char *folder, long number) {
    mst_digest states[3];
    mst_checkpoint_digests digests;
    char path[4096], step[4096];
    prepare(s, scene, folder, states);
    failed_call = NULL;
    calls = 0;
    fail_at = number;
    fail_forever_from = scene->forever ? number : 0;
    mst_status status = save(s, folder, &digests);
    fail_at = fail_forever_from = 0;
    const char *failed = failed_call != NULL ? failed_call : "nothing";

    CHECK(status == MST_OK || status == MST_EIO, "%s failed: got %s", failed, mst_status_name(status));
    CHECK(status == MST_OK || strstr(mst_error_message(), "Input/output error"), "'%s'", mst_error_message());
    /* What a save survives: closing what was only read, a look at what is there already,
     * the exchange, the way past the page cache (there is another one). */
    bool harmless = failed_call == NULL || scene->replaces || strcmp(failed, "close") == 0 ||
                    strcmp(failed, "bypass") == 0;
    CHECK(status != MST_OK || harmless, "%s failed, and yet it was saved", failed);
    test_path(folder, "step-00000500", path);
    check_whole(s, path, &states[0], &states[0]);
    test_path(folder, "step-00001000", step);
    CHECK_OK(mst_checkpoint_newest(folder, 0, path));
    bool there = strcmp(path, step) == 0;
    CHECK(there || (status != MST_OK && !scene->replaces), "%s failed: step 1000 is gone", failed);
    if (there) check_whole(s, step, &states[status == MST_OK ? 2 : 1], &states[2]);
    size_t dots, entries = test_folder_entries(folder, &dots);
    CHECK(dots == 0 && entries == 1u + there, "call %ld, %s: %zu entries, %zu leftovers", number, failed,
          entries, dots);
    return failed_call == NULL;
}

/* One save in a process of its own, killed at call `number`. True when there were not so many calls. */
static bool kill_once(test_state *s, const fault_scene *scene, const char *folder, long number) {
    mst_digest states[3];
    mst_checkpoint_digests digests;
    char path[4096], step[4096];
    int ended = -1;
    prepare(s, scene, folder, states);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        kills = true;
        calls = 0;
        fail_at = number;
        _exit(save(s, folder, &digests) == MST_OK ? 0 : 1);
    }
    CHECK(child > 0 && waitpid(child, &ended, 0) == child && WIFEXITED(ended) && WEXITSTATUS(ended) % 9 == 0,
          "call %ld: the child ended with %d", number, ended);
    test_path(folder, "step-00000500", path);
    check_whole(s, path, &states[0], &states[0]);
    test_path(folder, "step-00001000", step);
    CHECK_OK(mst_checkpoint_newest(folder, 0, path));
    bool there = strcmp(path, step) == 0;
    CHECK(there || !scene->replaces || !scene->can_exchange, "killed at call %ld: step 1000 is gone", number);
    if (there) check_whole(s, step, &states[1], &states[2]);

    /* The next save, of another step, clears what was left and puts back what stood aside. */
    s->meta.step = 500;
    s->meta.samples = 1;
    CHECK_OK(save(s, folder, &digests));
    CHECK_OK(mst_checkpoint_newest(folder, 0, path));
    if (scene->replaces) check_whole(s, step, &states[1], &states[2]);
    size_t dots, entries = test_folder_entries(folder, &dots);
    CHECK(dots == 0 && entries == 1u + (strcmp(path, step) == 0),
          "killed at call %ld: %zu entries, %zu leftovers", number, entries, dots);
    return WIFEXITED(ended) && WEXITSTATUS(ended) == 0;
}

typedef bool attempt_fn(test_state *s, const fault_scene *scene, const char *folder, long number);

/* An attempt for every call of a save, until there are no more calls. @param fault what befell each */
static void run_scene(test_state *s, const char *base, const fault_scene *scene, attempt_fn *attempt,
                      const char *fault) {
    char folder[4096];
    long number = 1;
    test_path(base, "checkpoints", folder);
    can_exchange = scene->can_exchange;
    while (number < 1000 && !attempt(s, scene, folder, number)) number++;
    printf("%s: %ld calls, %s\n", scene->name, number - 1, fault);
    CHECK(number > 50 && number < 1000, "%s: only %ld calls: the faults are not injected", fault, number - 1);
}

static void count_reports(void *progress_context, bool waiting) {
    if (!waiting) ++*(size_t *)progress_context;
}

/* Nothing can be reported during an fsync, so none may have much to do: there is one every 256 MiB. */
static void check_long_write(const char *folder) {
    static const char bytes[8192];
    size_t reports = 0;
    const mst_checkpoint_context context = {.progress = count_reports, .progress_context = &reports};
    const uint64_t boundary = 256 << 20;
    ckpt_file file = CKPT_FILE_CLOSED(&context);
    CHECK_OK(ckpt_file_create(folder, "long", &file));
    syncs = 0;
    CHECK_OK(ckpt_file_write(&file, bytes, sizeof bytes, 0));
    CHECK_OK(ckpt_file_write(&file, bytes, sizeof bytes, boundary));
    CHECK(syncs == 0 && reports >= 2, "%ld fsyncs, %zu reports", syncs, reports);
    CHECK_OK(ckpt_file_write(&file, bytes, sizeof bytes, boundary - 4096));
    CHECK_OK(ckpt_file_write(&file, bytes, sizeof bytes, 2 * boundary - 4096));
    CHECK(syncs == 2, "%ld fsyncs at two boundaries", syncs);
    CHECK_OK(ckpt_file_close(&file));
}

int main(void) {
    mst_comm *comm;
    test_state state;
    char folder[4096];
    CHECK_OK(mst_comm_create(&comm));
    test_folder_make(folder);
    test_state_create_small(comm, 9, &state);
    real = ckpt_system;
    ckpt_system.open = open_;
    ckpt_system.close = close_;
    ckpt_system.pread = pread_;
    ckpt_system.pwrite = pwrite_;
    ckpt_system.ftruncate = ftruncate_;
    ckpt_system.fsync = fsync_;
    ckpt_system.mkdir = mkdir_;
    ckpt_system.rename = rename_;
    ckpt_system.exchange = exchange_;
    check_long_write(folder);
    static const fault_scene scenes[] = {{"a new step", false, false, true},
                                         {"a new step, everything failing from then on", false, true, true},
                                         {"a step that replaces another", true, false, true},
                                         {"the same without exchange", true, false, false}};
    for (size_t i = 0; i < sizeof scenes / sizeof *scenes; i++)
        run_scene(&state, folder, &scenes[i], try_once, "each failed once");
    for (size_t i = 0; i < sizeof scenes / sizeof *scenes; i++)
        if (!scenes[i].forever) run_scene(&state, folder, &scenes[i], kill_once, "killed at each");
    test_state_destroy(&state);
    test_folder_remove(folder);
    mst_comm_destroy(&comm);
    return test_finish("checkpoint faults");
}
