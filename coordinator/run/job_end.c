/* When a Slurm job ends: what its environment or scontrol says. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "muster/clock.h"
#include "walltime.h"

extern char **environ;

enum { ANSWER_MAX = 8192, PATIENCE = 10 /* seconds; slurmctld may be restarting */ };

/* Reads until the end of the answer, for as long as it may take. */
static bool read_answer(int from, char answer_out[ANSWER_MAX]) {
    const double until = mst_clock_now() + PATIENCE;
    size_t used = 0;
    for (;;) {
        struct pollfd here = {.fd = from, .events = POLLIN};
        const double left = until - mst_clock_now();
        const int ready = left > 0 ? poll(&here, 1, (int)(1000 * left) + 1) : 0;
        if (ready < 0 && errno == EINTR) continue;
        if (ready <= 0) return false;
        const ssize_t got = read(from, answer_out + used, ANSWER_MAX - 1 - used);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return false;
        used += (size_t)got;
        answer_out[used] = '\0';
        if (got == 0 || used == ANSWER_MAX - 1) return true;
    }
}

/* Starts the program with its output in a pipe. @return the end to read from; -1: it could not be started */
static int start(char *const *words, pid_t *pid_out) {
    int pipe_ends[2];
    posix_spawn_file_actions_t files;
    if (pipe2(pipe_ends, O_CLOEXEC) != 0) return -1;
    bool started = posix_spawn_file_actions_init(&files) == 0;
    if (started) {
        posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
        posix_spawn_file_actions_addopen(&files, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
        posix_spawn_file_actions_adddup2(&files, pipe_ends[1], STDOUT_FILENO);
        started = posix_spawnp(pid_out, words[0], &files, NULL, words, environ) == 0;
        posix_spawn_file_actions_destroy(&files);
    }
    close(pipe_ends[1]);
    if (started) return pipe_ends[0];
    close(pipe_ends[0]);
    return -1;
}

/* Times as seconds since 1970, so that no time zone comes into it. */
static bool ask_scontrol(const char *job, char answer_out[ANSWER_MAX]) {
    char program[] = "env", format[] = "SLURM_TIME_FORMAT=%s", scontrol[] = "scontrol", show[] = "show";
    char what[] = "job", flag[] = "-o", number[64];
    char *words[] = {program, format, scontrol, show, what, flag, number, NULL};
    pid_t pid;
    int status = 0;
    snprintf(number, sizeof number, "%s", job);
    answer_out[0] = '\0';
    const int from = start(words, &pid);
    if (from < 0) return false;
    const bool whole = read_answer(from, answer_out);
    close(from);
    if (!whole) kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
    return whole && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* A time as Slurm writes it: seconds since 1970, or a local time. NAN: neither */
static double time_of(const char *text) {
    char *rest;
    struct tm local = {.tm_isdst = -1};
    const double seconds = strtod(text, &rest);
    if (rest != text && (*rest == '\0' || *rest == ' ' || *rest == '\n') && seconds > 1e9) return seconds;
    if (strptime(text, "%Y-%m-%dT%H:%M:%S", &local) == NULL) return NAN;
    return (double)mktime(&local);
}

double walltime_job_end(char *why_out, size_t room) {
    static char answer[ANSWER_MAX];
    const char *job = getenv("SLURM_JOB_ID"), *given = getenv("SLURM_JOB_END_TIME");
    why_out[0] = '\0';
    if (job == NULL || job[0] == '\0' || job[strspn(job, "0123456789_+")] != '\0') return INFINITY;
    const double told =
        given != NULL ? time_of(given) : NAN; /* when the job began: it may have been prolonged since */
    if (told > (double)time(NULL)) return told;
    if (!ask_scontrol(job, answer)) {
        if (isfinite(told)) return told;
        snprintf(why_out, room, "scontrol does not say when Slurm job %s ends", job);
        return INFINITY;
    }
    const char *end = strstr(answer, " EndTime=");
    const double seconds = end != NULL ? time_of(end + strlen(" EndTime=")) : NAN;
    return isfinite(seconds) ? seconds : INFINITY; /* "Unknown": a partition without a limit */
}
