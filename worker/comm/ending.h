/* How the watchdog ends a job whose main threads may hang anywhere. Private to the room. */
#ifndef MUSTER_ENDING_H
#define MUSTER_ENDING_H

#include <stdint.h>
#include <sys/types.h>

#include "muster/comm.h"

/* One rank's process, known to all ranks. */
typedef struct mst_process {
    uint64_t host; /* equal for processes that can send each other signals */
    /* the system's start time of the process: tells it from a later one with the same number */
    uint64_t start;
    int64_t pid;
} mst_process;

/** This process. Not collective. */
mst_process mst_process_self(void);

/** Sends SIGKILL, which ends stopped processes too, to the other ranks on this
 * rank's host. Not collective. */
void mst_kill_neighbours(const mst_process *processes, int rank, int size);

/** Asks Slurm, if this is one of its steps, to kill the whole step,
 * and does not wait for it. Not collective. */
void mst_cancel_step(void);

#endif
