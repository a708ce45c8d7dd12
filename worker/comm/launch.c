#include "launch.h"

#include <mpi.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#if defined(OPEN_MPI)
#define BUILT_WITH "Open MPI"
#elif defined(MPICH_VERSION)
#define BUILT_WITH "MPICH"
#else
#define BUILT_WITH "another MPI"
#endif

/* A number in the environment; 0 when it is missing. "4(x2)" reads as 4. */
static long number_of(const char *name) {
    const char *text = getenv(name);
    return text ? strtol(text, NULL, 10) : 0;
}

bool mst_launch_has_mpi(void) {
    /* mpirun of Open MPI; a PMIx server (srun --mpi=pmix); MPICH's hydra and PMI-1/2. */
    return getenv("OMPI_COMM_WORLD_SIZE") || getenv("PMIX_RANK") || getenv("PMI_RANK");
}

/* Ranks that mpirun says it started; 0 without it. srun sets PMI's variables as well, and speaks for itself. */
static long ranks_of_mpirun(void) {
    if (getenv("OMPI_COMM_WORLD_SIZE")) return number_of("OMPI_COMM_WORLD_SIZE");
    return getenv("MPI_LOCALNRANKS") ? number_of("PMI_SIZE") : 0;
}

mst_status mst_launch_check(int mpi_size) {
    if (mpi_size > 1) return MST_OK;
    if (ranks_of_mpirun() > 1)
        return mst_error(
            MST_ECONFIG,
            "starting MPI: mpirun started %ld ranks, but MPI finds no other rank; this muster was built "
            "with " BUILT_WITH ": start it with the mpirun of that MPI",
            ranks_of_mpirun());
    /* mpirun inside an allocation inherits Slurm's variables; its own count is then the true one. A batch
     * script has SLURM_PROCID too, but only tasks of srun have SLURM_STEP_NUM_TASKS. */
    if (ranks_of_mpirun() == 1 || !getenv("SLURM_PROCID")) return MST_OK;
    long tasks = number_of("SLURM_STEP_NUM_TASKS");
    if (tasks <= 1) return MST_OK;
    return mst_error(
        MST_EMPI,
        "starting MPI: this is task %ld of %ld of a Slurm step, but MPI finds no other rank; start it "
        "with `srun --mpi=pmix` (`srun --mpi=list` shows what is installed) or with mpirun",
        number_of("SLURM_PROCID"), tasks);
}

void mst_launch_yield(void) {
    long ranks = number_of("OMPI_COMM_WORLD_LOCAL_SIZE");
    if (ranks == 0) ranks = number_of("MPI_LOCALNRANKS");
    if (ranks == 0) ranks = number_of("SLURM_STEP_TASKS_PER_NODE");
    /* Spinning waits on a full machine take the processor from the rank that is waited for. */
    if (ranks > sysconf(_SC_NPROCESSORS_ONLN)) setenv("OMPI_MCA_mpi_yield_when_idle", "1", 0);
}

/*
 * Open MPI 4.1.4 under srun: a message over TCP to a rank that is still inside MPI_Init ends that
 * rank with a segmentation fault. Measured with four nodes on two cores: 8 of 120 starts of a bare MPI
 * program, none of 60 with this pause.
 */
void mst_launch_settle(void) {
    struct timespec pause = {.tv_nsec = 300000000};
    if (number_of("SLURM_STEP_NUM_TASKS") > 1 && !getenv("OMPI_COMM_WORLD_SIZE")) nanosleep(&pause, NULL);
}
