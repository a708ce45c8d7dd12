/* The run folder: config.yaml as used, run.json (identity, device class), checkpoints/, metrics.jsonl, the lease. */
#ifndef RUN_FOLDER_H
#define RUN_FOLDER_H

#include <stdbool.h>

#include "muster/comm.h"
#include "muster/status.h"

enum { FOLDER_PATH_MAX = 4096, FOLDER_ID_MAX = 33, FOLDER_DIGEST_MAX = 65 };

typedef struct run_folder {
    char path[FOLDER_PATH_MAX];
    char checkpoints[FOLDER_PATH_MAX + 16];
    char metrics[FOLDER_PATH_MAX + 16];
    char run_id[FOLDER_ID_MAX]; /* 32 hexadecimal digits, random */
    bool existed;               /* the folder held a run already */
    bool has_checkpoint;
    char device_class[256]; /* of the run, as recorded when it was created; "" when new */
    char init
        [FOLDER_DIGEST_MAX]; /* hexadecimal digest of the weights that the run began with, from elsewhere; "": not known */
    char adapters[FOLDER_DIGEST_MAX]; /* likewise of the adapters that it began with */
    char *config;                     /* YAML of the run so far; NULL when new. Owned */
    char config_path[FOLDER_PATH_MAX +
                     16]; /* where that stands: config.yaml, or a checkpoint where it is missing */
} run_folder;

/**
 * Opens a run's folder, or makes one. Nothing is recorded yet: folder_record does that once the run can
 * really begin.
 *
 * Collective: rank 0 looks, all get the same. @retval MST_EIO cannot be made or read; MST_EFORMAT run.json or config.yaml
 * is damaged; MST_EUNSUPPORTED a newer muster made it
 */
mst_status folder_open(mst_comm *comm, const char *path, run_folder *folder_out);

/** Adds to the message of a damaged run.json or config.yaml what helps: every checkpoint says the same. Not collective.
 * @return damage */
mst_status folder_advise(const run_folder *folder, mst_status damage);

/** Writes config.yaml and run.json, each whole or not at all, and fsyncs. Collective; rank 0 writes. */
mst_status folder_record(mst_comm *comm, const run_folder *folder, const char *config_yaml,
                         const char *device_class);

/** The whole of a small text file. Not collective. @param text_out freed by the caller with free; NULL: there is no such file
 * @retval MST_EIO, MST_EFORMAT it is no text, or larger than 1 MiB; MST_ENOMEM */
mst_status folder_read_text(const char *path, char **text_out);

void folder_clear(run_folder *folder);

#endif
