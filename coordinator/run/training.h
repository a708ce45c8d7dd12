/* A run at work: what the files of this room share. */
#ifndef RUN_TRAINING_H
#define RUN_TRAINING_H

#include "device.h"
#include "folder.h"
#include "lease.h"
#include "leave.h"
#include "metrics.h"
#include "muster/checkpoint.h"
#include "muster/run.h"
#include "muster/step.h"
#include "progress.h"
#include "straggler.h"
#include "trend.h"
#include "walltime.h"

/* What the watchdog hears while a checkpoint is saved or loaded. */
typedef struct training_phase {
    mst_watchdog *watchdog;
    const char *name;
    uint64_t step;
} training_phase;

typedef struct training {
    mst_comm *comm; /* not owned */
    bool first;     /* this is rank 0, which speaks and records */
    leave *left;    /* who left before this start; NULL: nobody. Not owned */
    mst_config config;
    char *config_yaml; /* the same as text, as recorded in the folder and in checkpoints */
    run_folder folder;
    lease *lease; /* rank 0 only, else NULL: this run alone writes into the folder */
    run_device device;
    mst_data *data;
    uint64_t untargeted; /* training documents without a target of the loss, on rank 0 */
    char *tokenizer;     /* tokenizer.json of the data, on rank 0; NULL: bytes are tokens, or nobody says */
    char *companions;    /* the archive of what came with an imported model, on rank 0; NULL: nothing did */
    size_t companion_bytes;
    char *
        choices; /* what the device chose, as recorded: its class, then the lines of mst_queue_choices; NULL: it has no choice */
    mst_watchdog *watchdog;
    mst_trainer *trainer;
    mst_digest base; /* weights of the model that the run's adapters adapt, where it has any */
    mst_saver *saver;
    training_phase saving;
    mst_metrics *metrics;   /* rank 0 only, else NULL */
    straggler *straggler;   /* rank 0 only, else NULL */
    mst_progress *progress; /* rank 0 only, else NULL */
    double begun;           /* monotonic clock, seconds */
    double peak; /* FLOP/s of all ranks together, measured at the start, or a faster step's; 0: not known */

    mst_heldout heldout;   /* of the last evaluation, over train.eval_batches */
    uint64_t heldout_step; /* where that was; UINT64_MAX: none yet */
    trend trend;           /* of the evaluations of this start */

    bool reached;                         /* an evaluation was below train.target_bits_per_byte */
    char given[FOLDER_PATH_MAX];          /* the checkpoint that --resume names; "": it names none */
    uint64_t saved_step;                  /* of the newest checkpoint of this run; UINT64_MAX: none */
    mst_position saved_position;          /* of the save begun last */
    mst_checkpoint_digests saved_digests; /* of the newest checkpoint that this process saved */
    double save_begun;                    /* elapsed seconds, when the save begun last began */
    bool has_saved_digests;               /* saved_digests are those of saved_position */
    double saved_elapsed;                 /* rank 0's seconds since begun at that time */
    walltime walltime;                    /* rank 0 only */
    bool said_graphs;                     /* that there are none any more */
    int rollbacks;                        /* since the run last got past rollback_step */
    uint64_t rollback_step;
} training;

/** Seconds on this rank's monotonic clock since training began. */
double training_elapsed(const training *t);

/** Prints a line for the user, above the live line, on rank 0 only. */
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
void training_say(training *t, const char *format, ...);

/** The same of what others note, as mst_hf_notes has it. @param context the training */
void training_note(void *context, const char *text);

/** Rank 0 reads the config and says what is wrong with it; all ranks get it. Collective. @retval MST_ECONFIG, MST_ENOMEM */
mst_status training_share_config(training *t, const mst_train_options *options);

/** Opens the data, which has to be the same on all ranks, and takes its vocabulary where the config names none. Collective.
 * @retval MST_ECONFIG it does not fit the config; MST_EIO, MST_EFORMAT */
mst_status training_open_data(training *t);

/** Takes the run folder's lease, compares the config with the run's, and plans what the config leaves open: once, when the run is
 * created. Collective.
 * @retval MST_ECONFIG somebody else has the lease, or what may not change differs; MST_EIO */
mst_status training_open_folder(training *t, const mst_train_options *options);

/** Tells the user what is about to be trained, where and with what. Rank 0; others say nothing. */
void training_announce(training *t);
/** Says, once the first weights are there, where neither data nor weights say what tokens stand for. */
void training_announce_tokenizer(training *t);

/** Opens metrics.jsonl and records this start. Rank 0. @retval MST_EIO, MST_ENOMEM */
mst_status training_open_metrics(training *t);

/** Records a step, shows it, and names a rank that is slow. Rank 0. @param seconds it took
 * @retval MST_ELOST the lease is somebody else's: nothing is recorded; MST_EIO */
mst_status training_record_step(training *t, const mst_step_report *report, double seconds);

/** Finds out when this start has to stop, and says so. Rank 0 alone; asks Slurm, which takes 10 s at most. */
void training_know_end(training *t);

/** Whether the step about to begin has to be the last one, by the wall time. Not collective; rank 0 knows, others say no. */
bool training_is_last_step(training *t);

/** The failure of a run that stopped before its end, with the reason. Collective. @retval MST_ESTOPPED always, unless MST_EMPI */
mst_status training_stopped(training *t);

/** "walltime" or "signal", after training_stopped. Rank 0. */
const char *training_stop_reason(const training *t);

/** What the checkpoint room works with. @param phase must outlive it */
mst_checkpoint_context training_checkpoint_context(training *t, training_phase *phase);

/** Makes ready for saving. Collective. @retval MST_ENOMEM no memory for a copy of the state; MST_EIO */
mst_status training_open_saver(training *t);

/**
 * Begins to save the current state, or skips it, where the config says so and the save before is in flight.
 *
 * A save that fails gives a warning: the run goes on, the checkpoint before stays. It ends the run when the run needs
 * it: it is `final`, or a rollback must be able to go there.
 *
 * Collective. @param final the run ends here: returns when the checkpoint stands @retval as mst_saver_wait
 */
mst_status training_save(training *t, bool final);

/** Moves the save in flight on, if there is one; says and records what came of it. Collective. */
mst_status training_poll(training *t);

/** Waits for the save in flight, if there is one; says and records what came of it. Collective. */
mst_status training_settle(training *t);

/** Tells the user that held-out loss has left its best behind. Rank 0; others say nothing. */
void training_say_worse(training *t);

/** Tells the user that the last step did not reach the target, and where the run was nearest. Rank 0; others say nothing. */
void training_say_missed(training *t);

/** Tells the user, once, that device.graphs does not work here. Rank 0; others say nothing. */
void training_say_graphs(training *t);

/**
 * After a failure that all ranks know of: whether some leave, because their GPU is broken, and others can go on. The failure's message
 * is lost.
 *
 * Collective. @param l filled where somebody leaves, but for `saved`; freed by leave_clear
 */
void training_leave(training *t, leave *l);

/** Says and records who left before this start, and where it goes on. Collective, once the position is known. @retval MST_EIO */
mst_status training_say_left(training *t);

/** Whether the evaluation that was just made is among the best, so that the state is to be saved. Collective. */
mst_status training_is_best(training *t, bool *best_out);

/** Whether a checkpoint of this very state stands: after a rollback a step is met again with other samples. Not collective. */
bool training_is_saved(const training *t);

/** Digests of the current state; not computed again for the state that was saved last. Collective. */
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
 * Where adapters are trained: makes sure that the model that they adapt stands in the run folder, and reads it. Elsewhere nothing
 * happens. Collective. @retval MST_ECONFIG they are not the weights that the run began with; as mst_hf_open, mst_checkpoint_pack,
 * mst_checkpoint_weights
 */
mst_status training_open_base(training *t);

/**
 * Begins at step 0: with random weights, or with those that model.init names, which rank 0 says and records with their digest.
 *
 * Collective. The same bits on any number of ranks. @retval MST_ECONFIG they are another model's, or not those that this run began with
 * before; MST_EUNSUPPORTED, MST_EFORMAT, MST_EIO, MST_ENOMEM
 */
mst_status training_begin(training *t);

/**
 * Makes what devices choose (algorithms whose bits differ) the same on all ranks and in all starts: as the checkpoint or the
 * run folder has it recorded, or, for what it lacks and on another class of device, as rank 0's device chooses in a
 * microbatch that is computed for this alone. Records it. Does nothing where there is no choice, or ranks are mixed.
 *
 * Collective, after training_resume. @retval MST_EUNSUPPORTED a library no longer offers what is recorded; MST_EIO
 */
mst_status training_choose(training *t);

/** A failure for want of memory, once the data is open: its message with what would help. Not collective. @retval failure */
mst_status training_advise(training *t, mst_status failure);

/** Keeps what a checkpoint carries besides its state, so that the next ones carry it, too. Not collective: rank 0; others do nothing.
 * @param begins the run begins with these weights: a tokenizer that is not the data's is announced
 * @retval MST_EIO, MST_EFORMAT, MST_ENOMEM */
mst_status training_carry(training *t, const char *path, bool begins);

/**
 * Goes back to the newest checkpoint (or the initial values) and past the samples used so far, so that the
 * batch that did not give finite numbers is not met again. Collective. @retval MST_ENONFINITE after too many
 * rollbacks at the same place
 */
mst_status training_rollback(training *t);

#endif
