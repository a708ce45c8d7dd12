/* The life of a run: its folder, the loop over steps, what is printed and recorded. */
#ifndef MUSTER_RUN_H
#define MUSTER_RUN_H

#include "muster/comm.h"
#include "muster/config.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mst_train_options {
    const char *config_path;
    const char *const *overrides; /* key=value */
    size_t override_count;
    const char *run_dir; /* NULL: the config's */
    const char *resume;  /* "auto", "never" or a checkpoint folder */
} mst_train_options;

/**
 * Trains: opens or creates the run folder, resumes if told, loops over steps, checkpoints, reports. A rank whose GPU breaks leaves,
 * and sleeps until the others, which go on without it, have ended (device.leave_out).
 *
 * Collective.
 * @retval MST_OK all steps are done; MST_ESTOPPED stopped early on request with a good checkpoint; else what
 * failed, with the same message on every rank
 */
mst_status mst_run_train(mst_comm *comm, const mst_train_options *options);

/**
 * Takes requests to stop (TERM, INT, HUP, USR1, USR2) from here on, for the mst_run_train that follows: one that comes while
 * MPI starts, or after the last checkpoint, does not kill the process. For a program that ends after mst_run_train. Not collective.
 * @param speak as the rank that talks to the user
 */
void mst_run_listen(bool speak);

/** Who trains in a run folder now, in words: process, host, job, since when; "" when nobody does. What a lease says may be
 * of a process that has died. Not collective. @retval MST_EIO the folder or the lease cannot be read */
mst_status mst_run_holder(const char *folder, char *text_out, size_t room);

/** The folder of a run. Not collective. @param given by the command line, or NULL
 * @retval MST_ECONFIG it has no name, or one that does not fit */
mst_status mst_run_folder(const mst_config *config, const char *given, char *path_out, size_t room);

/** Whether a process of this host trains in a run folder now. Not collective. */
bool mst_run_is_held_here(const char *folder);

/* What a run's device does, as the run measures it at its start. */
typedef struct mst_peak {
    bool gpu; /* also where device.kernels is auto */
    double
        flops; /* of large matrix products, FLOP/s; 0 for reference kernels, and where memory is too short */
    double driver; /* bytes of the GPU that were in use before this process allocated any there */
} mst_peak;

/** Measures this machine for a run of this config. Takes about 0.2 s. Not collective. @param node_rank of the ranks of this
 * node, which share its GPUs in turn @retval MST_ECONFIG the device is not there */
mst_status mst_run_peak(const mst_config *config, int node_rank, mst_peak *peak_out);

/** Where the config names no vocabulary, takes that of its data. Not collective.
 * @retval MST_ECONFIG the data cannot be opened */
mst_status mst_run_vocabulary(mst_config *config);

#ifdef __cplusplus
}
#endif
#endif
