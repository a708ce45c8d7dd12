/* Starting a job's ranks where one is, and starting them again: the parent of mpirun, srun or a single rank. No MPI in here. */
#ifndef MUSTER_LAUNCH_H
#define MUSTER_LAUNCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "muster/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mst_launch_options {
    const char *config_path;
    const char *const *overrides; /* key=value */
    size_t override_count;
    const char *run_dir;  /* NULL: the config's */
    const char *resume;   /* of the first attempt: "auto", "never" or a checkpoint; later ones: auto */
    const char *hostfile; /* NULL: that of OMPI_MCA_orte_default_hostfile, if any */
    const char *with;     /* "mpirun" or "srun"; NULL: what fits */
    uint64_t ranks;       /* 0: one a node */
    bool all;             /* a rank for each core */
    uint64_t least_nodes, most_nodes; /* 0: one; all */
    uint64_t restarts;                /* at most so many one after the other without progress */
    const char *const *extra;         /* for the launcher, before the program */
    size_t extra_count;
    FILE *dry_run; /* NULL, or where the command and the reasons are printed, and then nothing is started */
} mst_launch_options;

/**
 * Starts the ranks of a run, watches them, and starts them again from the newest good checkpoint until the run is done.
 *
 * Not collective: refuses to be a rank. Handles SIGINT, SIGTERM, SIGHUP, SIGUSR1 and SIGUSR2 meanwhile.
 * @retval MST_OK all steps are done; MST_ESTOPPED a signal asked for the end, and nothing is lost; MST_ECONFIG the config,
 * the options or the place; otherwise what failed in the end. Ended by a second Ctrl-C, it raises SIGINT.
 */
mst_status mst_launch(const mst_launch_options *options);

#ifdef __cplusplus
}
#endif
#endif
