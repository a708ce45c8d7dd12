/* sbatch: whether it is here, and giving it a script. */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "muster/submit.h"

extern char **environ;

/* Reads the first line of an answer. */
static void read_line(int from, char *line_out, size_t room) {
    size_t used = 0;
    ssize_t got;
    char rest[256];
    while (used < room - 1 &&
           ((got = read(from, line_out + used, room - 1 - used)) > 0 || (got < 0 && errno == EINTR)))
        if (got > 0) used += (size_t)got;
    while ((got = read(from, rest, sizeof rest)) > 0 || (got < 0 && errno == EINTR)) continue;
    line_out[used] = '\0';
    line_out[strcspn(line_out, "\n")] = '\0';
}

/* Starts the program with its output in a pipe. */
static mst_status start(char *const *words, pid_t *pid_out, int *from_out) {
    mst_status status = MST_OK;
    int ends[2] = {-1, -1};
    posix_spawn_file_actions_t files;
    bool made = false;
    MST_CHECK(pipe2(ends, O_CLOEXEC) == 0, MST_EIO, "submit: pipe: %s", strerror(errno));
    made = posix_spawn_file_actions_init(&files) == 0;
    MST_CHECK(made && posix_spawn_file_actions_adddup2(&files, ends[1], STDOUT_FILENO) == 0, MST_ENOMEM,
              "submit: out of memory");
    const int failure = posix_spawnp(pid_out, words[0], &files, NULL, words, environ);
    MST_CHECK(failure == 0, MST_ECONFIG, "submit: %s cannot be started: %s", words[0], strerror(failure));
    *from_out = ends[0];
    ends[0] = -1;
done:
    if (made) posix_spawn_file_actions_destroy(&files);
    if (ends[0] >= 0) close(ends[0]);
    if (ends[1] >= 0) close(ends[1]);
    return status;
}

static bool ended_well(pid_t pid) {
    int end = 0;
    while (waitpid(pid, &end, 0) < 0 && errno == EINTR) continue;
    return WIFEXITED(end) && WEXITSTATUS(end) == 0;
}

mst_status mst_submit_find(void) {
    char program[] = "sbatch", option[] = "--version", version[64];
    char *const words[] = {program, option, NULL};
    pid_t pid;
    int from;
    if (start(words, &pid, &from) != MST_OK)
        return mst_error(
            MST_ECONFIG,
            "submit: there is no sbatch here; run it on a login node of a Slurm cluster, print the "
            "script with --dry-run, or train here with 'muster train'");
    read_line(from, version, sizeof version);
    close(from);
    return ended_well(pid)
               ? MST_OK
               : mst_error(MST_ECONFIG, "submit: 'sbatch --version' fails; is Slurm set up here?");
}

mst_status mst_submit_send(const char *script, char number_out[64]) {
    mst_status status = MST_OK;
    int from = -1;
    pid_t pid = 0;
    char program[] = "sbatch", option[] = "--parsable", *path = strdup(script);
    char *words[] = {program, option, path, NULL};
    MST_CHECK(path != NULL, MST_ENOMEM, "submit: out of memory");
    MST_TRY(start(words, &pid, &from));
    read_line(from, number_out, 64);
    MST_CHECK(ended_well(pid), MST_ECONFIG,
              "submit: sbatch refused the job, for the reason above; the script is %s", script);
    number_out[strcspn(number_out, ";")] = '\0'; /* behind it: the cluster */
    MST_CHECK(number_out[0] != '\0' && number_out[strspn(number_out, "0123456789")] == '\0', MST_EIO,
              "submit: sbatch ended well, but said '%s' in place of a job number; look with 'squeue --me'",
              number_out);
done:
    if (from >= 0) close(from);
    free(path);
    return status;
}
