#include "ending.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

extern char **environ;

/* FNV-1a, to make a number of what names a host. */
static uint64_t hash(uint64_t state, const void *data, size_t bytes) {
    const unsigned char *byte = data;
    for (size_t i = 0; i < bytes; i++) state = (state ^ byte[i]) * 0x100000001b3u;
    return state;
}

/* Field 22 of /proc/PID/stat, in clock ticks since the system started; 0 when there is no such process. */
static uint64_t start_of(int64_t pid) {
    char path[64], text[1024] = "";
    snprintf(path, sizeof path, "/proc/%lld/stat", (long long)pid);
    FILE *file = fopen(path, "re");
    if (!file) return 0;
    size_t count = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[count] = '\0';
    const char *field = strrchr(text, ')'); /* the name before it may hold anything */
    for (int number = 2; field && number < 22; number++) field = strchr(field + 1, ' ');
    return field ? strtoull(field, NULL, 10) : 0;
}

mst_process mst_process_self(void) {
    mst_process self = {.pid = getpid()};
    char boot[64] = "";
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
    if (file) {
        if (!fgets(boot, sizeof boot, file)) boot[0] = '\0';
        fclose(file);
    }
    struct stat space = {0}; /* containers of one host number their processes apart */
    stat("/proc/self/ns/pid", &space);
    self.host = hash(0xcbf29ce484222325u, boot, strlen(boot));
    self.host = hash(self.host, &space.st_ino, sizeof space.st_ino);
    self.start = start_of(self.pid);
    return self;
}

void mst_kill_neighbours(const mst_process *processes, int rank, int size) {
    for (int other = 0; other < size; other++) {
        const mst_process *process = &processes[other];
        if (other == rank || process->host != processes[rank].host) continue;
        if (start_of(process->pid) == process->start) kill((pid_t)process->pid, SIGKILL);
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
