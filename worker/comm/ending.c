#include "ending.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

/* Tenths of a second that a launcher is given for its own end, which takes it about 15. It gets no SIGTERM: Open MPI 4.1's
 * then only says that it is ending already, or crashes. */
enum { TENTHS_TO_KILL = 50 };

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

/* ---- the launcher ---- */

static bool is_launcher(pid_t pid) {
    static const char *const names[] = {"mpirun",  "mpiexec", "orterun",        "orted",
                                        "prterun", "prted",   "mpirun.openmpi", "mpiexec.openmp"};
    char path[64], name[32] = "";
    snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
    FILE *file = fopen(path, "re");
    if (file == NULL) return false;
    if (fgets(name, sizeof name, file) == NULL) name[0] = '\0';
    fclose(file);
    name[strcspn(name, "\n")] = '\0';
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0) return true;
    return false;
}

/* The life of the process that waits for the launcher's end. It holds nothing open that the launcher could wait for. */
static void outlive(const mst_process *launcher) {
    setsid();
    for (int fd = 0; fd < 1024; fd++) close(fd);
    for (int tenths = 0; tenths <= TENTHS_TO_KILL && mst_process_runs(launcher); tenths++) {
        if (tenths == TENTHS_TO_KILL) kill((pid_t)launcher->pid, SIGKILL);
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    }
}

void mst_end_launcher(void) {
    const pid_t parent = getppid();
    if (getenv("OMPI_COMM_WORLD_SIZE") == NULL || !is_launcher(parent)) return;
    const mst_process launcher = mst_process_of(parent);
    if (fork() != 0) return;
    outlive(&launcher);
    _exit(0);
}
