/*
 * Every write fails once, in the program itself: on a rank of a run of two, the Nth system call on the run's files fails
 * with EIO, ENOSPC or EDQUOT, or writes only half, for N = 1, 2, ... until there are no more calls. Each time the run
 *   - either comes to its end with the digests of the run that nothing befell,
 *   - or ends with exit code 1 and a message that names the file and the reason; the same command
 *     then goes on, to the same digests;
 *   - and every checkpoint that is listed is good, and none that metrics.jsonl records was lost before a newer one was there.
 * It never hangs and never crashes. It goes on without a warning only where nothing is missing: after a close (an fsync came
 * before), when a write did half (the rest is written next), and when something could not be removed (the next save will).
 *
 *   failures [--all] [--part I/N] MUSTER SHIM
 *
 * Without --all each call fails with one of the errors, by turns. --part 2/4 takes the second of every four calls, so that
 * four processes share the work.
 */
#include <errno.h>
#include <inttypes.h>
#include <unistd.h>

#include "test.h"
#include "trial.h"

enum { STEPS = 4, EVERY = 2, KEEP = 1, LISTED_MAX = 8, CALLS_MAX = 2000 };

static const int errors[] = {EIO, ENOSPC, EDQUOT, 0}; /* 0: half of what is written */
enum { ERRORS = sizeof errors / sizeof *errors };

static trial t;
static size_t done, ended, warned, went_on; /* in all; of them */

/* Nothing committed is lost: the newest listed checkpoint is not older than the newest that metrics.jsonl records. */
static void check_recorded(uint64_t newest, const char *what) {
    char line[8192], step_text[24] = "";
    FILE *file = fopen(t.metrics, "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strstr(line, "\"event\":\"checkpoint\"") != NULL)
            job_field(line, "step", step_text, sizeof step_text);
    if (file != NULL) fclose(file);
    CHECK(newest >= strtoull(step_text, NULL, 10), "%s: the checkpoint of step %s is gone", what, step_text);
}

static void check_checkpoints(const char *what) {
    uint64_t steps[LISTED_MAX];
    char refused[JOB_PATH_MAX];
    const size_t count = trial_verify(&t, steps, LISTED_MAX, refused);
    CHECK(refused[0] == '\0', "%s: muster verify refuses %s, which is listed", what, refused);
    check_recorded(count > 0 ? steps[0] : 0, what);
}

static void check_digests(const char *what) {
    char digests[JOB_DIGESTS_MAX];
    job_digests(t.output, digests);
    CHECK(strcmp(digests, t.digests) == 0, "%s: digests\n  %s, not\n  %s", what, digests, t.digests);
}

/* A file in the making, FOLDER/.NAME.PID.tmp, is called by the name that it is to have. */
static void name_to_be(const char *path, char name_out[JOB_PATH_MAX]) {
    const char *base = strrchr(path, '/') + 1;
    const size_t length = strlen(base);
    snprintf(name_out, JOB_PATH_MAX, "%s", path);
    if (base[0] != '.' || length < 4 || strcmp(base + length - 4, ".tmp") != 0) return;
    snprintf(name_out + (base - path), JOB_PATH_MAX - (size_t)(base - path), "%s", base + 1);
    for (int dots = 0; dots < 2; dots++) *strrchr(name_out, '.') = '\0';
}

static void check_message(const char *path, int error, const char *what) {
    char name[JOB_PATH_MAX];
    name_to_be(path, name);
    CHECK(job_lines(t.output, name) > 0, "%s: the message does not name the file", what);
    CHECK(error == 0 || job_lines(t.output, strerror(error)) > 0, "%s: the message does not say why", what);
}

/* What a run may survive without a word: closing, removing (the next start does it), half a write (the other half follows),
 * a link (the lease has another way), a look at what is there already (a checkpoint that cannot be read stays), and a shard
 * that cannot be opened past the page cache. */
static bool may_pass(const char *call, const char *path, int error) {
    if (strcmp(call, "close") == 0 || strcmp(call, "remove") == 0 || strcmp(call, "link") == 0) return true;
    if (strcmp(call, "write") == 0) return error == 0;
    const char *name = strrchr(path, '/');
    return strcmp(call, "open") == 0 && name != NULL &&
           (strcmp(name, "/manifest.json") == 0 || strncmp(name, "/lease-", 7) == 0 ||
            strncmp(name, "/part-", 6) == 0);
}

/* True: there was such a call. */
static bool fail_once(int rank, long number, int error) {
    char kind[16] = "short", call[16], path[JOB_PATH_MAX], what[JOB_PATH_MAX + 128];
    if (error > 0) snprintf(kind, sizeof kind, "%d", error);
    const job_fault fault = {.shim = t.shim,
                             .rank = rank,
                             .below = t.run,
                             .call = "any",
                             .kind = kind,
                             .mark = t.mark,
                             .number = number};
    const int failures = test_failures;
    job_remove_folder(t.run);
    const int code = job_wait(trial_start(&t, 2, NULL, &fault), t.run);
    if (!trial_struck(&t, call, path)) {
        CHECK(code == 0, "exit code %d where nothing failed", code);
        return false;
    }
    snprintf(what, sizeof what, "rank %d, call %ld: %s %s: %s", rank, number, call, path + strlen(t.folder),
             error > 0 ? strerror(error) : "half");
    CHECK(code == 0 || code == 1, "%s: exit code %d (-1: it hung)", what, code);
    if (code == 1) check_message(path, error, what);
    if (code == 0) check_digests(what);
    const bool warning = job_lines(t.output, "warning") > 0;
    CHECK(code != 0 || warning || may_pass(call, path, error), "%s: the run went on without a warning", what);
    check_checkpoints(what);
    if (test_failures > failures) job_show(t.output);
    if (code == 1) {
        const int again = job_wait(trial_start(&t, 1, NULL, NULL), t.run);
        CHECK(again == 0, "%s: going on then ended with exit code %d", what, again);
        if (again != 0) job_show(t.output);
        check_digests(what);
        check_checkpoints(what);
    }
    printf("%s: %s\n", what, code != 0 ? "the run ended" : warning ? "went on with a warning" : "went on");
    fflush(stdout);
    done++;
    ended += code != 0;
    warned += code == 0 && warning;
    went_on += code == 0 && !warning;
    return true;
}

/* Every `parts`th call from `part` on, the errors by turns. */
static void sweep(int rank, size_t turn, size_t part, size_t parts) {
    size_t number = part;
    while (number < CALLS_MAX && fail_once(rank, (long)number, errors[(number / parts + turn) % ERRORS]))
        number += parts;
    CHECK(number > 10 && number < CALLS_MAX, "rank %d made %zu calls: the faults are not injected", rank,
          number);
}

int main(int argc, char **argv) {
    bool all = false, understood = true;
    size_t part = 1, parts = 1, program_count = 0;
    const char *programs[2] = {NULL, NULL};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--all") == 0)
            all = true;
        else if (strcmp(argv[i], "--part") == 0 && i + 1 < argc)
            understood &= sscanf(argv[++i], "%zu/%zu", &part, &parts) == 2 && part >= 1 && part <= parts;
        else if (program_count < 2 && access(argv[i], R_OK) == 0)
            programs[program_count++] = argv[i];
        else
            understood = false;
    }
    if (!understood || program_count < 2) {
        fprintf(stderr, "usage: failures [--all] [--part I/N] MUSTER SHIM\n");
        return 2;
    }
    const int code = trial_create(&t, "failures", programs[0], programs[1], STEPS, EVERY, KEEP);
    if (code != 0) return code;
    setenv("OMPI_MCA_odls_base_sigkill_timeout", "0", 1); /* a rank that ends has said all it has to say */
    for (int rank = 0; rank < 2; rank++)
        for (size_t turn = 0; turn < (all ? ERRORS : 1); turn++) sweep(rank, turn, part, parts);
    printf("failures %zu: the run ended %zu, went on with a warning %zu, went on %zu\n", done, ended, warned,
           went_on);
    job_finish(t.folder, test_failures > 0);
    return test_finish("failures");
}
