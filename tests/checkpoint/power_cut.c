/*
 * The power is cut after any call that a save, a removal or a setting aside makes, and what was not synced is lost, or not.
 * Whatever comes back: every checkpoint that is listed is whole and one that was saved, and those whose save had returned
 * are there. The same where a killed save went before. At the end the proof that this can fail: a disk that does not sync
 * is found out.
 *   power_cut [CUTS]    random cuts after each call (default 4)
 */
#include <inttypes.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "disk.h"
#include "folder.h"
#include "muster/saver.h"
#include "state.h"
#include "test.h"

enum { SHELF = 8, STATES = 3, ACTS = 16 };

/* Checkpoints that must be there, each with the state that it has, or the one or the other. */
typedef struct shelf {
    size_t count;
    struct {
        uint64_t step;
        int states[2];
    } at[SHELF];
} shelf;

/* What was done, and what must be there before, all the time and after. */
typedef struct act {
    const char *name;
    size_t until; /* calls recorded when it was over */
    shelf before, after;
    bool hides; /* names cannot be exchanged: what is replaced may for a moment have another name */
} act;

static const test_shape shapes[] = {{"a.weight", 2, {100, 41}, 0}, {"b.bias", 1, {7, 1}, 0}};
static test_state states[STATES], loaded; /* of seed 1, 2, 3 */
static act acts[ACTS];
static size_t act_count;
static shelf there; /* now */
static char base[4096], folder[4096], target[4096];
static uint64_t dice;
static size_t violations, cuts;
static bool quiet;

/* --- what is done --- */

/* The number of a step's checkpoint; `count` when there is none. */
static size_t place_of(const shelf *on, uint64_t step) {
    size_t i = 0;
    while (i < on->count && on->at[i].step != step) i++;
    return i;
}

static void put(shelf *on, uint64_t step, int state, int or_state) {
    const size_t i = place_of(on, step);
    if (i == on->count) on->count++;
    on->at[i].step = step;
    on->at[i].states[0] = state;
    on->at[i].states[1] = or_state;
}

static void take(shelf *from, uint64_t step) {
    const size_t i = place_of(from, step);
    if (i < from->count) from->at[i] = from->at[--from->count];
}

static void done(const char *name, shelf before) {
    if (act_count == ACTS) exit(1);
    acts[act_count++] = (act){name, disk_calls(), before, there, !disk_is.can_exchange};
}

static mst_status save_state(uint64_t step, int state) {
    mst_checkpoint_digests digests;
    test_state *s = &states[state];
    s->meta.step = step;
    return mst_checkpoint_save(&s->context, folder, &s->layout, s->shards, &s->meta, &digests, NULL);
}

static void save(uint64_t step, int state) {
    const shelf before = there;
    CHECK_OK(save_state(step, state));
    put(&there, step, state, state);
    done("save", before);
}

static void prune(size_t keep) {
    const shelf before = there;
    CHECK_OK(mst_checkpoint_prune(folder, &(mst_checkpoint_wishes){.newest = keep}));
    char path[4096];
    for (size_t i = 0; i < there.count;) {
        snprintf(path, sizeof path, "%.4000s/step-%08" PRIu64, folder, there.at[i].step);
        if (ckpt_exists(path))
            i++;
        else
            take(&there, there.at[i].step);
    }
    CHECK(there.count == keep, "%zu checkpoints are left", there.count);
    done("prune", before);
}

static void set_aside(uint64_t beyond) {
    const shelf before = there;
    size_t count;
    CHECK_OK(mst_checkpoint_set_aside(folder, beyond, beyond, &count));
    CHECK(count == 1, "%zu set aside", count);
    for (size_t i = there.count; i-- > 0;)
        if (there.at[i].step > beyond) take(&there, there.at[i].step);
    done("set aside", before);
}

/* Goes on from an older step than one that is saved again: that one is set aside, and for a moment none has its step. */
static void go_back(uint64_t from, uint64_t step, int state) {
    test_state *s = &states[state];
    mst_saver *saver;
    mst_saved saved;
    const mst_saver_options options = {.folder = folder, .tidies = true};
    for (size_t i = there.count; i-- > 0;)
        if (there.at[i].step > from) take(&there, there.at[i].step);
    const shelf before = there;
    s->meta.step = step;
    CHECK_OK(mst_saver_create(&s->context, &s->layout, s->shards, &options, &saver));
    mst_saver_goes_on_from(saver, from);
    CHECK_OK(mst_saver_begin(saver, &s->meta));
    CHECK_OK(mst_saver_wait(saver, &saved));
    CHECK(saved.set_aside == 1 && saved.warning[0] == '\0', "%zu set aside: %s", saved.set_aside,
          saved.warning);
    mst_saver_destroy(&saver);
    put(&there, step, state, state);
    done("go back", before);
}

static void begin(void) {
    test_folder_remove(base);
    if (mkdir(base, 0777) != 0) exit(1);
    disk_record(base);
    act_count = 0;
    there.count = 0;
}

/* A run's life; then it goes back to step 1000 and on from there. */
static void live(void) {
    begin();
    save(500, 0);
    save(1000, 1);
    save(1000, 2); /* instead of it */
    save(1000, 2); /* the same again */
    save(1500, 0);
    prune(2);
    save(1200, 1);
    set_aside(1200);
    go_back(1000, 1200, 0);
    prune(1);
}

/* Killed after so many calls of a save that replaces another and of a removal; then another save. False: these have not so
 * many calls. */
static bool die_and_live(size_t calls) {
    begin();
    save(500, 0);
    save(1000, 1);
    const shelf before = there;
    disk_is.dead_after = disk_calls() + calls;
    const mst_status status = save_state(1000, 2);
    if (status == MST_OK) mst_checkpoint_prune(folder, &(mst_checkpoint_wishes){.newest = 1});
    const bool died = disk_calls() == disk_is.dead_after;
    disk_is.dead_after = 0;
    CHECK(died || status == MST_OK, "%s", mst_error_message());
    put(&there, 1000, 1, 2);
    take(&there, 500);
    done("save and prune, killed", before);
    save(1500, 0);
    return died;
}

/* --- what must be found --- */

static void complain(const char *what, const char *path) {
    if (violations++ < 5 && !quiet)
        fprintf(stderr, "power cut after %s: %s: %s: %s\n", disk_last(), path, what, mst_error_message());
}

/* The number of the state that a listed checkpoint has; -1 when it is not one that was saved, or not whole. */
static int state_of(const char *path, uint64_t *step_out) {
    mst_checkpoint_meta meta = {0};
    mst_checkpoint_digests said, found, right;
    int state = -1;
    *step_out = strtoull(strrchr(path, '-') + 1, NULL, 10);
    if (mst_checkpoint_open(path, &meta, &said) != MST_OK ||
        mst_checkpoint_verify(&loaded.context, path, &found) != MST_OK) {
        complain("is listed and not whole", path);
        goto done;
    }
    test_state_spoil(&loaded);
    if (mst_checkpoint_load(&loaded.context, path, &loaded.layout, loaded.shards) != MST_OK) {
        complain("is listed and cannot be loaded", path);
        goto done;
    }
    for (int i = 0; i < STATES && state < 0; i++) {
        test_state *s = &states[i];
        s->meta.step = *step_out;
        CHECK_OK(mst_checkpoint_digest(&s->context, &s->layout, s->shards, &s->meta, &right));
        if (memcmp(&right, &found, sizeof right) != 0) continue;
        state = i;
        if (test_state_differences(&loaded, (uint64_t)i + 1) > 0) complain("other elements", path);
    }
    if (state < 0) complain("is none that was saved", path);
done:
    mst_checkpoint_meta_clear(&meta);
    return state;
}

static void list(const char *checkpoints, shelf *found) {
    char path[4096];
    found->count = 0;
    for (size_t skip = 0;; skip++) {
        uint64_t step;
        if (mst_checkpoint_newest(checkpoints, skip, path) != MST_OK) complain("cannot be listed", path);
        if (path[0] == '\0') return;
        int state = state_of(path, &step);
        if (state >= 0) put(found, step, state, state);
    }
}

static bool is_one_of(int state, const shelf *on, size_t number) {
    return state == on->at[number].states[0] || state == on->at[number].states[1];
}

/* Those of `before` and `after` are there, with the state of the one or the other. Number of those that are not. */
static size_t missing(const shelf *found, const shelf *before, const shelf *after) {
    size_t count = 0;
    for (size_t i = 0; i < before->count; i++) {
        const size_t a = place_of(after, before->at[i].step), f = place_of(found, before->at[i].step);
        if (a == after->count) continue;
        if (f == found->count ||
            !(is_one_of(found->at[f].states[0], before, i) || is_one_of(found->at[f].states[0], after, a)))
            count++;
    }
    return count;
}

/* One cut, `calls` calls after the beginning. */
static void cut(size_t calls, disk_luck luck) {
    char checkpoints[4096];
    shelf found;
    size_t number = 0;
    while (number + 1 < act_count && calls > acts[number].until) number++;
    const act *a = &acts[number];
    const bool over = calls == a->until;
    const shelf *before = over ? &a->after : &a->before;
    cuts++;
    test_folder_remove(target);
    disk_cut(luck, &dice, target);
    test_path(target, "run/checkpoints", checkpoints);
    list(checkpoints, &found);
    if (missing(&found, before, &a->after) == 0) return;
    if (a->hides && ckpt_folder_recover(checkpoints) == MST_OK) { /* as the next save does first */
        list(checkpoints, &found);
        if (missing(&found, before, &a->after) == 0) return;
    }
    complain("a checkpoint that was saved is not there", a->name);
}

/* Cuts after each call from `first` on, with each luck and some random ones. */
static void cut_everywhere(size_t first, size_t random_cuts) {
    for (size_t calls = 1; disk_advance(); calls++) {
        if (calls < first) continue;
        for (disk_luck luck = DISK_NOTHING; luck < DISK_RANDOM; luck++) cut(calls, luck);
        for (size_t i = 0; i < random_cuts; i++) cut(calls, DISK_RANDOM);
    }
}

static void report(const char *what) {
    printf("%s%s: %zu calls, %zu states after a power cut, %zu of them wrong\n", what,
           disk_is.can_exchange ? "" : ", without exchange", disk_calls(), cuts, violations);
    fflush(stdout);
    cuts = violations = 0;
}

static void check_life(size_t random_cuts) {
    live();
    cut_everywhere(1, random_cuts);
    CHECK(violations == 0 && disk_calls() > 100 && cuts > 1000, "%zu violations in %zu states", violations,
          cuts);
    report("a run's life");
}

static void check_killed(void) {
    size_t kills = 1;
    for (; die_and_live(kills); kills++) {
        const size_t first = acts[2].until + 1;
        for (size_t calls = 1; disk_advance(); calls++) {
            dice = dice * 6364136223846793005u + 1442695040888963407u;
            if (calls >= first) cut(calls, (disk_luck)((dice >> 40) % DISK_LUCKS));
        }
    }
    CHECK(violations == 0 && kills > 20, "%zu violations, %zu kills", violations, kills);
    printf("%zu kills; ", kills - 1);
    report("saves after them, the last one of");
}

/* A disk that does not sync must be found out. */
static void check_finds(const char *what) {
    quiet = true;
    live();
    cut_everywhere(1, 1);
    CHECK(violations > 0, "%s, and nothing was found", what);
    report(what);
    quiet = false;
}

int main(int argc, char **argv) {
    mst_comm *comm;
    char room[4096];
    const size_t random_cuts = argc > 1 ? strtoull(argv[1], NULL, 10) : 4;
    if (access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 0); /* the disk is a model: the files may be in memory */
    dice = (uint64_t)time(NULL);
    printf("seed %" PRIu64 "\n", dice);
    CHECK_OK(mst_comm_create_alone(&comm));
    for (int i = 0; i < STATES; i++) test_state_create_of(comm, (uint64_t)i + 1, shapes, 2, &states[i]);
    test_state_create_of(comm, 9, shapes, 2, &loaded);
    test_folder_make(room);
    test_path(room, "real", base);
    test_path(base, "run/checkpoints", folder);
    test_path(room, "cut", target);
    for (int can = 1; can >= 0; can--) {
        disk_is.can_exchange = can;
        check_life(random_cuts);
        check_killed();
    }
    disk_is.can_exchange = disk_is.ignores_files = true;
    check_finds("a disk that does not sync files");
    disk_is.ignores_files = !(disk_is.ignores_folders = true);
    check_finds("a disk that does not sync folders");
    disk_stop();
    for (int i = 0; i < STATES; i++) test_state_destroy(&states[i]);
    test_state_destroy(&loaded);
    test_folder_remove(room);
    mst_comm_destroy(&comm);
    return test_finish("checkpoint power cut");
}
