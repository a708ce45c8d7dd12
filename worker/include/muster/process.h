/* A process, told from every other one on all hosts and from later ones with the same number. */
#ifndef MUSTER_PROCESS_H
#define MUSTER_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mst_process {
    uint64_t host; /* equal for processes that can send each other signals */
    /* the system's start time of the process: tells it from a later one with the same number */
    uint64_t start;
    int64_t pid;
} mst_process;

/** This process. Not collective. */
mst_process mst_process_self(void);

/** Another process of this host. Not collective. */
mst_process mst_process_of(int64_t pid);

/** Whether a process of this host (its `host` is that of mst_process_self) still runs. One that has ended but that its
 * parent has not asked about yet does not run. Not collective. */
bool mst_process_runs(const mst_process *process);

/** What the system says a process of this host does: 'R' runs, 'S' sleeps, 'D' waits for a disk or memory, 'T' is stopped
 * (see proc(5)); 0: it does not run. Not collective. */
char mst_process_state(const mst_process *process);

#ifdef __cplusplus
}
#endif
#endif
