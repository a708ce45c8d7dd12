/* Batch scripts for Slurm: as a person would write them, and giving them to sbatch. */
#ifndef MUSTER_SUBMIT_H
#define MUSTER_SUBMIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "muster/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A job that trains. Texts are the caller's; those that may be NULL leave the choice to Slurm. */
typedef struct mst_submit_job {
    const char *program; /* absolute path of muster */
    const char *config;  /* absolute path */
    const char *run;     /* absolute path of the run folder */
    const char *folder;  /* working directory: paths in overrides start there */
    const char *name, *time;
    const char *partition, *account; /* or NULL */
    uint64_t nodes_least, nodes_most;
    uint64_t ranks_per_node;
    bool launches;                /* the program has 'muster launch'; else srun starts the ranks */
    const char *const *overrides; /* of the config, key=value */
    size_t override_count;
    const char *const *options; /* of sbatch */
    size_t option_count;
} mst_submit_job;

/** Checks a time limit: M, M:S, H:M:S, D-H, D-H:M or D-H:M:S, as sbatch takes it. @retval MST_ECONFIG */
mst_status mst_submit_check_time(const char *text);

/** Reads "2-4" or "4". @retval MST_ECONFIG */
mst_status mst_submit_read_nodes(const char *text, uint64_t *least_out, uint64_t *most_out);

/** The batch script; freed by the caller. @retval MST_ECONFIG a text that no batch script can hold; MST_ENOMEM */
mst_status mst_submit_script(const mst_submit_job *job, char **script_out);

/** Whether sbatch is here. @retval MST_ECONFIG */
mst_status mst_submit_find(void);

/** Gives a script to sbatch, whose messages go to stderr. @param number_out of the job
 * @retval MST_ECONFIG sbatch refused it; MST_EIO, MST_ENOMEM */
mst_status mst_submit_send(const char *script, char number_out[64]);

#ifdef __cplusplus
}
#endif
#endif
