/* A run at work: what the files of this room share. */
#ifndef RUN_TRAINING_H
#define RUN_TRAINING_H

#include "device.h"
#include "folder.h"
#include "metrics.h"
#include "muster/checkpoint.h"
#include "muster/run.h"
#include "muster/step.h"
#include "progress.h"

typedef struct training {
    mst_comm *comm; /* not owned */
    bool first;     /* this is rank 0, which speaks and records */
    mst_config config;
    char *config_yaml; /* the same as text, as recorded in the folder and in checkpoints */
    run_folder folder;
    run_device device;
    mst_data *data;
    char *tokenizer; /* tokenizer.json of the data, on rank 0; NULL: bytes are tokens */
    mst_watchdog *watchdog;
    mst_trainer *trainer;
    mst_metrics *metrics;   /* rank 0 only, else NULL */
    mst_progress *progress; /* rank 0 only, else NULL */
    double begun;           /* monotonic clock, seconds */
    double peak;            /* FLOP/s of all ranks together, measured at the start; 0: not known */

    bool reached;         /* an evaluation was below train.target_bits_per_byte */
    bool from_given;      /* --resume named a checkpoint */
    uint64_t saved_step;  /* of the newest checkpoint of this run; UINT64_MAX: none */
    double saved_elapsed; /* rank 0's seconds since begun at that time */
    int rollbacks;        /* since the run last got past rollback_step */
    uint64_t rollback_step;
} training;

/** Seconds on this rank's monotonic clock since training began. */
double training_elapsed(const training *t);

/** Prints a line for the user, above the live line, on rank 0 only. */
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
void training_say(training *t, const char *format, ...);

/** Saves a checkpoint of the current state and removes those that the config does not keep. Collective. */
mst_status training_save(training *t, mst_checkpoint_digests *digests_out);

/** Digests of the current state. Collective. */
mst_status training_digest(training *t, mst_checkpoint_digests *digests_out);

/**
 * Fills the trainer from where the user said: a given checkpoint; or the newest of the run that can be read,
 * naming each one that was passed over and why; or, when there is none, from initial values.
 *
 * Collective. @retval MST_ECONFIG the checkpoint belongs to another model or data order; MST_EFORMAT the
 * given checkpoint is damaged
 */
mst_status training_resume(training *t, const char *resume);

/**
 * Goes back to the newest checkpoint (or the initial values) and past the samples used so far, so that the
 * batch that did not give finite numbers is not met again. Collective. @retval MST_ENONFINITE after too many
 * rollbacks at the same place
 */
mst_status training_rollback(training *t);

#endif
