/* Whether the machines of a job are fit to train on: looked at and measured before anything is trained. */
#ifndef MUSTER_DOCTOR_H
#define MUSTER_DOCTOR_H

#include <stdio.h>

#include "muster/comm.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mst_doctor_options {
    const char *config_path;      /* NULL: machines only */
    const char *const *overrides; /* key=value, of this rank */
    size_t override_count;
    const char *run_dir; /* NULL: the config's; without a config none */
} mst_doctor_options;

/**
 * Looks at all ranks' machines and prints one line per finding - ok, warn or FAIL, and what to do - and a verdict. The
 * watchdog runs meanwhile; nothing is left behind.
 *
 * Collective. @param file rank 0 prints there
 * @retval MST_OK nothing failed, though there may be warnings; MST_EUNSUPPORTED something did; MST_ECONFIG the config is
 * wrong; the same on all ranks
 */
mst_status mst_doctor_examine(mst_comm *comm, const mst_doctor_options *options, FILE *file);

#ifdef __cplusplus
}
#endif
#endif
