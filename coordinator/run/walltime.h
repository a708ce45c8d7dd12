/* Wall time: when a start of a run has to stop, so that its checkpoint stands before its job ends. Rank 0 decides. */
#ifndef RUN_WALLTIME_H
#define RUN_WALLTIME_H

#include <stdbool.h>
#include <stddef.h>

/* Seconds since training began, where nothing else is said. The costs are the largest of late; 0: not measured yet. */
typedef struct walltime {
    double end; /* when the job ends or the time is used up; INFINITY: never */
    double step, save, evaluation;
    double save_guess; /* counts until a save is measured */
    bool up;           /* walltime_is_up said so */
    bool of_job;       /* the end is that of the job, not of run.minutes */
    char clock[40];    /* the end as a person reads it: "14:05 UTC" */
} walltime;

/* What is still to be done after the step that is about to begin, in numbers of each. */
typedef struct walltime_ahead {
    unsigned evaluations, saves;
} walltime_ahead;

/**
 * Takes the earlier one of the job's end and of run.minutes.
 *
 * Not collective: rank 0.
 * @param minutes since training began; 0: no such limit
 * @param job_end seconds since 1970; INFINITY: the job has no end, or there is none
 * @param elapsed now
 * @param save_bytes of a checkpoint: 200 MB/s are taken for granted until one is measured
 */
void walltime_begin(walltime *w, double minutes, double job_end, double elapsed, double save_bytes);

/* A cost that was measured. A later smaller one lowers what is expected, slowly. */
void walltime_step(walltime *w, double seconds);
void walltime_save(walltime *w, double seconds);
void walltime_evaluation(walltime *w, double seconds);

/** Seconds that the step about to begin, one more after it, and what is ahead may take:
 * 1.5 times the largest of late, and 5 s for the end of the process. */
double walltime_needs(const walltime *w, walltime_ahead ahead);

/** Whether the step about to begin has to be the last one: after one more, what is ahead would not be done in time. */
bool walltime_is_up(walltime *w, double elapsed, walltime_ahead ahead);

/**
 * When the batch job of this process ends, in seconds since 1970: SLURM_JOB_END_TIME, else what scontrol says within 10 s.
 *
 * Not collective. @return INFINITY: it has no end, this is no Slurm job, or nobody could say; then why_out says why, else ""
 */
double walltime_job_end(char *why_out, size_t room);

#endif
