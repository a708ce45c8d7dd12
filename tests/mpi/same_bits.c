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
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "test.h"

/* ---- the matrix ---- */

enum { FAMILY, PRECISION, WIRE, SHAPE, RANKS, THREADS, TRANSPORT, COURSE, COMPILER, FACTORS };
enum { VALUES_MAX = 6, CASES_MAX = 30000, STEPS = 6 };

static const char *const factor_names[FACTORS] = {"family",  "precision", "wire",   "shape",   "ranks",
                                                  "threads", "transport", "course", "compiler"};
static size_t value_counts[FACTORS] = {5, 2, 2, 3, 6, 5, 2, 2, 2};

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
static const char *const transports[] = {"shm", "mpi"};
static const char *const courses[] = {"straight", "killed"};

typedef struct run_case {
    uint8_t value[FACTORS];
} run_case;

static run_case cases[CASES_MAX];
static size_t case_count;

static uint64_t random_state = 1;
static uint32_t random_below(uint32_t bound) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((random_state >> 33) % bound);
}

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
            size_t factor = random_below(FACTORS);
            while (chosen[factor]) factor = (factor + 1) % FACTORS;
            int most = -1;
            uint8_t start = (uint8_t)random_below((uint32_t)value_counts[factor]);
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
        if (ranks[c.value[RANKS]] > 1 || c.value[TRANSPORT] == 0) cases[case_count++] = c;
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

static char folder[256];

static void write_file(const char *path, const char *text) {
    FILE *file = fopen(path, "we");
    CHECK(file != NULL, "%s: %s", path, strerror(errno));
    if (file == NULL) exit(1);
    fputs(text, file);
    CHECK(fclose(file) == 0, "%s: %s", path, strerror(errno));
}

/* Text that is not quite regular, so that losses differ from step to step. */
static void write_text(void) {
    char path[320];
    snprintf(path, sizeof path, "%s/text.txt", folder);
    FILE *file = fopen(path, "we");
    if (file == NULL) exit(1);
    for (int i = 0; i < 4000; i++) fprintf(file, "%d times %d is %d. ", i % 97, i % 13, (i % 97) * (i % 13));
    fclose(file);
}

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
    write_file(path, text);
}

/* ---- running ---- */

static const char *programs[2];

typedef struct job {
    int ranks, threads;
    const char *transport, *program, *config, *run_dir, *output;
} job;

static pid_t start(const job *j) {
    char ranks_text[16], threads_text[48], transport_text[48];
    snprintf(ranks_text, sizeof ranks_text, "%d", j->ranks);
    snprintf(threads_text, sizeof threads_text, "device.threads=%d", j->threads);
    snprintf(transport_text, sizeof transport_text, "batch.transport=%s",
             j->ranks == 1 ? "self" : j->transport);
    const char *const words[] = {
        "mpirun",  "--oversubscribe", "--bind-to", "none",  "-n",         ranks_text, j->program,     "train",
        j->config, "--run",           j->run_dir,  "--set", threads_text, "--set",    transport_text, NULL};
    pid_t child = fork();
    if (child == 0) {
        int out = open(j->output, O_WRONLY | O_CREAT | O_TRUNC, 0666);
        dup2(out, 1);
        dup2(out, 2);
        setpgid(0, 0);
        char *arguments[32];
        size_t skip = j->ranks == 1 ? 6 : 0, n = 0; /* one rank: without mpirun */
        for (size_t i = skip; words[i] != NULL; i++) memcpy(&arguments[n++], &words[i], sizeof arguments[0]);
        arguments[n] = NULL;
        execvp(arguments[0], arguments);
        _exit(127);
    }
    return child;
}

static void nap(double seconds) {
    struct timespec t = {(time_t)seconds, (long)(1e9 * (seconds - (double)(time_t)seconds))};
    nanosleep(&t, NULL);
}

static int wait_for(pid_t child) {
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static size_t lines_of(const char *path, const char *having) {
    char line[4096];
    size_t count = 0;
    FILE *file = fopen(path, "re");
    if (file == NULL) return 0;
    while (fgets(line, sizeof line, file) != NULL) count += strstr(line, having) != NULL;
    fclose(file);
    return count;
}

/* SIGKILL for one rank of the job that works in run_dir, whichever /proc names first
 * after a random number of others. */
static void kill_a_rank(const char *run_dir) {
    pid_t found[64];
    uint32_t count = 0;
    DIR *proc = opendir("/proc");
    for (struct dirent *entry; proc != NULL && (entry = readdir(proc)) != NULL && count < 64;) {
        char path[300], line[4096];
        pid_t pid = (pid_t)atol(entry->d_name);
        if (pid <= 0) continue;
        snprintf(path, sizeof path, "/proc/%d/cmdline", (int)pid);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t length = fd < 0 ? -1 : read(fd, line, sizeof line - 1);
        if (fd >= 0) close(fd);
        if (length <= 0 || memmem(line, (size_t)length, run_dir, strlen(run_dir)) == NULL) continue;
        line[length] = '\0';
        if (strstr(line, "mpirun") == NULL) found[count++] = pid;
    }
    if (proc != NULL) closedir(proc);
    if (count > 0) kill(found[random_below(count)], SIGKILL);
}

static void show(const char *path) {
    char line[4096];
    FILE *file = fopen(path, "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) fprintf(stderr, "    | %s", line);
    if (file != NULL) fclose(file);
}

/* ---- what a run gave: the bits of every step, and the digest line ---- */

typedef struct outcome {
    char loss[STEPS][40], norm[STEPS][40], digests[200];
} outcome;

/* The value of a text field in a line of metrics.jsonl. */
static void field(const char *line, const char *name, char *value, size_t size) {
    char key[64];
    snprintf(key, sizeof key, "\"%s\":", name);
    const char *at = strstr(line, key);
    value[0] = '\0';
    if (at == NULL) return;
    at += strlen(key);
    at += strspn(at, " \"");
    size_t length = strcspn(at, "\",}");
    snprintf(value, size, "%.*s", (int)length, at);
}

static void read_outcome(const char *run_dir, const char *output, outcome *o) {
    char path[400], line[8192], text[40];
    memset(o, 0, sizeof *o);
    snprintf(path, sizeof path, "%s/metrics.jsonl", run_dir);
    FILE *file = fopen(path, "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        field(line, "loss_bits", text, sizeof text);
        if (text[0] == '\0') continue;
        char step_text[40];
        field(line, "step", step_text, sizeof step_text);
        int step = atoi(step_text);
        if (step < 1 || step > STEPS) continue;
        strcpy(o->loss[step - 1], text);
        field(line, "grad_norm_bits", o->norm[step - 1], sizeof o->norm[0]);
    }
    if (file != NULL) fclose(file);
    file = fopen(output, "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, "weights ", 8) == 0)
            snprintf(o->digests, sizeof o->digests, "%.*s", (int)strcspn(line, "\n"), line);
    if (file != NULL) fclose(file);
}

static void describe(const run_case *c, char *text, size_t size) {
    const size_t *s = shapes[c->value[SHAPE]];
    snprintf(text, size,
             "%s %s wire %s leaf %zu lanes %zu rounds %zu, %d ranks x %d threads, %s, %s, compiler %d",
             families[c->value[FAMILY]], dtypes[c->value[PRECISION]], dtypes[c->value[WIRE]], s[0], s[1],
             s[2], ranks[c->value[RANKS]], threads[c->value[THREADS]], transports[c->value[TRANSPORT]],
             courses[c->value[COURSE]], c->value[COMPILER]);
}

static void remove_folder(const char *path) {
    char command[512];
    snprintf(command, sizeof command, "rm -rf '%s'", path);
    if (system(command) != 0) fprintf(stderr, "could not remove %s\n", path);
}

static int kills_sent, kills_felt;

/* Runs a case to its end; killed twice on the way, each time going on with another
 * number of ranks, where it says so. */
static bool run_case_to_end(const run_case *c, const char *name, outcome *o) {
    char config[320], run_dir[320], output[320], metrics[400], what[256];
    snprintf(config, sizeof config, "%s/%s.yaml", folder, name);
    snprintf(run_dir, sizeof run_dir, "%s/%s.run", folder, name);
    snprintf(output, sizeof output, "%s/%s.out", folder, name);
    snprintf(metrics, sizeof metrics, "%s/metrics.jsonl", run_dir);
    describe(c, what, sizeof what);
    remove_folder(run_dir);
    write_config(c, config);
    job j = {ranks[c->value[RANKS]],
             threads[c->value[THREADS]],
             transports[c->value[TRANSPORT]],
             programs[c->value[COMPILER]],
             config,
             run_dir,
             output};
    for (int kills = 0; kills < (c->value[COURSE] == 1 ? 2 : 0); kills++) {
        pid_t child = start(&j);
        size_t enough = lines_of(metrics, "loss_bits") + 1 + random_below(2);
        for (int i = 0;
             i < 6000 && lines_of(metrics, "loss_bits") < enough && waitpid(child, NULL, WNOHANG) == 0; i++)
            nap(0.01);
        nap(0.001 * random_below(40));
        kill_a_rank(run_dir);
        kills_sent++;
        kills_felt += wait_for(child) != 0;
        j.ranks = ranks[random_below(value_counts[RANKS])];
    }
    int code = wait_for(start(&j));
    CHECK(code == 0, "%s: exit code %d", what, code);
    if (code != 0) show(output);
    read_outcome(run_dir, output, o);
    if (code == 0) remove_folder(run_dir);
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
    if (system("command -v mpirun >/dev/null") != 0) SKIP("mpirun is not installed");
    value_counts[COMPILER] = program_count;
    random_state = seed;
    setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
    setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
    setenv("OMPI_MCA_btl", "self,vader", 0);

    const char *temporary = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/muster-bits-XXXXXX", temporary == NULL ? "/tmp" : temporary);
    if (mkdtemp(folder) == NULL) return perror(folder), 1;
    write_text();
    char command[1024];
    snprintf(command, sizeof command, "'%s' data build %s/text.txt -o %s/tokens.h5 >/dev/null", programs[0],
             folder, folder);
    CHECK(system(command) == 0, "data build failed");

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
    if (test_failures == 0)
        remove_folder(folder);
    else
        fprintf(stderr, "the runs are kept in %s\n", folder);
    return test_finish("same_bits");
}
