#include "job.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "muster/clock.h"

enum { WORDS_MAX = 48, LIMIT_SECONDS = 180 };

/* An mpirun that is killed leaves its files where they are: here, and in shared memory. */
static char shared_memory[] = "/dev/shm/muster-XXXXXX";

bool job_setup(const char *name, char *folder_out) {
    const char *temporary = getenv("TMPDIR");
    setenv("MUSTER_MPIRUN", MST_LAUNCHER, 0); /* for a test that is not started by ctest */
    if (system("command -v \"$MUSTER_MPIRUN\" >/dev/null") != 0) return false;
    snprintf(folder_out, JOB_PATH_MAX, "%s/muster-%s-XXXXXX", temporary == NULL ? "/tmp" : temporary, name);
    if (mkdtemp(folder_out) == NULL) return perror(folder_out), false;
    setenv("TMPDIR", folder_out, 1);
    if (mkdtemp(shared_memory) != NULL) setenv("OMPI_MCA_btl_vader_backing_directory", shared_memory, 1);
    prctl(PR_SET_CHILD_SUBREAPER, 1); /* ranks whose mpirun was killed become our children */
    return true;
}

void job_finish(const char *folder, bool keep) {
    job_remove_folder(shared_memory);
    if (keep)
        fprintf(stderr, "the runs are kept in %s\n", folder);
    else
        job_remove_folder(folder);
}

bool job_build_data(const char *program, const char *folder) {
    char path[JOB_PATH_MAX + 16], tokens[JOB_PATH_MAX + 16];
    snprintf(path, sizeof path, "%s/text.txt", folder);
    snprintf(tokens, sizeof tokens, "%s/tokens.h5", folder);
    FILE *file = fopen(path, "we");
    if (file == NULL) return false;
    for (int i = 0; i < 4000; i++) fprintf(file, "%d times %d is %d. ", i % 97, i % 13, (i % 97) * (i % 13));
    fclose(file);
    const char *const words[] = {"data", "build", path, "-o", tokens, NULL};
    return job_run(&(job){.ranks = 1, .program = program, .words = words, .output = "/dev/null"}, tokens) ==
           0;
}

/* ---- running ---- */

/* A word list under construction, with room for the words made here. */
typedef struct command {
    char *words[WORDS_MAX];
    size_t count;
    char text[12][JOB_PATH_MAX + 32];
    size_t texts;
} command;

static void add(command *c, const char *word) {
    memcpy(&c->words[c->count++], &word, sizeof word);
}

#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
static void
add_made(command *c, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(c->text[c->texts], sizeof c->text[0], format, arguments);
    va_end(arguments);
    add(c, c->text[c->texts++]);
}

static void add_fault(command *c, const job_fault *fault) {
    add(c, "env");
    add_made(c, "LD_PRELOAD=%s", fault->shim);
    add_made(c, "SHIM_RANK=%d", fault->rank);
    add_made(c, "SHIM_BELOW=%s", fault->below);
    add_made(c, "SHIM_CALL=%s", fault->call);
    add_made(c, "SHIM_FAULT=%s", fault->kind);
    add_made(c, "SHIM_MARK=%s", fault->mark);
    add_made(c, "SHIM_NUMBER=%ld", fault->number);
    add_made(c, "SHIM_DELAY=%ld", fault->delay);
}

pid_t job_start(const job *j) {
    command c = {.count = 0};
    if (j->ranks > 1) {
        add(&c, MST_MPIRUN);
        add_made(&c, "%d", j->ranks);
    }
    if (j->fault != NULL) add_fault(&c, j->fault);
    add(&c, j->program);
    for (size_t i = 0; j->words[i] != NULL; i++) add(&c, j->words[i]);
    add(&c, NULL);
    const pid_t child = fork();
    if (child == 0) {
        const int out = open(j->output, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        dup2(out, 1);
        dup2(out, 2);
        setpgid(0, 0);
        execvp(c.words[0], c.words);
        _exit(127);
    }
    return child;
}

bool job_is_running(pid_t id) {
    siginfo_t facts = {0};
    return waitid(P_PID, (id_t)id, &facts, WEXITED | WNOHANG | WNOWAIT) == 0 && facts.si_pid == 0;
}

int job_wait(pid_t id, const char *word) {
    const double limit = mst_clock_now() + LIMIT_SECONDS;
    int code = -1, late = 0;
    for (;;) {
        int status = 0;
        const pid_t gone = waitpid(-1, &status, WNOHANG);
        if (gone < 0 && errno == ECHILD) break;
        if (gone == id) code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        if (gone == 0) job_nap(0.004);
        if (mst_clock_now() > limit) {
            pid_t found[JOB_RANKS_MAX];
            if (late == 0) late = job_is_running(id) && job_ranks(word, found) == 0 ? JOB_LAUNCHER_HUNG : -1;
            job_kill_all(id, word);
        }
    }
    return late != 0 ? late : code;
}

int job_run(const job *j, const char *word) {
    return job_wait(job_start(j), word);
}

/* ---- killing ---- */

uint32_t job_ranks(const char *word, pid_t *found_out) {
    uint32_t count = 0;
    DIR *proc = opendir("/proc");
    for (struct dirent *entry; proc != NULL && (entry = readdir(proc)) != NULL && count < JOB_RANKS_MAX;) {
        char path[300], line[4096];
        const pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
        if (pid <= 0 || pid == getpid()) continue;
        snprintf(path, sizeof path, "/proc/%d/cmdline", (int)pid);
        const int file = open(path, O_RDONLY | O_CLOEXEC);
        const ssize_t length = file < 0 ? -1 : read(file, line, sizeof line - 1);
        if (file >= 0) close(file);
        if (length <= 0 || memmem(line, (size_t)length, word, strlen(word)) == NULL) continue;
        line[length] = '\0'; /* the first word ends before */
        if (strstr(line, "mpirun") == NULL && strstr(line, "mpiexec") == NULL) found_out[count++] = pid;
    }
    if (proc != NULL) closedir(proc);
    return count;
}

void job_kill_all(pid_t id, const char *word) {
    pid_t found[JOB_RANKS_MAX];
    if (job_is_running(id)) kill(id, SIGKILL);
    for (uint32_t i = job_ranks(word, found); i > 0; i--) kill(found[i - 1], SIGKILL);
}

/* ---- reading ---- */

void job_field(const char *line, const char *name, char *value_out, size_t size) {
    char key[64];
    snprintf(key, sizeof key, "\"%s\":", name);
    const char *at = strstr(line, key);
    value_out[0] = '\0';
    if (at == NULL) return;
    at += strlen(key);
    at += strspn(at, " \"");
    snprintf(value_out, size, "%.*s", (int)strcspn(at, "\",}"), at);
}

void job_digests(const char *output, char *digests_out) {
    char line[4096];
    FILE *file = fopen(output, "re");
    digests_out[0] = '\0';
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, "weights ", 8) == 0)
            snprintf(digests_out, JOB_DIGESTS_MAX, "%.*s", (int)strcspn(line, "\n"), line);
    if (file != NULL) fclose(file);
}

size_t job_lines(const char *path, const char *text) {
    char line[4096];
    size_t count = 0;
    FILE *file = fopen(path, "re");
    if (file == NULL) return 0;
    while (fgets(line, sizeof line, file) != NULL) count += strstr(line, text) != NULL;
    fclose(file);
    return count;
}

void job_show(const char *output) {
    char line[4096];
    FILE *file = fopen(output, "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) fprintf(stderr, "    | %s", line);
    if (file != NULL) fclose(file);
}

/* ---- small things ---- */

bool job_write_file(const char *path, const char *text) {
    FILE *file = fopen(path, "we");
    if (file == NULL) return false;
    fputs(text, file);
    return fclose(file) == 0;
}

static int remove_entry(const char *path, const struct stat *facts, int kind, struct FTW *place) {
    (void)facts, (void)kind, (void)place;
    return remove(path);
}

void job_remove_folder(const char *path) {
    if (nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS) != 0 && errno != ENOENT)
        fprintf(stderr, "could not remove %s: %s\n", path, strerror(errno));
}

void job_nap(double seconds) {
    const struct timespec t = {(time_t)seconds, (long)(1e9 * (seconds - (double)(time_t)seconds))};
    nanosleep(&t, NULL);
}

static uint64_t random_state = 1;

void job_seed(uint64_t seed) {
    random_state = seed;
}

uint32_t job_random(uint32_t bound) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((random_state >> 33) % bound);
}
