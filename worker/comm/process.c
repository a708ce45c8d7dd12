#include "muster/process.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* FNV-1a, to make a number of what names a host. */
static uint64_t hash(uint64_t state, const void *data, size_t bytes) {
    const unsigned char *byte = data;
    for (size_t i = 0; i < bytes; i++) state = (state ^ byte[i]) * 0x100000001b3u;
    return state;
}

static const uint64_t hidden = UINT64_MAX;

/* Field 22 of /proc/PID/stat, in clock ticks since the system started; `hidden` when that may not be read; 0 when there
 * is no such process, or when nothing is left of it but the entry that its parent has not read: state (field 3) Z and
 * no thread (field 20) but the dead one. */
static uint64_t start_of(int64_t pid, char *state_out) {
    char path[64], text[1024] = "", state = 0;
    long long threads = 0;
    unsigned long long start = 0;
    snprintf(path, sizeof path, "/proc/%lld/stat", (long long)pid);
    FILE *file = fopen(path, "re");
    if (!file) return kill((pid_t)pid, 0) == 0 || errno == EPERM ? hidden : 0;
    size_t count = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[count] = '\0';
    const char *field = strrchr(text, ')'); /* the name before it may hold anything */
    for (int number = 3; field != NULL && number <= 22; number++) {
        field = strchr(field + 1, ' ');
        if (field == NULL) return 0;
        if (number == 3) state = field[1];
        if (number == 20) threads = strtoll(field, NULL, 10);
        if (number == 22) start = strtoull(field, NULL, 10);
    }
    *state_out = state;
    return state == 'Z' && threads <= 1 ? 0 : start;
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
    self.start = start_of(self.pid, &(char){0});
    return self;
}

mst_process mst_process_of(int64_t pid) {
    mst_process process = mst_process_self();
    process.pid = pid;
    process.start = start_of(pid, &(char){0});
    return process;
}

bool mst_process_runs(const mst_process *process) {
    const uint64_t start = start_of(process->pid, &(char){0});
    return start == hidden || (start != 0 && start == process->start);
}

char mst_process_state(const mst_process *process) {
    char state = 0;
    const uint64_t start = start_of(process->pid, &state);
    if (start == hidden) return '?';
    return start != 0 && start == process->start ? state : 0;
}
