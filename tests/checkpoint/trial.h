/* A run of a very small model that a test kills or lets fail: its files, and what they must say. */
#ifndef TEST_TRIAL_H
#define TEST_TRIAL_H

#include "job.h"

typedef struct trial {
    const char *muster, *shim;
    char folder[JOB_PATH_MAX];
    char config[JOB_PATH_MAX], run[JOB_PATH_MAX], checkpoints[JOB_PATH_MAX], metrics[JOB_PATH_MAX];
    char output[JOB_PATH_MAX], mark[JOB_PATH_MAX]; /* of the newest job; of the fault that struck */
    char digests[JOB_DIGESTS_MAX];                 /* of the run that nothing befell */
} trial;

/**
 * Makes the data, a config of `steps` steps with a checkpoint every `every`, the newest `keep` of which are kept,
 * and takes the digests of a run that nothing befalls; its metrics.jsonl stays as FOLDER/whole.jsonl.
 *
 * @retval 0; what the test ends with else: 77 where mpirun is missing, 1 where that run fails
 */
int trial_create(trial *t, const char *name, const char *muster, const char *shim, int steps, int every,
                 int keep);

/** Starts `muster train` on the run. @param setting for --set, NULL: none @param fault NULL: none */
pid_t trial_start(const trial *t, int ranks, const char *setting, const job_fault *fault);

/** What the shim said: the call and the path that the fault met. call_out [16], path_out [JOB_PATH_MAX].
 * @retval false it has not struck */
bool trial_struck(const trial *t, char *call_out, char *path_out);

/**
 * Runs `muster verify` on every checkpoint that is listed, which must find them good.
 *
 * @param steps_out [most] their steps, newest first
 * @param refused_out [JOB_PATH_MAX] one that it refused, or ""
 * @retval how many there are
 */
size_t trial_verify(const trial *t, uint64_t *steps_out, size_t most, char *refused_out);

/** A name in a folder that has this beginning (or, with at_end, this end), "" if none. name_out [JOB_PATH_MAX] */
void trial_find(const char *folder, const char *part, bool at_end, char *name_out);

#endif
