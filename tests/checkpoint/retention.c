/* Which checkpoints stay: the rule by itself, then on a folder of checkpoints, one of them damaged. */
#include <fcntl.h>
#include <unistd.h>

#include "state.h"
#include "test.h"

enum { MOST = 12 };

/* Checkpoints as text, newest first: "60:3.5 50 40!": step 60 with held-out loss 3.5, 50 without one, 40 damaged. */
static size_t read_entries(const char *text, mst_checkpoint_entry entries[MOST]) {
    size_t count = 0;
    for (char *end; *text != '\0' && count < MOST; text = end + strspn(end, " ")) {
        mst_checkpoint_entry *entry = &entries[count++];
        *entry = (mst_checkpoint_entry){.step = strtoull(text, &end, 10), .loss = NAN, .readable = true};
        if (*end == ':') entry->loss = strtod(end + 1, &end);
        if (*end == '!') entry->readable = *end++ != '!';
    }
    return count;
}

/* The steps that stay, those of the best with a '*'. */
static void check_choice(const char *text, mst_checkpoint_wishes wishes, const char *expected) {
    mst_checkpoint_entry entries[MOST];
    char found[200] = "";
    const size_t count = read_entries(text, entries);
    mst_checkpoint_choose(entries, count, &wishes);
    for (size_t i = 0; i < count; i++) {
        const size_t used = strlen(found);
        if (entries[i].stays)
            snprintf(found + used, sizeof found - used, "%s%llu%s", used > 0 ? " " : "",
                     (unsigned long long)entries[i].step, entries[i].best ? "*" : "");
    }
    CHECK(strcmp(found, expected) == 0, "of '%s' stay '%s', not '%s'", text, found, expected);
}

static void check_choices(void) {
    const char *plain = "70 60 50 40 30 20 10", *curve = "70:3 60:2.5 55 50:2 40:1.5 30:2 20:4 10:5";
    check_choice("", (mst_checkpoint_wishes){.newest = 2, .best = 1}, "");
    check_choice(plain, (mst_checkpoint_wishes){.newest = 0, .every = 30}, plain);
    check_choice(plain, (mst_checkpoint_wishes){.newest = 2}, "70 60");
    check_choice(plain, (mst_checkpoint_wishes){.newest = 100}, plain);
    check_choice(plain, (mst_checkpoint_wishes){.newest = 1, .every = 30}, "70 60 30");
    check_choice(plain, (mst_checkpoint_wishes){.newest = 1, .rollback = 30}, "70 60");
    check_choice(plain, (mst_checkpoint_wishes){.newest = 2, .best = 3},
                 "70 60"); /* no losses: nothing is best */
    check_choice(curve, (mst_checkpoint_wishes){.newest = 1, .best = 1}, "70 40*");
    check_choice(curve, (mst_checkpoint_wishes){.newest = 1, .best = 2},
                 "70 40* 30*"); /* of equal ones the earlier */
    check_choice(curve, (mst_checkpoint_wishes){.newest = 2, .best = 100}, "70* 60* 50* 40* 30* 20* 10*");
    check_choice(curve, (mst_checkpoint_wishes){.newest = 1, .every = 20, .best = 1, .rollback = 50},
                 "70 60 50 40* 20");
    check_choice("20:nan 10:2", (mst_checkpoint_wishes){.newest = 1, .best = 1}, "20 10*");
    check_choice("20:inf 10", (mst_checkpoint_wishes){.newest = 1, .best = 1}, "20");
    /* Damaged ones stay, are nobody's second best, and take no good one's place. */
    check_choice("70 60! 50! 40 30", (mst_checkpoint_wishes){.newest = 2}, "70 60 50 40");
}

/* On the disk. */
static void check_prune(test_state *s, const char *folder) {
    mst_checkpoint_entry *entries;
    mst_checkpoint_digests digests;
    size_t count;
    char path[4096], manifest[4096];
    bool best;
    const double losses[] = {3, 1.5, 2, NAN, 2.5};
    for (uint64_t i = 0; i < 5; i++) {
        s->meta.step = 10 * (i + 1);
        s->meta.heldout =
            (mst_heldout){.loss = losses[i], .bits_per_byte = i == 1 ? NAN : 1, .valid = 100, .bytes = 7};
        CHECK_OK(mst_checkpoint_is_best(folder, 1, s->meta.step, losses[i], &best));
        CHECK(best == (i < 2), "step %d: best %d", 10 * (int)i + 10, best);
        CHECK_OK(mst_checkpoint_save(&s->context, folder, &s->layout, s->shards, &s->meta, &digests, path));
        if (s->meta.step == 30) test_path(path, "manifest.json", manifest);
    }
    CHECK_OK(mst_checkpoint_is_best(folder, 3, 60, 2.5, &best));
    CHECK(!best, "a loss that is there is called better");
    CHECK_OK(mst_checkpoint_is_best(folder, 4, 60, 2.5, &best));
    CHECK(best, "of four best ones there are three");
    CHECK_OK(mst_checkpoint_is_best(folder, 1, 20, 2.9, &best));
    CHECK(best, "compared with a later one");

    CHECK_OK(mst_checkpoint_list(folder, &entries, &count));
    CHECK(count == 5 && entries[0].step == 50 && entries[3].loss == 1.5 && isnan(entries[3].bits_per_byte) &&
              entries[4].loss == 3 && entries[4].bits_per_byte == 1 && isnan(entries[1].loss),
          "%zu listed, or in another order, or with other losses", count);
    free(entries);

    int file = open(manifest, O_WRONLY);
    CHECK(file >= 0 && pwrite(file, "?", 1, 40) == 1 && close(file) == 0, "damage %s", manifest);
    CHECK_OK(mst_checkpoint_prune(folder, &(mst_checkpoint_wishes){.newest = 1, .best = 1}));
    CHECK_OK(mst_checkpoint_list(folder, &entries, &count));
    CHECK(count == 3 && entries[0].step == 50 && entries[1].step == 30 && !entries[1].readable &&
              entries[2].step == 20,
          "%zu stay", count);
    free(entries);
    CHECK_OK(mst_checkpoint_list("/nowhere/at/all", &entries, &count));
    CHECK(count == 0, "%zu in a folder that is not there", count);
    free(entries);
}

int main(void) {
    mst_comm *comm;
    test_state state;
    char folder[4096], inner[4096];
    CHECK_OK(mst_comm_create(&comm));
    test_folder_make(folder);
    test_path(folder, "checkpoints", inner);
    test_state_create(comm, 7, &state);
    check_choices();
    check_prune(&state, inner);
    test_state_destroy(&state);
    test_folder_remove(folder);
    mst_comm_destroy(&comm);
    return test_finish("retention");
}
