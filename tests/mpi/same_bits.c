/*
 * Promise 1, as a user would check it: the muster program itself is run with the same config on
 * different numbers of ranks and threads, over every transport, from different compilers, straight
 * through or killed and resumed on other rank counts; every step's loss and gradient norm and the final
 * digests must be equal to the last bit.
 *
 *   same_bits [--all | --most N] [--part I/N] [--seed N] MUSTER [MUSTER_OF_ANOTHER_COMPILER]
 *
 * Without --all a pairwise cover of the matrix is run: every pair of values of any
 * two factors occurs in some run. --part 2/4 takes the second of every four runs, so that
 * four processes share the matrix.
 */
#include <signal.h>
#include <unistd.h>

#include "job.h"
#include "test.h"

/* ---- the matrix ---- */

enum { FAMILY, PRECISION, WIRE, SHAPE, RANKS, THREADS, TRANSPORT, RECOMPUTE, COURSE, COMPILER, FACTORS };
enum { VALUES_MAX = 6, CASES_MAX = 57600, STEPS = 6 };

static const char *const factor_names[FACTORS] = {"family",  "precision", "wire",      "shape",  "ranks",
                                                  "threads", "transport", "recompute", "course", "compiler"};
static size_t value_counts[FACTORS] = {5, 2, 2, 3, 6, 5, 3, 3, 2, 2};

enum { FAMILIES = 5 };
static const char *const families[FAMILIES] = {"llama", "gpt2", "olmo2", "qwen2", "qwen3"};
static const char *const models[FAMILIES] = {
    "n_kv_heads: 2, tie_embeddings: false, rope_factor: 4, rope_original_seq_len: 32",
    "tie_embeddings: true",
    "tie_embeddings: false, rope_theta: 5e5",
    "n_kv_heads: 2, tie_embeddings: true",
    "n_kv_heads: 3, head_dim: 12, tie_embeddings: true",
};
static const char *const dtypes[] = {"f32", "bf16"};
static const size_t shapes[][3] = {{2, 4, 1}, {1, 8, 2}, {1, 2, 3}}; /* leaf, lanes, rounds */
static const int ranks[] = {1, 2, 3, 4, 5, 8};
static const int threads[] = {1, 2, 3, 8, 16};
static const char *const transports[] = {"shm", "mpi", "mpi"};
static const char *const shardings[] = {"state", "state", "all"}; /* with each transport */
static const char *const recomputes[] = {"none", "selective", "full"};
static const char *const courses[] = {"straight", "killed"};

typedef struct run_case {
    uint8_t value[FACTORS];
} run_case;

static run_case cases[CASES_MAX];
static size_t case_count;

static bool covered[FACTORS][VALUES_MAX][FACTORS][VALUES_MAX];

/* How many pairs that no case has yet would come with this value, given those chosen so far. */
static int new_pairs(const run_case *c, const bool *chosen, size_t factor, uint8_t value) {
    int count = 0;
    for (size_t f = 0; f < FACTORS; f++) {
        if (f == factor) continue;
        if (chosen[f]) {
            count += covered[factor][value][f][c->value[f]] ? 0 : 16;
        } else {
            for (size_t v = 0; v < value_counts[f]; v++) count += covered[factor][value][f][v] ? 0 : 1;
        }
    }
    return count;
}

/* Greedy: factors in random order, each with the value that brings the most pairs. */
static bool add_covering_case(void) {
    run_case best = {{0}};
    size_t best_gain = 0;
    for (int attempt = 0; attempt < 50; attempt++) {
        run_case c = {{0}};
        bool chosen[FACTORS] = {false};
        for (size_t n = 0; n < FACTORS; n++) {
            size_t factor = job_random(FACTORS);
            while (chosen[factor]) factor = (factor + 1) % FACTORS;
            int most = -1;
            uint8_t start = (uint8_t)job_random((uint32_t)value_counts[factor]);
            for (size_t i = 0; i < value_counts[factor]; i++) {
                uint8_t v = (uint8_t)((start + i) % value_counts[factor]);
                int gain = new_pairs(&c, chosen, factor, v);
                if (gain > most) {
                    most = gain;
                    c.value[factor] = v;
                }
            }
            chosen[factor] = true;
        }
        size_t gain = 0;
        for (size_t f = 0; f < FACTORS; f++)
            for (size_t g = 0; g < f; g++) gain += !covered[f][c.value[f]][g][c.value[g]];
        if (gain > best_gain) {
            best_gain = gain;
            best = c;
        }
    }
    if (best_gain == 0) return false;
    for (size_t f = 0; f < FACTORS; f++)
        for (size_t g = 0; g < FACTORS; g++) covered[f][best.value[f]][g][best.value[g]] = true;
    cases[case_count++] = best;
    return true;
}

/* One rank sends nothing, so for it the transports are the same run. */
static void add_all_cases(void) {
    run_case c = {{0}};
    for (;;) {
        if (ranks[c.value[RANKS]] > 1 || c.value[TRANSPORT] == 0) {
            if (case_count == CASES_MAX) abort(); /* the factors have more values than this file knows */
            cases[case_count++] = c;
        }
        size_t f = 0;
        while (f < FACTORS && ++c.value[f] == value_counts[f]) c.value[f++] = 0;
        if (f == FACTORS) return;
    }
}

static void keep_part(size_t part, size_t parts) {
    size_t kept = 0;
    for (size_t i = part - 1; i < case_count; i += parts) cases[kept++] = cases[i];
    case_count = kept;
}

/* ---- files ---- */

static char folder[JOB_PATH_MAX];

static void write_config(const run_case *c, const char *path) {
    char text[2048];
    const size_t *shape = shapes[c->value[SHAPE]];
    snprintf(text, sizeof text,
             "run: {name: bits, steps: %d, seed: 7}\n"
             "model: {family: %s, d_model: 48, n_layers: 2, n_heads: 6, d_ff: 112, max_seq_len: 40, %s}\n"
             "data: {sources: [%s/tokens.h5], seq_len: 40}\n"
             "batch: {micro: 2, leaf: %zu, lanes: %zu, rounds: %zu, wire: %s}\n"
             "schedule: {kind: cosine, peak: 0.003, warmup: 2}\n"
             "train: {precision: %s, z_loss: 1.0e-4}\n"
             "checkpoint: {every: 1}\n"
             "watchdog: {seconds: 60}\n",
             STEPS, families[c->value[FAMILY]], models[c->value[FAMILY]], folder, shape[0], shape[1],
             shape[2], dtypes[c->value[WIRE]], dtypes[c->value[PRECISION]]);
    CHECK(job_write_file(path, text), "%s cannot be written", path);
}

/* ---- running ---- */

static const char *programs[2];

/* A rank of the job that works in run_dir, whichever it is. */
static void kill_a_rank(const char *run_dir) {
    pid_t found[JOB_RANKS_MAX];
    const uint32_t count = job_ranks(run_dir, found);
    if (count > 0) kill(found[job_random(count)], SIGKILL);
}

/* ---- what a run gave: the bits of every step, and the digest line ---- */

typedef struct outcome {
    char loss[STEPS][40], norm[STEPS][40], digests[JOB_DIGESTS_MAX];
} outcome;

static void read_outcome(const char *run_dir, const char *output, outcome *o) {
    char path[JOB_PATH_MAX + 32], line[8192], text[40];
    memset(o, 0, sizeof *o);
    snprintf(path, sizeof path, "%s/metrics.jsonl", run_dir);
    FILE *file = fopen(path, "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        job_field(line, "loss_bits", text, sizeof text);
        if (text[0] == '\0') continue;
        char step_text[40];
        job_field(line, "step", step_text, sizeof step_text);
        int step = atoi(step_text);
        if (step < 1 || step > STEPS) continue;
        strcpy(o->loss[step - 1], text);
        job_field(line, "grad_norm_bits", o->norm[step - 1], sizeof o->norm[0]);
    }
    if (file != NULL) fclose(file);
    job_digests(output, o->digests);
}

static void describe(const run_case *c, char *text, size_t size) {
    const size_t *s = shapes[c->value[SHAPE]];
    snprintf(text, size,
             "%s %s wire %s leaf %zu lanes %zu rounds %zu, %d ranks x %d threads, %s, sharding %s, recompute "
             "%s, %s, "
             "compiler %d",
             families[c->value[FAMILY]], dtypes[c->value[PRECISION]], dtypes[c->value[WIRE]], s[0], s[1],
             s[2], ranks[c->value[RANKS]], threads[c->value[THREADS]], transports[c->value[TRANSPORT]],
             shardings[c->value[TRANSPORT]], recomputes[c->value[RECOMPUTE]], courses[c->value[COURSE]],
             c->value[COMPILER]);
}

/* One rank sends nothing. */
static void choose_transport(const run_case *c, int rank_count, char *text, size_t size) {
    snprintf(text, size, "batch.transport=%s", rank_count == 1 ? "self" : transports[c->value[TRANSPORT]]);
}

/* Runs a case to its end; killed twice on the way, each time going on with another
 * number of ranks, where it says so. */
static bool run_case_to_end(const run_case *c, const char *name, outcome *o) {
    char config[JOB_PATH_MAX + 16], run_dir[JOB_PATH_MAX + 16], output[JOB_PATH_MAX + 16];
    char metrics[JOB_PATH_MAX + 32], what[256], threads_text[48], transport_text[48], sharding_text[48],
        recompute_text[48];
    snprintf(config, sizeof config, "%s/%s.yaml", folder, name);
    snprintf(run_dir, sizeof run_dir, "%s/%s.run", folder, name);
    snprintf(output, sizeof output, "%s/%s.out", folder, name);
    snprintf(metrics, sizeof metrics, "%s/metrics.jsonl", run_dir);
    describe(c, what, sizeof what);
    job_remove_folder(run_dir);
    write_config(c, config);
    const char *const words[] = {"train", config,         "--run", run_dir,       "--set", threads_text,
                                 "--set", transport_text, "--set", sharding_text, "--set", recompute_text,
                                 NULL};
    job j = {.ranks = ranks[c->value[RANKS]],
             .program = programs[c->value[COMPILER]],
             .words = words,
             .output = output};
    snprintf(threads_text, sizeof threads_text, "device.threads=%d", threads[c->value[THREADS]]);
    snprintf(sharding_text, sizeof sharding_text, "batch.sharding=%s", shardings[c->value[TRANSPORT]]);
    snprintf(recompute_text, sizeof recompute_text, "train.recompute=%s", recomputes[c->value[RECOMPUTE]]);
    for (int kills = c->value[COURSE] == 1 ? 2 : 0; kills > 0; kills--) {
        choose_transport(c, j.ranks, transport_text, sizeof transport_text);
        const pid_t id = job_start(&j);
        const size_t enough = job_lines(metrics, "loss_bits") + 1 + job_random(2);
        for (int i = 0; i < 6000 && job_lines(metrics, "loss_bits") < enough && job_is_running(id); i++)
            job_nap(0.01);
        job_nap(0.001 * job_random(40));
        kill_a_rank(run_dir);
        job_wait(id, run_dir);
        j.ranks = ranks[job_random((uint32_t)value_counts[RANKS])];
    }
    choose_transport(c, j.ranks, transport_text, sizeof transport_text);
    const int code = job_run(&j, run_dir);
    CHECK(code == 0, "%s: exit code %d", what, code);
    if (code != 0) job_show(output);
    read_outcome(run_dir, output, o);
    if (code == 0) job_remove_folder(run_dir);
    return code == 0;
}

/* ---- the comparison ---- */

static outcome expected[FAMILIES][2][2][3];
static bool have_expected[FAMILIES][2][2][3];

/* One rank, one thread, straight through, first compiler: what all others must equal. */
static const outcome *expectation(const run_case *c) {
    size_t f = c->value[FAMILY], p = c->value[PRECISION], w = c->value[WIRE], s = c->value[SHAPE];
    if (!have_expected[f][p][w][s]) {
        run_case base = {{0}};
        for (size_t i = 0; i <= SHAPE; i++) base.value[i] = c->value[i];
        have_expected[f][p][w][s] = true;
        run_case_to_end(&base, "base", &expected[f][p][w][s]);
        for (int step = 0; step < STEPS; step++) {
            CHECK(expected[f][p][w][s].loss[step][0] != '\0', "step %d has no loss in metrics.jsonl",
                  step + 1);
            CHECK(expected[f][p][w][s].norm[step][0] != '\0', "step %d has no gradient norm in metrics.jsonl",
                  step + 1);
            if (step > 0)
                CHECK(strcmp(expected[f][p][w][s].loss[step], expected[f][p][w][s].loss[step - 1]) != 0,
                      "steps %d and %d have the same loss: the test sees nothing", step, step + 1);
        }
        CHECK(strlen(expected[f][p][w][s].digests) == strlen("weights ") + 64 + strlen("  state ") + 64,
              "digest line '%s'", expected[f][p][w][s].digests);
    }
    return &expected[f][p][w][s];
}

static void compare(const run_case *c, const outcome *got, const outcome *want) {
    char what[256];
    describe(c, what, sizeof what);
    for (int step = 0; step < STEPS; step++) {
        CHECK(strcmp(got->loss[step], want->loss[step]) == 0, "%s: loss of step %d is %s, not %s", what,
              step + 1, got->loss[step], want->loss[step]);
        CHECK(strcmp(got->norm[step], want->norm[step]) == 0, "%s: gradient norm of step %d is %s, not %s",
              what, step + 1, got->norm[step], want->norm[step]);
    }
    CHECK(strcmp(got->digests, want->digests) == 0, "%s: digests\n  %s, not\n  %s", what, got->digests,
          want->digests);
}

int main(int argc, char **argv) {
    bool all = false;
    uint64_t seed = 1;
    size_t program_count = 0, most = CASES_MAX, part = 1, parts = 1;
    bool understood = true;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--all") == 0)
            all = true;
        else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
            seed = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--most") == 0 && i + 1 < argc)
            most = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--part") == 0 && i + 1 < argc)
            understood &= sscanf(argv[++i], "%zu/%zu", &part, &parts) == 2 && part >= 1 && part <= parts;
        else if (program_count < 2 && access(argv[i], X_OK) == 0)
            programs[program_count++] = argv[i];
        else
            understood = false;
    }
    if (program_count == 0 || !understood) {
        fprintf(stderr, "usage: same_bits [--all | --most N] [--part I/N] [--seed N] MUSTER "
                        "[MUSTER_OF_ANOTHER_COMPILER]\n");
        return 2;
    }
    value_counts[COMPILER] = program_count;
    job_seed(seed);
    if (!job_setup("bits", folder)) SKIP("mpirun is not installed");
    CHECK(job_build_data(programs[0], folder), "data build failed");

    if (all)
        add_all_cases();
    else
        while (add_covering_case()) {}
    if (case_count > most) case_count = most;
    keep_part(part, parts);
    printf("seed %llu: %zu runs over", (unsigned long long)seed, case_count);
    for (size_t f = 0; f < FACTORS; f++) printf(" %s(%zu)", factor_names[f], value_counts[f]);
    printf("\n");
    fflush(stdout);
    for (size_t i = 0; i < case_count && test_failures < 50; i++) {
        char what[256];
        outcome got;
        const outcome *want = expectation(&cases[i]);
        describe(&cases[i], what, sizeof what);
        int before = test_failures;
        if (run_case_to_end(&cases[i], "case", &got)) compare(&cases[i], &got, want);
        printf("%3zu/%zu %s  %s\n", i + 1, case_count, test_failures == before ? "same" : "DIFFERENT", what);
        fflush(stdout);
    }
    job_finish(folder, test_failures > 0);
    return test_finish("same_bits");
}
