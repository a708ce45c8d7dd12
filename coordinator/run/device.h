/* The device of this rank: its kernel table, its threads, and what it can do at most. */
#ifndef RUN_DEVICE_H
#define RUN_DEVICE_H

#include "muster/comm.h"
#include "muster/config.h"
#include "muster/watchdog.h"

typedef struct run_device {
    mst_kernels kernels;
    char class_name[512]; /* of all ranks together: kernels.class_name, or each one of a mixed run */
    bool mixed;           /* the ranks' classes differ: the bits depend on who computes what */
    mst_queue *queue;     /* owned */
    int threads;
    int idle_cores; /* of this node that mpirun's binding keeps from all of its ranks; 0 when the threads were
                       chosen */
    size_t least_memory; /* bytes of a GPU that the rank with least has, of all ranks; 0: not all have one */
    size_t taken; /* bytes of the GPU's memory that were in use before this rank allocated any; 0: no GPU */
} run_device;

/**
 * Opens the kernel table and starts the threads: the config's number, or the cores that this rank may use
 * divided by the ranks of its node that may use the same ones.
 *
 * Collective: all ranks agree on the status. @param node_rank of the ranks of this node, which share its GPUs in turn
 * @retval MST_ECONFIG the ranks' device classes differ, so bits
 * would depend on who computes what, and batch.allow_mixed is not set
 */
mst_status device_open(const mst_config *config, mst_comm *comm, int node_rank, run_device *device_out);
void device_close(run_device *device);

/**
 * The speed of large matrix products in `dtype`, all ranks at once and added, FLOP/s: what the machine can do
 * in this very run. Takes some tenths of a second at most. Collective. 0 for the reference kernels, which are not meant to be
 * fast. @param watchdog told when this rank has measured and waits for the others; NULL: none
 */
mst_status device_peak(run_device *device, mst_comm *comm, mst_watchdog *watchdog, mst_dtype dtype,
                       double *peak_out);

#endif
