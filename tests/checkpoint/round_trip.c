/* One rank: what is saved comes back, the same state gives the same files,
 * what is there already is kept or replaced. */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "state.h"
#include "test.h"

static bool digests_equal(const mst_checkpoint_digests *a, const mst_checkpoint_digests *b) {
    return memcmp(a, b, sizeof *a) == 0;
}

static mst_status save(const test_state *s, const char *folder, mst_checkpoint_digests *digests, char *path) {
    return mst_checkpoint_save(&s->context, folder, &s->layout, s->shards, &s->meta, digests, path);
}

static ino_t inode(const char *path) {
    struct stat facts;
    return stat(path, &facts) == 0 ? facts.st_ino : 0;
}

static void check_round_trip(test_state *s, const char *folder, uint64_t seed) {
    mst_checkpoint_digests saved, computed, opened, verified;
    char path[4096], newest[4096];
    CHECK_OK(mst_checkpoint_digest(&s->context, &s->layout, s->shards, &s->meta, &computed));
    CHECK_OK(save(s, folder, &saved, path));
    CHECK(digests_equal(&saved, &computed), "digests before and after saving differ");
    size_t dots;
    CHECK(test_folder_entries(folder, &dots) == 1 && dots == 0, "leftovers in the folder");

    mst_checkpoint_meta meta;
    CHECK_OK(mst_checkpoint_open(path, &meta, &opened));
    CHECK(digests_equal(&saved, &opened), "the manifest has other digests");
    CHECK(meta.step == 1000 && meta.updates == 998 && meta.samples == 64000 && meta.tokens == 8192000,
          "counters");
    CHECK(meta.config && strcmp(meta.config, s->meta.config) == 0, "config '%s'",
          meta.config ? meta.config : "");
    CHECK(meta.model.norm_eps == 1e-5 && meta.model.rope_theta == 10000 && meta.model.d_ff == 3, "model");
    CHECK(meta.model.rope_factor == s->meta.model.rope_factor &&
              meta.model.rope_high_freq_factor == s->meta.model.rope_high_freq_factor &&
              meta.model.rope_original_seq_len == s->meta.model.rope_original_seq_len,
          "rope scaling");
    CHECK(memcmp(&meta.data, &s->meta.data, sizeof meta.data) == 0, "data digest");
    mst_checkpoint_meta_clear(&meta);

    CHECK_OK(mst_checkpoint_verify(&s->context, path, &verified));
    CHECK(digests_equal(&saved, &verified), "verify found other digests");
    CHECK_OK(mst_checkpoint_newest(folder, 0, newest));
    CHECK(strcmp(newest, path) == 0, "newest is '%s'", newest);

    test_state_spoil(s);
    CHECK_OK(mst_checkpoint_load(&s->context, path, &s->layout, s->shards));
    size_t differences = test_state_differences(s, seed);
    CHECK(differences == 0, "%zu elements differ after loading", differences);
}

/* The state digest covers every counter that decides how a run goes on; the weights digest covers none. */
static void check_digest_inputs(test_state *s) {
    mst_checkpoint_digests base, other;
    uint64_t *const counters[] = {&s->meta.step, &s->meta.updates, &s->meta.samples};
    CHECK_OK(mst_checkpoint_digest(&s->context, &s->layout, s->shards, &s->meta, &base));
    for (size_t i = 0; i < 5; i++) {
        uint64_t *counter = i < 3 ? counters[i] : NULL;
        float kept = ((float *)s->shards[1].v)[5];
        if (counter) ++*counter;
        if (i == 3) s->meta.data.bytes[7] ^= 1;
        if (i == 4) ((float *)s->shards[1].v)[5] = 42;
        CHECK_OK(mst_checkpoint_digest(&s->context, &s->layout, s->shards, &s->meta, &other));
        CHECK(memcmp(&base.weights, &other.weights, 32) == 0, "weights digest changed by input %zu", i);
        CHECK(memcmp(&base.state, &other.state, 32) != 0, "state digest not changed by input %zu", i);
        if (counter) --*counter;
        if (i == 3) s->meta.data.bytes[7] ^= 1;
        ((float *)s->shards[1].v)[5] = kept;
    }
}

static void check_same_step_again(test_state *s, const char *folder) {
    mst_checkpoint_digests first, second, found;
    char path[4096];
    CHECK_OK(save(s, folder, &first, path));
    ino_t kept = inode(path);
    CHECK_OK(save(s, folder, &second, path));
    CHECK(inode(path) == kept && digests_equal(&first, &second), "an equal checkpoint was written again");

    s->meta.samples++; /* another state at the same step: replaced */
    CHECK_OK(save(s, folder, &second, path));
    CHECK(inode(path) != kept, "a different checkpoint was not replaced");
    CHECK_OK(mst_checkpoint_verify(&s->context, path, &found));
    CHECK(digests_equal(&second, &found), "the one that stands there is not the new one");

    char file[4096];
    test_path(path, "model.h5", file); /* a damaged one with the right manifest is replaced too */
    CHECK(truncate(file, 10) == 0, "truncate");
    CHECK_OK(save(s, folder, &second, path));
    CHECK_OK(mst_checkpoint_verify(&s->context, path, &found));
    size_t dots;
    CHECK(test_folder_entries(folder, &dots) == 1 && dots == 0, "leftovers in the folder");
    s->meta.samples--;
}

static void check_tokenizer(test_state *s, const char *folder) {
    mst_checkpoint_digests digests;
    char path[4096], *json = NULL;
    size_t bytes = 0;
    CHECK_OK(save(s, folder, &digests, path));
    CHECK_OK(mst_checkpoint_tokenizer(path, &json, &bytes));
    CHECK(json != NULL && bytes == strlen(s->meta.tokenizer) && strcmp(json, s->meta.tokenizer) == 0,
          "the tokenizer is '%s'", json != NULL ? json : "none");
    free(json);
    char *tar = NULL;
    CHECK_OK(mst_checkpoint_companions(path, &tar, &bytes));
    CHECK(tar != NULL && bytes == s->meta.companion_bytes && memcmp(tar, s->meta.companions, bytes) == 0,
          "what came with the model has %zu bytes", bytes);
    free(tar);
    const char *kept = s->meta.tokenizer;
    s->meta.tokenizer = NULL; /* bytes are tokens */
    s->meta.step++;
    CHECK_OK(save(s, folder, &digests, path));
    CHECK_OK(mst_checkpoint_tokenizer(path, &json, &bytes));
    CHECK(json == NULL && bytes == 0, "a tokenizer of %zu bytes where there is none", bytes);
    CHECK_OK(mst_checkpoint_verify(&s->context, path, &digests));
    s->meta.step--;
    s->meta.tokenizer = kept;
}

/* The same state gives the same bytes in every file. */
static void check_same_bytes(const test_state *s, const char *base) {
    mst_checkpoint_digests digests;
    char folder[2][4096], path[2][4096], command[9000];
    for (int i = 0; i < 2; i++) {
        test_path(base, i == 0 ? "one" : "other", folder[i]);
        if (i == 1) sleep(1); /* HDF5's time stamps, if there were any, would differ */
        CHECK_OK(save(s, folder[i], &digests, path[i]));
    }
    snprintf(command, sizeof command, "diff -r '%s' '%s'", path[0], path[1]);
    CHECK(system(command) == 0, "two checkpoints of one state differ");
}

static void check_other_model(test_state *s, const char *folder) {
    char path[4096];
    CHECK_OK(mst_checkpoint_newest(folder, 0, path));
    mst_tensor *tensor = &s->layout.tensors[1];
    size_t kept = tensor->shape[1];
    tensor->shape[1] = 9000;
    CHECK_STATUS(mst_checkpoint_load(&s->context, path, &s->layout, s->shards), MST_EFORMAT);
    CHECK(strstr(mst_error_message(), tensor->name) && strstr(mst_error_message(), "[3, 9000]"), "%s",
          mst_error_message());
    tensor->shape[1] = kept;
    strcpy(tensor->name, "model.layers.2.zzz.weight");
    CHECK_STATUS(mst_checkpoint_load(&s->context, path, &s->layout, s->shards), MST_EFORMAT);
    CHECK(strstr(mst_error_message(), "model.layers.2.mlp.weight"), "%s", mst_error_message());
    strcpy(tensor->name, "model.layers.2.mlp.weight");
}

/* Weights only: the moments' buffers may be missing. */
static void check_weights_only(test_state *s, const char *folder, uint64_t seed) {
    char path[4096];
    mst_shard only[4];
    CHECK_OK(mst_checkpoint_newest(folder, 0, path));
    for (size_t u = 0; u < 4; u++) {
        only[u] = s->shards[u];
        only[u].m = only[u].v = NULL;
    }
    for (size_t u = 0; u < 4; u++) memset(only[u].master, 0x5a, only[u].blocks * MST_BLOCK * 4);
    CHECK_OK(mst_checkpoint_load(&s->context, path, &s->layout, only));
    CHECK(test_state_differences(s, seed) == 0, "weights differ");
}

/* Folders without a manifest, other names, missing folders; skip; resolve;
 * prune; leftovers of killed jobs. */
static void check_folder(test_state *s, const char *folder) {
    char path[4096], run[4096], other[4096];
    mst_checkpoint_digests digests;
    CHECK_OK(mst_checkpoint_newest("/nowhere/at/all", 0, path));
    CHECK(path[0] == '\0', "found '%s'", path);
    test_path(folder, "run", run);
    test_path(run, "checkpoints", other);
    CHECK_OK(mst_checkpoint_newest(other, 0, path));
    s->meta.step = 99999999;
    CHECK_OK(save(s, other, &digests, path));
    s->meta.step = 100000000; /* nine digits: sorted by number, not by name */
    CHECK_OK(save(s, other, &digests, path));
    test_path(other, "step-200000000", path);
    CHECK(mkdir(path, 0777) == 0, "mkdir");
    test_path(other, ".tmp-step-00000007", path);
    CHECK(mkdir(path, 0777) == 0, "mkdir");
    CHECK_OK(mst_checkpoint_newest(other, 0, path));
    CHECK(strstr(path, "/step-200000000"), "newest is '%s', and the one without a manifest is hidden", path);
    CHECK_STATUS(mst_checkpoint_open(path, &(mst_checkpoint_meta){0}, &digests), MST_EIO);
    CHECK(strstr(mst_error_message(), "manifest.json: No such file"), "%s", mst_error_message());
    CHECK_OK(mst_checkpoint_prune(other, &(mst_checkpoint_wishes){.newest = 2}));
    CHECK(rmdir(path) == 0, "what has no manifest was removed");
    CHECK_OK(mst_checkpoint_newest(other, 0, path));
    CHECK(strstr(path, "/step-100000000"), "newest is '%s'", path);
    CHECK_OK(mst_checkpoint_newest(other, 1, path));
    CHECK(strstr(path, "/step-99999999"), "the one before is '%s'", path);
    CHECK_OK(mst_checkpoint_newest(other, 2, path));
    CHECK(path[0] == '\0', "found '%s'", path);
    CHECK_OK(mst_checkpoint_resolve(run, path));
    CHECK(strstr(path, "checkpoints/step-100000000"), "resolved to '%s'", path);
    CHECK_STATUS(mst_checkpoint_resolve("/nowhere", path), MST_EIO);
    CHECK_OK(mst_checkpoint_prune(other, &(mst_checkpoint_wishes){.newest = 1}));
    CHECK_OK(mst_checkpoint_newest(other, 1, path));
    CHECK(path[0] == '\0', "prune left '%s'", path);

    /* Killed between two renames: the old one stands aside, and the next save puts it back. */
    char aside[4096], whole[4096];
    test_path(other, "step-100000000", whole);
    test_path(other, ".old-step-100000000", aside);
    CHECK(rename(whole, aside) == 0, "rename");
    s->meta.step = 1000;
    CHECK_OK(save(s, other, &digests, path));
    CHECK_OK(mst_checkpoint_newest(other, 0, path));
    CHECK(strcmp(path, whole) == 0, "newest is '%s'", path);
    size_t dots;
    test_folder_entries(other, &dots);
    CHECK(dots == 0, "%zu leftovers", dots);
}

/* Takes the checksums out of a checkpoint, as older ones are: the manifest is sealed anew. */
static void forget_checksums(const char *path) {
    char name[4096], text[1 << 16], hex[MST_DIGEST_HEX];
    mst_digest digest;
    test_path(path, "checksums.bin", name);
    CHECK(unlink(name) == 0, "%s", name);
    test_path(path, "manifest.json", name);
    FILE *file = fopen(name, "r+");
    size_t bytes = file != NULL ? fread(text, 1, sizeof text - 1, file) : 0;
    text[bytes] = '\0';
    char *line = strstr(text, "\"block_checksums\""), *seal = strstr(text, "\"manifest_sha256\"");
    CHECK(line != NULL && seal != NULL, "no checksums in %s", name);
    if (line == NULL || seal == NULL) exit(1);
    const char *next = strchr(line, '\n') + 1;
    seal -= next - line;
    memmove(line, next, strlen(next) + 1);
    CHECK_OK(mst_digest_of(text, (size_t)(seal - text), &digest));
    mst_digest_to_hex(&digest, hex);
    rewind(file);
    fprintf(file, "%.*s\"manifest_sha256\": \"%s\"\n}\n", (int)(seal - text), text, hex);
    CHECK(ftruncate(fileno(file), ftell(file)) == 0, "%s", name);
    fclose(file);
}

/* A checkpoint of before there were checksums: its digests serve. */
static void check_without_checksums(test_state *s, const char *base, uint64_t seed) {
    char folder[4096], path[4096], command[9000];
    mst_checkpoint_digests digests;
    test_path(base, "old", folder);
    CHECK_OK(save(s, folder, &digests, path));
    forget_checksums(path);
    CHECK_OK(mst_checkpoint_verify(&s->context, path, &digests));
    snprintf(command, sizeof command,
             "cd '%s' && cp shard-* kept && printf x | dd of=\"$(ls shard-*)\" bs=1 seek=20000 conv=notrunc "
             "2>/dev/null",
             path);
    CHECK(system(command) == 0, "%s", command);
    CHECK_STATUS(mst_checkpoint_load(&s->context, path, &s->layout, s->shards), MST_EFORMAT);
    CHECK(strstr(mst_error_message(), "do not have their digest"), "%s", mst_error_message());
    snprintf(command, sizeof command, "cd '%s' && mv kept \"$(ls shard-*)\"", path);
    CHECK(system(command) == 0, "%s", command);
    test_state_spoil(s);
    CHECK_OK(mst_checkpoint_load(&s->context, path, &s->layout, s->shards));
    CHECK(test_state_differences(s, seed) == 0, "elements differ");
}

/* The least version that can say what is stored: a reader of version 1 must not open scaled positions, and all
 * others it must. */
static void check_versions(test_state *s, const char *base, uint64_t seed) {
    char folder[4096], path[4096], command[9000];
    mst_checkpoint_digests digests;
    test_path(base, "versions", folder);
    CHECK_OK(save(s, folder, &digests, path));
    snprintf(command, sizeof command,
             "cd '%s' && grep -qx '\"version\": 1,' manifest.json && ! grep -q rope_scaling manifest.json",
             path);
    CHECK(system(command) == 0, "the manifest of a model without scaled positions is not of version 1");
    const mst_model_config kept = s->meta.model;
    s->meta.model.rope_factor = 32.5;
    s->meta.model.rope_low_freq_factor = 1;
    s->meta.model.rope_high_freq_factor = 4.25;
    s->meta.model.rope_original_seq_len = 8191;
    check_round_trip(s, folder, seed);
    snprintf(command, sizeof command, "cd '%s' && grep -qx '\"version\": 2,' manifest.json", path);
    CHECK(system(command) == 0, "the manifest of a model with scaled positions is not of version 2");
    s->meta.model = kept;
}

int main(void) {
    const uint64_t seed = 20240607;
    mst_comm *comm;
    test_state state;
    char folder[4096], inner[4096];
    CHECK_OK(mst_comm_create(&comm));
    test_folder_make(folder);
    test_path(folder, "a/b", inner);
    test_state_create(comm, seed, &state);
    check_round_trip(&state, inner, seed);
    check_digest_inputs(&state);
    test_path(folder, "tokenizer", inner);
    check_tokenizer(&state, inner);
    test_path(folder, "a/b", inner);
    check_same_step_again(&state, inner);
    check_other_model(&state, inner);
    check_weights_only(&state, inner, seed);
    check_folder(&state, inner);
    check_same_bytes(&state, inner);
    check_without_checksums(&state, inner, seed);
    check_versions(&state, inner, seed);
    test_state_destroy(&state);
    test_folder_remove(folder);
    mst_comm_destroy(&comm);
    return test_finish("checkpoint round trip");
}
