/* What the environment says about how this process was started.
 * Read before MPI is initialised. Private to the room. */
#ifndef MUSTER_LAUNCH_H
#define MUSTER_LAUNCH_H

#include <stdbool.h>

#include "muster/status.h"

/** True when mpirun or srun started this process with the variables that MPI needs to find its peers. */
bool mst_launch_has_mpi(void);

/**
 * Refuses a rank that would take itself for a job of one: the others would do
 * the same work at the same time.
 *
 * @param mpi_size ranks that MPI found; 1 without MPI
 * @retval MST_ECONFIG this is one of several ranks of another MPI's launcher
 * @retval MST_EMPI this is one of several tasks of a Slurm step, but MPI sees it alone
 */
mst_status mst_launch_check(int mpi_size);

/** Asks Open MPI to yield the processor in waits when this node has fewer cores than
 * ranks, unless the user chose. */
void mst_launch_yield(void);

/** Waits a moment under srun, so that the other ranks have left MPI_Init too. Call right after it. */
void mst_launch_settle(void);

#endif
