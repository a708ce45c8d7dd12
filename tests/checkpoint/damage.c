/* Every byte of a checkpoint counts: a changed, missing or additional one is found
 * by verify, and never loaded. */
#include <dirent.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "state.h"
#include "test.h"

static const uint64_t seed = 5;
static uint64_t dice;

static uint64_t roll(uint64_t limit) {
    dice = dice * 6364136223846793005u + 1442695040888963407u;
    return (dice >> 33) % limit;
}

static void flip(const char *path, long at, int mask) {
    FILE *file = fopen(path, "r+b");
    if (file == NULL) exit(1);
    fseek(file, at, SEEK_SET);
    int byte = fgetc(file);
    fseek(file, at, SEEK_SET);
    fputc(byte ^ mask, file);
    fclose(file);
}

static mst_status verify(const test_state *s, const char *folder) {
    mst_checkpoint_digests digests;
    return mst_checkpoint_verify(&s->context, folder, &digests);
}

/* Verify must say no and name the file; load must say no, or give the right elements
 * (it does not read every byte). */
static void expect_found(test_state *s, const char *folder, const char *name, const char *what, long at,
                         bool try_load) {
    mst_status status = verify(s, folder);
    CHECK(status == MST_EFORMAT || status == MST_EIO, "%s, %s at %ld: verify says %s", name, what, at,
          mst_status_name(status));
    CHECK(strstr(mst_error_message(), name), "%s, %s at %ld: '%s'", name, what, at, mst_error_message());
    if (!try_load) return;
    test_state_spoil(s);
    status = mst_checkpoint_load(&s->context, folder, &s->layout, s->shards);
    CHECK(status != MST_OK || test_state_differences(s, seed) == 0, "%s, %s at %ld: loaded", name, what, at);
}

static void damage_file(test_state *s, const char *folder, const char *name) {
    char path[4096], aside[4096];
    struct stat facts;
    test_path(folder, name, path);
    test_path(folder, "aside", aside);
    if (stat(path, &facts) != 0) exit(1);
    long size = (long)facts.st_size;
    /* Small files byte by byte (their digest is looked at first);
     * of large ones the start, the end and a sample. */
    long step = size <= 8192 ? 1 : size / 200;
    for (long at = 0; at < size; at += step) {
        long place = at + (long)roll((uint64_t)(step < size - at ? step : size - at));
        int mask = 1 << roll(8);
        flip(path, place, mask);
        expect_found(s, folder, name, "bit flipped", place, roll(10) == 0);
        flip(path, place, mask);
    }
    for (long at = size - 1; at >= 0 && at >= size - 16; at--) {
        flip(path, at, 0xff);
        expect_found(s, folder, name, "byte flipped", at, true);
        flip(path, at, 0xff);
    }
    const long sizes[] = {0, 1, size / 2, size - 1, size + 1};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char command[9000];
        snprintf(command, sizeof command, "cp '%s' '%s'", path, aside);
        if (system(command) != 0 || truncate(path, sizes[i]) != 0) exit(1);
        expect_found(s, folder, name, "cut to", sizes[i], true);
        if (rename(aside, path) != 0) exit(1);
    }
    if (rename(path, aside) != 0) exit(1);
    expect_found(s, folder, name, "missing", 0, true);
    if (mkfifo(path, 0600) != 0) exit(1);
    expect_found(s, folder, name, "a pipe", 0, true);
    if (rename(aside, path) != 0) exit(1);
}

int main(void) {
    mst_comm *comm;
    test_state state;
    mst_checkpoint_digests digests;
    char folder[4096], path[4096], names[8][256];
    size_t count = 0;
    dice = (uint64_t)time(NULL);
    printf("seed %llu\n", (unsigned long long)dice);
    CHECK_OK(mst_comm_create(&comm));
    test_folder_make(folder);
    test_state_create(comm, seed, &state);
    CHECK_OK(mst_checkpoint_save(&state.context, folder, &state.layout, state.shards, &state.meta, &digests,
                                 path));
    DIR *entries = opendir(path);
    for (struct dirent *entry; entries != NULL && (entry = readdir(entries)) != NULL;)
        if (entry->d_name[0] != '.') snprintf(names[count++], sizeof *names, "%s", entry->d_name);
    closedir(entries);
    CHECK(count == 7,
          "%zu files: shard, model.h5, digests.bin, checksums.bin, tokenizer.json, huggingface.tar, "
          "manifest.json are expected",
          count);
    for (size_t i = 0; i < count; i++) damage_file(&state, path, names[i]);
    CHECK_OK(verify(&state, path)); /* the damage was undone: so each find above was of its own damage */
    test_state_destroy(&state);
    test_folder_remove(folder);
    mst_comm_destroy(&comm);
    return test_finish("checkpoint damage");
}
