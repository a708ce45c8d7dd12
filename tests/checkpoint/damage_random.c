/*
 * Thousands of small damages to small checkpoints, written by one to three ranks, of several models, runs and steps. Each is
 * found by verify, which names the file (for elements: the tensor and its block too), and no damaged one loads to other
 * weights. Run by damage_random.sh.
 *   damage_random save BASE               saves its checkpoints with this number of ranks
 *   damage_random BASE [COUNT [SEED]]     damages copies of all that are there
 */
#include <inttypes.h>
#include <time.h>
#include <unistd.h>

#include "state.h"
#include "test.h"

enum { MODELS = 3, VERSIONS = 5, WRITERS = 3, FILES = 9, BLOCK = 4096 };

/* A piece ends at a block's end, within one, and is shorter than one; units with fewer blocks than ranks. */
static const test_shape shapes[MODELS][3] = {
    {{"a.weight", 2, {100, 41}, 0}, {"b.bias", 1, {7, 1}, 0}, {"c.weight", 1, {4096, 1}, 1}},
    {{"embed.weight", 2, {130, 97}, 0}, {"layers.10.bias", 1, {4097, 1}, 1}, {"layers.2.bias", 1, {1, 1}, 2}},
    {{"z", 2, {3, 3001}, 0}, {"y", 1, {5000, 1}, 0}, {"x", 2, {64, 128}, 0}}};

/* What the same model has in its run: another step, another state of the same step, the same state in another run. */
static const struct version {
    uint64_t seed, step;
    const char *run;
} versions[VERSIONS] = {
    {1, 10, "run-a"}, {2, 20, "run-a"}, {3, 10, "run-a"}, {1, 10, "run-b"}, {4, 30, "run-b"}};

#define DAMAGES(X)                                                                                           \
    X(FLIP_ONE, "one bit flipped")                                                                           \
    X(FLIP_MANY, "many bits flipped")                                                                        \
    X(TRUNCATE, "cut short")                                                                                 \
    X(EXTEND, "made longer")                                                                                 \
    X(ZERO_BLOCK, "a block of zeros")                                                                        \
    X(SWAP_BLOCKS, "two blocks swapped")                                                                     \
    X(COPY_BLOCK, "a block in the place of another")                                                         \
    X(DELETE, "a file deleted")                                                                              \
    X(SWAP_FILES, "two files swapped")                                                                       \
    X(MIX_STEP, "a file of another step")                                                                    \
    X(MIX_STATE, "a file of the same step, another state")                                                   \
    X(MIX_RUN, "a file of another run, the same state")                                                      \
    X(MIX_ANY, "files of any other checkpoint")
#define DAMAGE_ENUM(name, text) name,
#define DAMAGE_TEXT(name, text) text,
typedef enum damage { DAMAGES(DAMAGE_ENUM) KINDS } damage;
static const char *const damage_texts[] = {DAMAGES(DAMAGE_TEXT)};

typedef struct file {
    char name[MST_FILE_NAME_MAX];
    uint8_t *bytes;
    size_t size;
} file;

typedef struct checkpoint {
    char path[4096];
    int model, version, writers;
    mst_manifest manifest;
    file files[FILES];
    size_t count;
} checkpoint;

static struct tally {
    size_t tried, found, refused,
        loaded; /* found: by verify; refused, loaded: by load, which does not read all */
} tallies[KINDS];
static checkpoint all[MODELS * VERSIONS * WRITERS];
static size_t all_count;
static test_state states[MODELS];
static uint64_t dice;

static uint64_t roll(uint64_t limit) {
    dice = dice * 6364136223846793005u + 1442695040888963407u;
    return (dice >> 33) % limit;
}

/* --- the checkpoints --- */

static void folder_of(const char *base, int model, int version, int ranks, char folder_out[4096]) {
    char name[64];
    snprintf(name, sizeof name, "model%d-version%d-ranks%d", model, version, ranks);
    test_path(base, name, folder_out);
}

static void save_all(mst_comm *comm, const char *base) {
    for (int model = 0; model < MODELS; model++) {
        for (int v = 0; v < VERSIONS; v++) {
            char folder[4096];
            test_state s;
            mst_checkpoint_digests digests;
            test_state_create_of(comm, versions[v].seed, shapes[model], 3, &s);
            s.meta.step = versions[v].step;
            snprintf(s.meta.run_id, strlen(s.meta.run_id) + 1, "%s", versions[v].run);
            folder_of(base, model, v, mst_comm_size(comm), folder);
            CHECK_OK(mst_checkpoint_save(&s.context, folder, &s.layout, s.shards, &s.meta, &digests, NULL));
            test_state_destroy(&s);
        }
    }
}

static void write_file(const checkpoint *c, const file *f) {
    char path[4096];
    test_path(c->path, f->name, path);
    FILE *to = fopen(path, "wb");
    if (to == NULL || fwrite(f->bytes, 1, f->size, to) != f->size || fclose(to) != 0) exit(1);
}

static void read_file(checkpoint *c, const char *name) {
    char path[4096];
    file *f = &c->files[c->count++];
    if (c->count > FILES) exit(1);
    snprintf(f->name, sizeof f->name, "%s", name);
    test_path(c->path, name, path);
    FILE *from = fopen(path, "rb");
    if (from == NULL || fseek(from, 0, SEEK_END) != 0) exit(1);
    f->size = (size_t)ftell(from);
    f->bytes = malloc(f->size + 1);
    rewind(from);
    if (f->bytes == NULL || fread(f->bytes, 1, f->size, from) != f->size) exit(1);
    fclose(from);
}

/* The files stand in the same order in each: so those of the same number have the same part. */
static void read_all(const char *base) {
    for (int number = 0; number < MODELS * VERSIONS * WRITERS; number++) {
        checkpoint *c = &all[all_count];
        char folder[4096];
        c->model = number % MODELS;
        c->version = number / MODELS % VERSIONS;
        c->writers = number / MODELS / VERSIONS + 1;
        folder_of(base, c->model, c->version, c->writers, folder);
        CHECK_OK(mst_checkpoint_newest(folder, 0, c->path));
        if (c->path[0] == '\0') continue; /* no mpirun: one rank's only */
        CHECK_OK(mst_manifest_read(c->path, &c->manifest));
        read_file(c, "manifest.json");
        read_file(c, "digests.bin");
        read_file(c, "model.h5");
        read_file(c, "tokenizer.json");
        read_file(c, "huggingface.tar");
        read_file(c, "checksums.bin");
        for (size_t i = 0; i < c->manifest.shard_count; i++) read_file(c, c->manifest.shards[i].name);
        all_count++;
    }
}

/* --- damages: of a copy of the files in memory --- */

static void flip_bits(file *f, uint64_t count) {
    while (count-- > 0) f->bytes[roll(f->size)] ^= (uint8_t)(1u << roll(8));
}

/* A block's place in a file, and how much of it there is. */
static size_t some_block(const file *f, size_t *bytes_out) {
    const size_t at = roll((f->size + BLOCK - 1) / BLOCK) * BLOCK;
    *bytes_out = f->size - at < BLOCK ? f->size - at : BLOCK;
    return at;
}

static void move_block(file *f, bool swap) {
    size_t bytes, other_bytes, at = some_block(f, &bytes), other = some_block(f, &other_bytes);
    uint8_t kept[BLOCK];
    if (other_bytes < bytes) bytes = other_bytes;
    memcpy(kept, f->bytes + at, bytes);
    memcpy(f->bytes + at, f->bytes + other, bytes);
    if (swap) memcpy(f->bytes + other, kept, bytes);
}

static void resize(file *f, size_t size, bool zeros) {
    f->bytes = realloc(f->bytes, size + 1);
    if (f->bytes == NULL) exit(1);
    for (size_t i = f->size; i < size; i++) f->bytes[i] = zeros ? 0 : (uint8_t)roll(256);
    f->size = size;
}

static void copy(file *to, const file *from) {
    resize(to, from->size, true);
    memcpy(to->bytes, from->bytes, from->size);
}

/* A checkpoint to be damaged, and another one that a file may come from. */
static void choose(damage kind, const checkpoint **victim_out, const checkpoint **donor_out) {
    for (bool fits = false; !fits;) {
        const checkpoint *victim = &all[roll(all_count)], *donor = &all[roll(all_count)];
        const struct version *ours = &versions[victim->version], *theirs = &versions[donor->version];
        const bool same_run = strcmp(ours->run, theirs->run) == 0, same_model = victim->model == donor->model;
        fits = victim != donor;
        if (kind == MIX_STEP) fits = same_model && same_run && theirs->step != ours->step;
        if (kind == MIX_STATE) fits = same_model && same_run && theirs->step == ours->step && theirs != ours;
        if (kind == MIX_RUN) fits = same_model && !same_run && theirs->seed == ours->seed;
        *victim_out = victim;
        *donor_out = donor;
    }
}

static void mix(checkpoint *c, const checkpoint *donor, damage kind, size_t number) {
    copy(&c->files[number], &donor->files[number < donor->count ? number : donor->count - 1]);
    for (size_t i = 0; kind == MIX_ANY && i < c->count && i < donor->count; i++)
        if (roll(3) == 0) copy(&c->files[i], &donor->files[i]);
}

/* @param c a copy of the victim */
static void damage_file(checkpoint *c, const checkpoint *victim, const checkpoint *donor, damage kind,
                        size_t number) {
    file *f = &c->files[number];
    size_t bytes, at, other = roll(c->count);
    if (kind == FLIP_ONE) flip_bits(f, 1);
    if (kind == FLIP_MANY) flip_bits(f, 2 + roll(100));
    if (kind == TRUNCATE) resize(f, roll(4) == 0 ? f->size - 1 : roll(f->size), true);
    if (kind == EXTEND) resize(f, f->size + 1 + roll(2 * BLOCK), roll(2) == 0);
    if (kind == ZERO_BLOCK) at = some_block(f, &bytes), memset(f->bytes + at, 0, bytes);
    if (kind == SWAP_BLOCKS || kind == COPY_BLOCK) move_block(f, kind == SWAP_BLOCKS);
    if (kind == SWAP_FILES) {
        copy(f, &victim->files[other]);
        copy(&c->files[other], &victim->files[number]);
    }
    if (kind >= MIX_STEP) mix(c, donor, kind, number);
}

/* --- what must be found --- */

/* A bit of an element: the message must name its tensor and the first element of its block. */
static void expect_place(const checkpoint *c, size_t number, size_t byte, const char *message) {
    char words[256];
    for (size_t i = 0; i < c->manifest.piece_count; i++) {
        const mst_manifest_piece *p = &c->manifest.pieces[i];
        if (strcmp(c->manifest.shards[p->shard].name, c->files[number].name) != 0) continue;
        if (byte < p->offset || byte >= p->offset + p->count * 4) continue;
        const uint64_t element = p->first + (byte - p->offset) / 4 / MST_BLOCK * MST_BLOCK;
        snprintf(words, sizeof words, "%s of %s, elements from %" PRIu64 " on", mst_tensor_kind_name(p->kind),
                 c->manifest.tensors[p->tensor].name, element);
        CHECK(strstr(message, words) != NULL, "not '%s' but: %s", words, message);
    }
}

static void expect_names(const checkpoint *victim, const bool *changed, const char *message) {
    bool named = false;
    for (size_t i = 0; i < victim->count; i++)
        named = named || (changed[i] && strstr(message, victim->files[i].name) != NULL);
    /* Another manifest may name files that are not there. */
    named = named || (changed[0] && strstr(message, victim->path) != NULL);
    CHECK(named, "%s", message);
}

static void expect_found(const checkpoint *victim, const checkpoint *c, damage kind, const bool *changed,
                         const char *what) {
    test_state *s = &states[victim->model];
    mst_checkpoint_digests digests;
    char *json = NULL;
    size_t bytes;
    mst_status status = mst_checkpoint_verify(&s->context, victim->path, &digests);
    CHECK(status == MST_EFORMAT || status == MST_EIO, "%s: verify says %s", what, mst_status_name(status));
    tallies[kind].found += status != MST_OK;
    if (status != MST_OK) expect_names(victim, changed, mst_error_message());
    for (size_t i = 5; kind == FLIP_ONE && i < c->count; i++)
        for (size_t b = 0; changed[i] && b < c->files[i].size; b++)
            if (c->files[i].bytes[b] != victim->files[i].bytes[b])
                expect_place(victim, i, b, mst_error_message());
    test_state_spoil(s);
    status = mst_checkpoint_load(&s->context, victim->path, &s->layout, s->shards);
    tallies[kind].loaded += status == MST_OK;
    tallies[kind].refused += status != MST_OK;
    CHECK(status == MST_OK || status == MST_EFORMAT || status == MST_EIO, "%s: load says %s", what,
          mst_status_name(status));
    CHECK(status != MST_OK || test_state_differences(s, versions[victim->version].seed) == 0,
          "%s: it was loaded, to other weights", what);
    status = mst_checkpoint_tokenizer(victim->path, &json, &bytes);
    CHECK(status != MST_OK || (json != NULL && strcmp(json, s->meta.tokenizer) == 0), "%s: another tokenizer",
          what);
    free(json);
}

/* Damages a copy until something is changed. @param changed [FILES] @return the number of the file that was chosen */
static size_t damage_copy(checkpoint *c, const checkpoint *victim, const checkpoint *donor, damage kind,
                          bool *changed) {
    for (;;) {
        const size_t number = roll(c->count);
        size_t changes = 0;
        for (size_t i = 0; i < c->count; i++) copy(&c->files[i], &victim->files[i]);
        damage_file(c, victim, donor, kind, number);
        for (size_t i = 0; i < c->count; i++) {
            const file *now = &c->files[i], *was = &victim->files[i];
            changed[i] = now->size != was->size || memcmp(now->bytes, was->bytes, was->size) != 0;
            if (kind == DELETE) changed[i] = i == number;
            changes += changed[i];
        }
        if (changes > 0) return number;
    }
}

/* One damage, and back again. */
static void try_one(damage kind) {
    const checkpoint *victim, *donor;
    bool changed[FILES];
    char what[256], path[4096];
    choose(kind, &victim, &donor);
    checkpoint c = *victim;
    for (size_t i = 0; i < c.count; i++) c.files[i] = (file){.size = 0};
    const size_t number = damage_copy(&c, victim, donor, kind, changed);
    for (size_t i = 0; i < c.count; i++) {
        snprintf(c.files[i].name, sizeof c.files[i].name, "%s", victim->files[i].name);
        if (changed[i]) write_file(victim, &c.files[i]);
    }
    test_path(victim->path, victim->files[number].name, path);
    if (kind == DELETE && unlink(path) != 0) exit(1);
    snprintf(what, sizeof what, "%s: %.150s", damage_texts[kind], path);
    tallies[kind].tried++;
    expect_found(victim, &c, kind, changed, what);
    for (size_t i = 0; i < c.count; i++) {
        if (changed[i]) write_file(victim, &victim->files[i]);
        free(c.files[i].bytes);
    }
}

static void report(void) {
    printf("%-40s %7s %16s %16s %18s\n", "", "tried", "verify found it", "load refused it",
           "load gave the right");
    for (int kind = 0; kind < KINDS; kind++) {
        const struct tally *t = &tallies[kind];
        printf("%-40s %7zu %16zu %16zu %18zu\n", damage_texts[kind], t->tried, t->found, t->refused,
               t->loaded);
    }
}

static void damage_all(mst_comm *comm, const char *base, uint64_t count) {
    for (int model = 0; model < MODELS; model++)
        test_state_create_of(comm, 1, shapes[model], 3, &states[model]);
    read_all(base);
    CHECK(all_count >= MODELS * VERSIONS, "%zu checkpoints in %s", all_count, base);
    for (uint64_t i = 0; i < count && test_failures < 20; i++) try_one((damage)(i % KINDS));
    for (size_t i = 0; i < all_count; i++) { /* each was found for its own damage: all of it was undone */
        mst_checkpoint_digests digests;
        CHECK_OK(mst_checkpoint_verify(&states[all[i].model].context, all[i].path, &digests));
    }
    printf("%" PRIu64 " damages of %zu checkpoints\n", count, all_count);
    report();
}

int main(int argc, char **argv) {
    mst_comm *comm;
    if (argc < 2) SKIP("run by damage_random.sh: damage_random save BASE, damage_random BASE [COUNT [SEED]]");
    const bool saves = strcmp(argv[1], "save") == 0;
    CHECK_OK(mst_comm_create(&comm));
    if (saves) {
        save_all(comm, argv[2]);
    } else {
        dice = argc > 3 ? strtoull(argv[3], NULL, 10) : (uint64_t)time(NULL);
        printf("seed %" PRIu64 "\n", dice);
        damage_all(comm, argv[1], argc > 2 ? strtoull(argv[2], NULL, 10) : 10000);
    }
    mst_comm_destroy(&comm);
    return test_finish(saves ? "checkpoints to damage" : "checkpoint damage at random");
}
