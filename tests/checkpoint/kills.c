/*
 * Promise 2, as a user would check it: a run is killed again and again, each time it goes on with another number of
 * ranks, and in the end it has the digests of a run that was never killed.
 *
 *   kills [--kills N] [--seed N] MUSTER SHIM
 *
 * A kill is a SIGKILL for one rank, or for all of them and mpirun. It comes at a random time, or by SHIM (shim.c) at a
 * system call on the run's files: instead of the Nth write, fsync, rename ..., or up to two milliseconds after it, which
 * about the lines of metrics.jsonl means while resuming, in the first step, and while a state is copied for its checkpoint.
 *
 * What a life may lose. metrics.jsonl has a line for every step and for every checkpoint that was committed. A life whose
 * last recorded step is S is followed by one that resumes at R. Held to:
 *   - every checkpoint that is listed after the kill is good (`muster verify`), and R is the newest of them, or 0;
 *   - R is not before the newest checkpoint that metrics.jsonl records: what was committed stays;
 *   - let P be the last multiple of checkpoint.every that the run had gone past, with a later step on record: with
 *     checkpoint.async: false, R is not before P, so that at most checkpoint.every steps are lost. With true, the checkpoint
 *     of P may have been on its way, but not the one before: R is not more than checkpoint.every before P.
 * And every step that is done again has the bits that it had in the run that was never killed.
 */
#include <inttypes.h>
#include <signal.h>
#include <unistd.h>

#include "test.h"
#include "trial.h"

enum { STEPS = 240, EVERY = 3, KEEP = 2, RANKS = 4, LISTED_MAX = 16, LINE_BYTES = 8192, BITS_BYTES = 40 };

/* From `rename` on only rank 0 makes them. */
static const char *const calls[] = {"open", "write", "fsync", "close", "rename", "mkdir", "remove"};
enum { CALLS = sizeof calls / sizeof *calls, RENAME = 4 };
static const char *const phases[] = {"start", "resume", "first step", "step", "checkpointing", "retention"};
enum { START, RESUME, FIRST_STEP, STEP, CHECKPOINTING, RETENTION, PHASES };

static trial t;
static char whole_bits[STEPS + 1][BITS_BYTES]; /* the loss of each step of the run that was never killed */

/* ---- the figures ---- */

static struct figures {
    size_t runs, kills, all, at_random, after_call, call[CALLS], phase[PHASES];
    size_t resumes, begun_again, passed_over, launcher_hung;
    uint64_t lost_most;
} figures;

static void report(void) {
    const struct figures *f = &figures;
    printf("kills %zu: one rank %zu, all %zu; at a random time %zu, shortly after a call %zu, at", f->kills,
           f->kills - f->all, f->all, f->at_random, f->after_call);
    for (size_t i = 0; i < CALLS; i++) printf(" %s %zu%s", calls[i], f->call[i], i + 1 < CALLS ? "," : ";");
    printf(" during");
    for (size_t i = 0; i < PHASES; i++)
        printf(" %s %zu%s", phases[i], f->phase[i], i + 1 < PHASES ? "," : ";");
    printf(" runs %zu, resumes %zu, begun again %zu, passed over %zu, steps lost at most %" PRIu64
           "; mpirun itself hung %zu times\n",
           f->runs, f->resumes, f->begun_again, f->passed_over, f->lost_most, f->launcher_hung);
    fflush(stdout);
}

/* ---- what metrics.jsonl says, read on from life to life ---- */

typedef struct history {
    long read;             /* bytes */
    uint64_t last, saved;  /* the last step, the newest checkpoint on record */
    uint64_t newest;       /* the newest checkpoint listed after the last kill, 0: none */
    size_t listed;         /* how many */
    bool async;            /* the life that did the last step saved while it trained */
    bool started, stepped; /* in this life */
} history;

static void note_resume(history *h, uint64_t step) {
    const uint64_t past = h->last == 0 ? 0 : (h->last - 1) / EVERY * EVERY;
    const uint64_t lost = h->last > step ? h->last - step : 0;
    CHECK(step == h->newest,
          "resumed at step %" PRIu64 ", and the newest good checkpoint was of step %" PRIu64, step,
          h->newest);
    CHECK(step >= h->saved, "resumed at step %" PRIu64 ", after a checkpoint of step %" PRIu64, step,
          h->saved);
    CHECK(step + (h->async ? EVERY : 0) >= past,
          "resumed at step %" PRIu64 ", after going past step %" PRIu64, step, past);
    if (lost > figures.lost_most) figures.lost_most = lost;
    if (step > 0)
        figures.resumes++;
    else
        figures.begun_again++;
    h->last = step;
}

static void note_step(history *h, uint64_t step, const char *line) {
    char bits[BITS_BYTES];
    job_field(line, "loss_bits", bits, sizeof bits);
    CHECK(step == h->last + 1 && step <= STEPS, "step %" PRIu64 " follows step %" PRIu64, step, h->last);
    if (step <= STEPS)
        CHECK(strcmp(bits, whole_bits[step]) == 0, "the loss of step %" PRIu64 " is %s, not %s", step, bits,
              whole_bits[step]);
    h->last = step;
    h->stepped = true;
}

static void read_on(history *h) {
    char line[LINE_BYTES], event[24], step_text[24];
    FILE *file = fopen(t.metrics, "re");
    h->started = h->stepped = false;
    if (file == NULL) return;
    fseek(file, h->read, SEEK_SET);
    while (fgets(line, sizeof line, file) != NULL) {
        job_field(line, "event", event, sizeof event);
        job_field(line, "step", step_text, sizeof step_text);
        const uint64_t step = strtoull(step_text, NULL, 10);
        if (strcmp(event, "start") == 0) h->started = true;
        if (strcmp(event, "resume") == 0) note_resume(h, step);
        if (strcmp(event, "step") == 0) note_step(h, step, line);
        if (strcmp(event, "checkpoint") == 0) h->saved = step;
    }
    h->read = ftell(file);
    fclose(file);
}

static void read_whole(void) {
    char path[JOB_PATH_MAX + 16], line[LINE_BYTES], step_text[24];
    snprintf(path, sizeof path, "%s/whole.jsonl", t.folder);
    FILE *file = fopen(path, "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (strstr(line, "\"loss_bits\":") == NULL) continue;
        job_field(line, "step", step_text, sizeof step_text);
        const uint64_t step = strtoull(step_text, NULL, 10);
        if (step <= STEPS) job_field(line, "loss_bits", whole_bits[step], BITS_BYTES);
    }
    if (file != NULL) fclose(file);
    for (int step = 1; step <= STEPS; step++)
        CHECK(whole_bits[step][0] != '\0', "step %d of the run that was never killed has no loss", step);
}

/* ---- one life ---- */

typedef struct life {
    int ranks;
    bool async;
    bool killed, all, by_call; /* killed: it is meant to be */
    double after;              /* seconds, where no call decides */
    job_fault fault;
    char call[16], path[JOB_PATH_MAX]; /* that it met */
} life;

static life draw(void) {
    life l = {.ranks = 1 + (int)job_random(RANKS), .async = job_random(2) == 0, .killed = true};
    l.all = job_random(2) == 0;
    l.by_call = job_random(5) < 3;
    l.after = 1e-3 * job_random(l.ranks == 1 ? 800 : 1600);
    const uint32_t call = job_random(CALLS);
    const bool by_record = job_random(5) == 0; /* of metrics.jsonl, of the first lines */
    uint32_t most = call >= RENAME ? 40 : 150;
    if (by_record || job_random(3) == 0) most = 10;
    l.fault = (job_fault){.shim = t.shim,
                          .rank = by_record || call >= RENAME ? 0 : (int)job_random((uint32_t)l.ranks),
                          .below = by_record ? t.metrics : t.run,
                          .call = by_record ? "write" : calls[call],
                          .kind = "kill",
                          .mark = t.mark,
                          .number = 1 + job_random(most),
                          .delay = job_random(2) == 0 ? 0 : 1 + job_random(2000)};
    /* To the others mpirun gives a second after the first death, or none. */
    setenv("OMPI_MCA_odls_base_sigkill_timeout", job_random(4) == 0 ? "1" : "0", 1);
    return l;
}

/* Waits for the instant, and kills; true: the job was killed. */
static bool strike(life *l, pid_t id) {
    pid_t ranks[JOB_RANKS_MAX];
    bool struck = false;
    for (double waited = 0; job_is_running(id) && !struck && (l->by_call || waited < l->after);
         waited += 0.001) {
        job_nap(0.001);
        struck = l->by_call && trial_struck(&t, l->call, l->path);
    }
    if (l->by_call && !struck) return trial_struck(&t, l->call, l->path);
    if (l->by_call && !l->all) return true; /* the shim does it */
    if (!job_is_running(id)) return l->by_call;
    if (l->by_call) job_nap(1e-6 * (double)l->fault.delay);
    const uint32_t count = l->all ? 0 : job_ranks(t.run, ranks);
    if (count > 0)
        kill(ranks[job_random(count)], SIGKILL);
    else
        job_kill_all(id, t.run);
    return true;
}

static bool is_there(const char *beginning, uint64_t step) {
    char name[JOB_PATH_MAX];
    trial_find(t.checkpoints, beginning, false, name);
    return name[0] != '\0' && (step == 0 || strtoull(name + strlen(beginning), NULL, 10) == step);
}

static void count_kill(const life *l, const history *h) {
    figures.kills++;
    figures.all += l->all;
    if (!l->by_call) figures.at_random++;
    if (l->by_call && l->fault.delay > 0) figures.after_call++;
    for (size_t i = 0; l->by_call && l->fault.delay == 0 && i < CALLS; i++)
        figures.call[i] += strcmp(l->call, calls[i]) == 0;
    int phase = STEP;
    if (!h->started)
        phase = START;
    else if (!h->stepped)
        phase = h->newest > 0 ? RESUME : FIRST_STEP;
    else if (is_there(".tmp-step-", h->last))
        phase = CHECKPOINTING;
    else if (is_there(".gone-step-", 0))
        phase = RETENTION;
    figures.phase[phase]++;
}

/* Every checkpoint that is listed must be good. A life that saves removes what is too many, also what others left;
 * killed between a commit and the removing, it leaves one more. */
static void check_listed(history *h) {
    uint64_t steps[LISTED_MAX];
    char refused[JOB_PATH_MAX];
    const size_t count = trial_verify(&t, steps, LISTED_MAX, refused);
    CHECK(refused[0] == '\0', "muster verify refuses %s, which is listed", refused);
    CHECK(count <= 1 + (h->listed > KEEP ? h->listed : KEEP),
          "%zu checkpoints are listed where %d are kept and %zu were there before", count, KEEP, h->listed);
    h->listed = count;
    h->newest = count > 0 ? steps[0] : 0;
}

/* True: the run came to its end. */
static bool live(life *l, history *h) {
    const pid_t id = trial_start(&t, l->ranks, l->async ? "checkpoint.async=true" : "checkpoint.async=false",
                                 l->killed && l->by_call ? &l->fault : NULL);
    const bool struck = l->killed && strike(l, id);
    const int code = job_wait(id, t.run);
    /* Open MPI 4.1 can lock itself out of its own end when a rank dies within MPI_Init (docs/launch.md); no rank is there then. */
    const bool ended = code > 0 || code == JOB_LAUNCHER_HUNG;
    CHECK(code == 0 || (struck && ended), "exit code %d on %d ranks (-1: it hung), %s", code, l->ranks,
          struck ? "killed" : "and nobody killed it");
    if (code == -1 || (ended && !struck)) job_show(t.output);
    figures.launcher_hung += code == JOB_LAUNCHER_HUNG;
    figures.passed_over += job_lines(t.output, "passed over");
    read_on(h);
    if (h->stepped) h->async = l->async;
    if (code != 0) count_kill(l, h);
    check_listed(h);
    return code == 0;
}

/* ---- one run ---- */

/* The digests, and nothing that killed lives left. `saved`: the last life made a checkpoint; it clears before it does. */
static void check_end(bool saved) {
    char digests[JOB_DIGESTS_MAX], name[JOB_PATH_MAX];
    job_digests(t.output, digests);
    CHECK(strcmp(digests, t.digests) == 0, "digests\n  %s, not\n  %s", digests, t.digests);
    trial_find(t.run, ".tmp", true, name);
    CHECK(name[0] == '\0', "%s is left in the run's folder", name);
    trial_find(t.checkpoints, "left-", false, name);
    CHECK(name[0] == '\0', "%s: a good checkpoint was passed over", name);
    trial_find(t.checkpoints, ".gone-", false, name);
    if (name[0] == '\0') trial_find(t.checkpoints, ".tmp-", false, name);
    CHECK(!saved || name[0] == '\0', "%s is left among the checkpoints", name);
}

/* Kills a run until it ends by itself; the last life is left alone once there were enough. */
static void kill_a_run(size_t kills) {
    history h = {0};
    job_remove_folder(t.run);
    for (;;) {
        life l = draw();
        l.killed = figures.kills < kills;
        if (live(&l, &h)) break;
        if (test_failures > 0) return;
    }
    CHECK(h.last == STEPS, "the run ended at step %" PRIu64, h.last);
    CHECK(!h.stepped || h.listed <= KEEP, "%zu checkpoints are left where %d are kept", h.listed, KEEP);
    check_end(h.stepped);
    figures.runs++;
}

/* A campaign whose shim does nothing would be one of random times only. In a long one no call and no phase is left out. */
static void check_kinds(void) {
    enum { LONG = 200 };
    size_t at_calls = 0;
    for (size_t i = 0; i < CALLS; i++) at_calls += figures.call[i];
    CHECK(at_calls > 0 && at_calls + figures.after_call >= figures.kills / 8,
          "only %zu kills at a call and %zu shortly after one, of %zu", at_calls, figures.after_call,
          figures.kills);
    for (size_t i = 0; i < CALLS && figures.kills >= LONG; i++)
        CHECK(figures.call[i] > 0, "no kill at %s", calls[i]);
    for (size_t i = 0; i < PHASES && figures.kills >= LONG; i++)
        CHECK(figures.phase[i] > 0 || i == FIRST_STEP, "no kill during %s",
              phases[i]); /* that one is short */
}

int main(int argc, char **argv) {
    size_t kills = 80;
    uint64_t seed = 1;
    const char *programs[2] = {NULL, NULL};
    size_t program_count = 0;
    bool understood = true;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--kills") == 0 && i + 1 < argc)
            kills = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
            seed = strtoull(argv[++i], NULL, 10);
        else if (program_count < 2 && access(argv[i], R_OK) == 0)
            programs[program_count++] = argv[i];
        else
            understood = false;
    }
    if (!understood || program_count < 2) {
        fprintf(stderr, "usage: kills [--kills N] [--seed N] MUSTER SHIM\n");
        return 2;
    }
    job_seed(seed);
    printf("seed %" PRIu64 ": %zu kills\n", seed, kills);
    const int code = trial_create(&t, "kills", programs[0], programs[1], STEPS, EVERY, KEEP);
    if (code != 0) return code;
    read_whole();
    while (figures.kills < kills && test_failures == 0) {
        kill_a_run(kills);
        report();
    }
    CHECK(figures.resumes > 0, "no life resumed");
    check_kinds();
    job_finish(t.folder, test_failures > 0);
    return test_finish("kills");
}
