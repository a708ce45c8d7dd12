/* A packed checkpoint: every system call of packing fails once, and nothing is left; every byte of the file counts;
 * weights alone are loaded where only they are wanted. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "file.h"
#include "state.h"
#include "test.h"

static const uint64_t seed = 9;
enum { DAMAGES = 1500 };

/* ---- the Nth call fails ---- */

static ckpt_calls real;
static long calls, fail_at; /* 0: never */
static const char *failed_call;

static bool fails(const char *name) {
    if (++calls != fail_at) return false;
    failed_call = name;
    errno = EIO;
    return true;
}
static int open_(const char *path, int flags, mode_t mode) {
    return fails("open") ? -1 : real.open(path, flags, mode);
}
static int close_(int fd) {
    int failed = real.close(fd);
    return fails("close") ? -1 : failed;
}
static ssize_t pread_(int fd, void *buffer, size_t bytes, off_t offset) {
    return fails("pread") ? -1 : real.pread(fd, buffer, bytes, offset);
}
static ssize_t pwrite_(int fd, const void *buffer, size_t bytes, off_t offset) {
    return fails("pwrite") ? -1 : real.pwrite(fd, buffer, bytes > 1000 ? bytes / 2 : bytes, offset);
}
static int ftruncate_(int fd, off_t bytes) {
    return fails("ftruncate") ? -1 : real.ftruncate(fd, bytes);
}
static int fsync_(int fd) {
    (void)fd;
    return fails("fsync") ? -1 : 0;
}

static void every_call_fails(const test_state *s, const char *source, const char *folder) {
    const mst_pack_options options = {0};
    mst_checkpoint_digests digests;
    char output[4096];
    test_path(folder, "faulty.h5", output);
    real = ckpt_system;
    ckpt_system.open = open_;
    ckpt_system.close = close_;
    ckpt_system.pread = pread_;
    ckpt_system.pwrite = pwrite_;
    ckpt_system.ftruncate = ftruncate_;
    ckpt_system.fsync = fsync_;
    bool done = false;
    for (long number = 1; !done; number++) {
        failed_call = NULL;
        calls = 0;
        fail_at = number;
        mst_status status = mst_checkpoint_pack(&s->context, source, output, &options, &digests);
        fail_at = 0;
        done = failed_call == NULL;
        /* closing what was only read changes nothing */
        CHECK(status == MST_EIO || done || strcmp(failed_call, "close") == 0, "call %ld, %s: %s", number,
              done ? "none" : failed_call, mst_status_name(status));
        CHECK((status == MST_OK) == ckpt_exists(output), "call %ld: %s, and the file is%s there", number,
              mst_status_name(status), ckpt_exists(output) ? "" : " not");
        if (status == MST_OK) CHECK_OK(mst_checkpoint_verify(&s->context, output, &digests));
        unlink(output);
    }
    printf("%ld calls\n", calls);
    ckpt_system = real;
}

/* ---- damage ---- */

static uint64_t dice;

static uint64_t roll(uint64_t limit) {
    dice = dice * 6364136223846793005u + 1442695040888963407u;
    return (dice >> 33) % limit;
}

static void flip(const char *path, off_t at, int mask) {
    unsigned char byte;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 || pread(fd, &byte, 1, at) != 1) exit(1);
    byte ^= (unsigned char)mask;
    if (pwrite(fd, &byte, 1, at) != 1) exit(1);
    close(fd);
}

/* Verify must say no and name the file; load must say no, or give the right elements. */
static void expect_found(test_state *s, const char *path, off_t at) {
    mst_checkpoint_digests digests;
    mst_status status = mst_checkpoint_verify(&s->context, path, &digests);
    CHECK(status == MST_EFORMAT, "byte %lld: verify says %s", (long long)at, mst_status_name(status));
    CHECK(strstr(mst_error_message(), path), "byte %lld: '%s'", (long long)at, mst_error_message());
    test_state_spoil(s);
    status = mst_checkpoint_load(&s->context, path, &s->layout, s->shards);
    CHECK(status != MST_OK || test_state_differences(s, seed) == 0, "byte %lld: loaded", (long long)at);
}

static void damage(test_state *s, const char *path) {
    struct stat facts;
    if (stat(path, &facts) != 0) exit(1);
    for (int i = 0; i < DAMAGES; i++) {
        /* every third of them among the manifest and HDF5's structure */
        off_t at = (off_t)roll(i % 3 == 0 ? 12288 : (uint64_t)facts.st_size);
        int mask = 1 << roll(8);
        flip(path, at, mask);
        expect_found(s, path, at);
        flip(path, at, mask);
    }
    mst_checkpoint_digests digests;
    CHECK_OK(mst_checkpoint_verify(&s->context, path, &digests)); /* all that was undone */
    for (int i = 0; i < 50; i++) {
        off_t at = facts.st_size - 1 - (i < 10 ? i : (off_t)roll((uint64_t)facts.st_size));
        if (truncate(path, at) != 0) exit(1); /* ever shorter, or filled up with zeros again */
        expect_found(s, path, at);
    }
}

/* ---- the weights alone ---- */

static void weights_alone(test_state *s, const char *path) {
    test_state_spoil(s);
    CHECK_STATUS(mst_checkpoint_load(&s->context, path, &s->layout, s->shards), MST_ECONFIG);
    CHECK(strstr(mst_error_message(), "no optimizer state"), "'%s'", mst_error_message());
    mst_shard *only = calloc(s->layout.unit_count, sizeof *only);
    if (only == NULL) exit(1);
    for (size_t u = 0; u < s->layout.unit_count; u++) {
        only[u] = s->shards[u];
        only[u].m = only[u].v = NULL;
    }
    CHECK_OK(mst_checkpoint_load(&s->context, path, &s->layout, only));
    for (size_t t = 0; t < s->layout.tensor_count; t++) {
        const mst_tensor *tensor = &s->layout.tensors[t];
        size_t differ = 0;
        for (size_t i = 0; i < tensor->count; i++) {
            uint32_t found, wanted = test_state_bits(seed, MST_KIND_MASTER, tensor->name, i);
            memcpy(&found, &only[tensor->unit].master[tensor->offset + i], sizeof found);
            differ += found != wanted;
        }
        CHECK(differ == 0, "%s: %zu elements differ", tensor->name, differ);
    }
    free(only);
}

int main(void) {
    mst_comm *comm;
    test_state state, small;
    mst_checkpoint_digests saved, packed;
    char folder[4096], source[4096], path[4096];
    const mst_pack_options whole = {0}, weights = {.weights_only = true};
    dice = (uint64_t)time(NULL);
    printf("seed %llu\n", (unsigned long long)dice);
    CHECK_OK(mst_comm_create(&comm));
    test_folder_make(folder);

    test_state_create_small(comm, seed, &small);
    CHECK_OK(mst_checkpoint_save(&small.context, folder, &small.layout, small.shards, &small.meta, &saved,
                                 source));
    every_call_fails(&small, source, folder);
    test_state_destroy(&small);

    test_state_create(comm, seed, &state);
    CHECK_OK(mst_checkpoint_save(&state.context, folder, &state.layout, state.shards, &state.meta, &saved,
                                 source));
    test_path(folder, "weights.h5", path);
    CHECK_OK(mst_checkpoint_pack(&state.context, source, path, &weights, &packed));
    CHECK_STATUS(mst_checkpoint_pack(&state.context, source, path, &weights, &packed),
                 MST_EIO); /* it is there */
    CHECK(ckpt_exists(path), "a file that was there is gone");
    weights_alone(&state, path);
    test_path(folder, "one.h5", path);
    CHECK_OK(mst_checkpoint_pack(&state.context, source, path, &whole, &packed));
    CHECK(memcmp(&saved, &packed, sizeof saved) == 0, "other digests");
    test_state_spoil(&state);
    CHECK_OK(mst_checkpoint_load(&state.context, path, &state.layout, state.shards));
    CHECK(test_state_differences(&state, seed) == 0, "other elements");
    damage(&state, path);
    test_state_destroy(&state);
    test_folder_remove(folder);
    mst_comm_destroy(&comm);
    return test_finish("packed checkpoint");
}
