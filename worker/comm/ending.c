#include "ending.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

void mst_kill_neighbours(const mst_introduction *known, int rank, int size) {
    for (int other = 0; other < size; other++) {
        const mst_process *process = &known[other].process;
        if (other == rank || process->host != known[rank].process.host) continue;
        if (mst_process_runs(process)) kill((pid_t)process->pid, SIGKILL);
    }
}

void mst_cancel_step(void) {
    const char *job = getenv("SLURM_JOB_ID"), *step = getenv("SLURM_STEP_ID");
    if (!job || !step) return;
    char name[64];
    snprintf(name, sizeof name, "%s.%s", job, step);
    char program[] = "scancel", option[] = "--signal=KILL";
    char *arguments[] = {program, option, name, NULL};
    posix_spawn_file_actions_t files;
    pid_t pid;
    if (posix_spawn_file_actions_init(&files) != 0) return;
    for (int fd = 0; fd < 3; fd++) posix_spawn_file_actions_addopen(&files, fd, "/dev/null", O_RDWR, 0);
    posix_spawnp(&pid, program, &files, NULL, arguments,
                 environ); /* without scancel the other means remain */
    posix_spawn_file_actions_destroy(&files);
}
