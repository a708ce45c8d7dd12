/* The lease of a run folder: one process gets it, a dead one's is taken over, who lost it is told. Times are short here. */
#include "lease.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lease_file.h"
#include "muster/clock.h"
#include "stop.h"
#include "test.h"

/* Processes of this test that play one on another host. */
static bool abroad;
mst_process __real_mst_process_self(void);
mst_process __wrap_mst_process_self(void);
mst_process __wrap_mst_process_self(void) {
    mst_process self = __real_mst_process_self();
    self.host += abroad;
    return self;
}

static char folder[4096], said[4096];

static void hear(void *context, const char *text) {
    (void)context;
    if (text == NULL) return;
    const size_t used = strlen(said);
    snprintf(said + used, sizeof said - used, "%s\n", text);
}

static mst_status take(lease **out) {
    said[0] = '\0';
    return lease_take(folder, "here", hear, NULL, out);
}

static void nap(double seconds) {
    nanosleep(&(struct timespec){.tv_sec = (time_t)seconds,
                                 .tv_nsec = (long)(1e9 * (seconds - (double)(time_t)seconds))},
              NULL);
}

static bool stands(uint64_t epoch) {
    char path[LEASE_PATH_MAX];
    lease_path(folder, epoch, path);
    return access(path, F_OK) == 0;
}

static void put_text(uint64_t epoch, const char *text) {
    char path[LEASE_PATH_MAX];
    lease_path(folder, epoch, path);
    FILE *file = fopen(path, "w");
    CHECK(file != NULL && fputs(text, file) >= 0 && fclose(file) == 0, "write %s", path);
}

/* A lease of a process on another host. */
static void put_foreign(uint64_t epoch, const char *job, int renewals) {
    lease_record record = {.token = "00112233445566778899aabbccddeeff",
                           .process = {.host = 7, .start = 8, .pid = 99},
                           .host = "elsewhere",
                           .since = "2026-01-02T03:04:05.678Z"};
    char text[LEASE_TEXT_MAX];
    snprintf(record.job, sizeof record.job, "%s", job);
    snprintf(record.renewed, sizeof record.renewed, "2026-01-02T03:04:05.%03dZ", renewals);
    CHECK_OK(lease_print(&record, epoch, text));
    put_text(epoch, text);
}

static void clear(void) {
    for (uint64_t epoch = 1; epoch < 10; epoch++) {
        char path[LEASE_PATH_MAX];
        lease_path(folder, epoch, path);
        unlink(path);
    }
}

static void check_says(const char *where, const char *words) {
    CHECK(strstr(where, words) != NULL, "'%s' does not say '%s'", where, words);
}

/* ---- one after the other ---- */

static void check_alone(void) {
    lease *mine = NULL, *other = NULL;
    char words[64];
    CHECK_OK(take(&mine));
    CHECK(stands(1) && said[0] == '\0', "epoch 1: %d, said '%s'", stands(1), said);
    CHECK_OK(lease_permit(mine));
    CHECK_STATUS(take(&other), MST_ECONFIG);
    snprintf(words, sizeof words, "in use by process %d on host here", (int)getpid());
    check_says(mst_error_message(), words);
    nap(3 * lease_timing.renew);
    CHECK_OK(lease_held(mine));
    lease_release(&mine);
    CHECK(!stands(1) && mine == NULL, "the lease is still there");
    lease_release(&mine);
}

/* Killed, and not even asked about by its parent: its lease is nobody's. */
static void check_dead(void) {
    lease *mine = NULL;
    const pid_t child = fork();
    if (child == 0) {
        if (take(&mine) != MST_OK) _exit(1);
        for (;;) pause();
    }
    while (!stands(1)) nap(0.001);
    CHECK_STATUS(take(&mine), MST_ECONFIG);
    kill(child, SIGKILL);
    siginfo_t info;
    waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT);
    const double begin = mst_clock_now();
    CHECK_OK(take(&mine));
    CHECK(mst_clock_now() - begin < lease_timing.stale, "it took %g s", mst_clock_now() - begin);
    check_says(said, "has ended without giving it back");
    CHECK(stands(2) && !stands(1), "epoch 2: %d, epoch 1: %d", stands(2), stands(1));
    waitpid(child, NULL, 0);
    lease_release(&mine);
}

/* A lease that nobody here can look up is watched. */
static void check_watched(const char *name, void (*put)(void), const char *words) {
    lease *mine = NULL;
    put();
    const double begin = mst_clock_now();
    CHECK_OK(take(&mine));
    CHECK(mst_clock_now() - begin >= lease_timing.stale, "%s: taken over after %g s", name,
          mst_clock_now() - begin);
    check_says(said, words);
    check_says(said, "not renewed its lease for");
    CHECK(stands(4) && !stands(3), "%s: epoch 4: %d, epoch 3: %d", name, stands(4), stands(3));
    lease_release(&mine);
}

static void put_stale(void) {
    put_foreign(3, "12", 0);
}

static void put_noise(void) {
    put_text(3, "\033[2J not a lease");
}

static void put_empty(void) {
    put_text(3, "");
}

static void check_renewed(void) {
    lease *mine = NULL;
    put_foreign(5, "", 0);
    const pid_t child = fork();
    if (child == 0) {
        for (int i = 1; i < 4000; i++) { /* often enough for a busy machine */
            nap(lease_timing.stale / 8);
            put_foreign(5, "", i % 1000);
        }
        _exit(0);
    }
    CHECK_STATUS(take(&mine), MST_ECONFIG);
    check_says(mst_error_message(), "process 99 on host elsewhere");
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    CHECK(stands(5) && !stands(6), "a fresh lease was touched");
    clear();
}

/* The job comes out of Slurm's queue again, on whatever host: what it held before is its own. */
static void check_requeued(void) {
    lease *mine = NULL;
    setenv("SLURM_JOB_ID", "77", 1);
    setenv("SLURM_RESTART_COUNT", "1", 1);
    put_foreign(1, "77", 0);
    double begin = mst_clock_now();
    CHECK_OK(take(&mine));
    CHECK(mst_clock_now() - begin < lease_timing.stale, "its own job's lease was watched for %g s",
          mst_clock_now() - begin);
    check_says(said, "back into its queue");
    lease_release(&mine);
    unsetenv("SLURM_RESTART_COUNT");
    put_foreign(1, "77", 0);
    begin = mst_clock_now();
    CHECK_OK(take(&mine));
    CHECK(mst_clock_now() - begin >= lease_timing.stale, "another step of the job was not watched");
    lease_release(&mine);
    unsetenv("SLURM_JOB_ID");
}

static void check_signal(void) {
    lease *mine = NULL;
    put_foreign(1, "", 0);
    stop_watch(false);
    raise(SIGTERM);
    CHECK_STATUS(take(&mine), MST_ESTOPPED);
    stop_unwatch();
    stop_watch(false); /* forgets the signal */
    stop_unwatch();
    CHECK(stands(1), "the lease was touched");
    clear();
}

static void check_lost(void) {
    lease *mine = NULL;
    CHECK_OK(take(&mine));
    put_foreign(2, "12", 0);
    char path[LEASE_PATH_MAX];
    lease_path(folder, 1, path);
    unlink(path);
    CHECK_STATUS(lease_permit(mine), MST_ELOST);
    check_says(mst_error_message(), "taken over by process 99 on host elsewhere (Slurm job 12)");
    nap(3 * lease_timing.renew);
    CHECK_STATUS(lease_held(mine), MST_ELOST);
    lease_release(&mine);
    CHECK(stands(2) && !stands(1), "another's lease was touched");
    clear();

    CHECK_OK(take(&mine));
    unlink(path);
    CHECK_STATUS(lease_permit(mine), MST_ELOST);
    check_says(mst_error_message(), "its lease or the folder was removed");
    /* Another one under the same name. */
    put_foreign(1, "", 0);
    CHECK_STATUS(lease_permit(mine), MST_ELOST);
    lease_release(&mine);
    CHECK(stands(1), "another's lease of the same epoch was removed");
    clear();
}

/* Stopped until somebody else took over: it wakes, and is told. */
static void check_stopped(void) {
    lease *mine = NULL;
    const pid_t child = fork();
    if (child == 0) {
        abroad = true;
        if (take(&mine) != MST_OK) _exit(1);
        while (lease_held(mine) == MST_OK) nap(0.001);
        const bool refused =
            lease_permit(mine) == MST_ELOST && strstr(mst_error_message(), "taken over") != NULL;
        lease_release(&mine);
        _exit(refused ? 0 : 2);
    }
    while (!stands(1)) nap(0.001);
    CHECK_STATUS(take(&mine), MST_ECONFIG);
    kill(child, SIGSTOP);
    nap(2 * lease_timing.renew);
    CHECK_OK(take(&mine));
    check_says(said, "not renewed");
    kill(child, SIGCONT);
    int result = -1;
    waitpid(child, &result, 0);
    CHECK(WIFEXITED(result) && WEXITSTATUS(result) == 0, "the stopped one ended with %d", result);
    CHECK_OK(lease_permit(mine));
    lease_release(&mine);
}

/* ---- at once ---- */

enum { STARTERS = 4, ROUNDS = 50 };

static void start(int go, int won, int end) {
    lease *mine = NULL;
    char byte;
    if (read(go, &byte, 1) != 0) _exit(3); /* until all may start */
    const mst_status status = take(&mine);
    if (status == MST_ECONFIG) _exit(2);
    if (status != MST_OK || write(won, "w", 1) != 1) _exit(3);
    /* Holds it until all others have ended; should another one have won, too, for a while. */
    if (poll(&(struct pollfd){.fd = end, .events = POLLIN}, 1, 3000) < 0) _exit(3);
    const bool held = lease_permit(mine) == MST_OK;
    lease_release(&mine);
    _exit(held ? 0 : 3);
}

/* Several start at the same time on what `put` has left: one gets the lease and keeps it. */
static void check_race(const char *name, void (*put)(void)) {
    size_t wins = 0, refusals = 0, strange = 0;
    for (int round = 0; round < ROUNDS && wins == (size_t)round; round++) {
        int go[2] = {-1, -1}, won[2] = {-1, -1}, end[2] = {-1, -1};
        clear();
        if (put != NULL) put();
        CHECK(pipe(go) == 0 && pipe(won) == 0 && pipe(end) == 0, "pipe");
        for (int i = 0; i < STARTERS; i++) {
            if (fork() != 0) continue;
            close(go[1]);
            close(end[1]);
            start(go[0], won[1], end[0]);
        }
        close(go[1]);
        for (int ended = 0; ended < STARTERS; ended++) {
            if (ended == STARTERS - 1) close(end[1]);
            int result = -1;
            wait(&result);
            const int code = WIFEXITED(result) ? WEXITSTATUS(result) : 3;
            wins += code == 0;
            refusals += code == 2;
            strange += code == 3;
        }
        close(go[0]);
        close(won[0]);
        close(won[1]);
        close(end[0]);
    }
    CHECK(wins == ROUNDS && refusals == (STARTERS - 1) * (size_t)ROUNDS,
          "%s: %zu won and %zu were refused of %d, %zu otherwise", name, wins, refusals, STARTERS * ROUNDS,
          strange);
    clear();
}

static void put_dead(void) {
    put_foreign(2, "", 0);
    lease_found found;
    char text[LEASE_TEXT_MAX];
    CHECK_OK(lease_read(folder, 2, &found));
    found.record.process = mst_process_self();
    found.record.process.start++; /* the process that had this number before us */
    CHECK_OK(lease_print(&found.record, 2, text));
    put_text(2, text);
}

int main(void) {
    const char *base = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/muster-lease-XXXXXX", base != NULL ? base : "/tmp");
    if (mkdtemp(folder) == NULL) return 1;
    lease_timing = (lease_times){.renew = 0.03, .stale = 0.3, .look = 0.01};
    check_alone();
    check_dead();
    check_watched("another host's", put_stale, "process 99 on host elsewhere (Slurm job 12)");
    check_watched("noise", put_noise, "an unknown process (lease-3.json cannot be read)");
    check_watched("an empty file", put_empty, "an unknown process");
    check_renewed();
    check_requeued();
    check_signal();
    check_lost();
    check_stopped();
    check_race("a new run", NULL);
    check_race("left by a dead process", put_dead);
    lease_timing.stale = 0.1;
    check_race("left on another host", put_stale);
    CHECK(rmdir(folder) == 0, "the folder is not empty: %s", strerror(errno));
    return test_finish("lease");
}
