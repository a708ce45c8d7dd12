/* RUN/metrics.jsonl: one JSON object a line, appended as the run goes. docs/metrics.md documents every field.
 */
#ifndef RUN_METRICS_H
#define RUN_METRICS_H

#include "muster/saver.h"
#include "muster/step.h"

typedef struct mst_metrics mst_metrics;

/* What is known after a step; the live line shows a part of it. */
typedef struct mst_metrics_step_fields {
    const mst_step_report *report;
    const mst_position *position; /* after the step */
    uint64_t steps;               /* of the whole run; 0: not known */
    double seconds;               /* that the step took */
    double tokens_per_second;
    double flops;        /* floating-point operations a second, of all ranks */
    double peak_share;   /* flops relative to the measured peak; 0: not known */
    size_t memory_bytes; /* that rank 0 allocated */
    size_t gpu_bytes;    /* in use on its GPU, whoever has them; 0: no GPU */
} mst_metrics_step_fields;

/* What a start of the run has to say. Texts may be NULL. */
typedef struct mst_metrics_start_fields {
    const char *run_id, *device_class, *transport;
    int ranks, threads;
    uint64_t parameters;
    double peak_flops; /* measured, of all ranks; 0: not known */
    size_t gpu_taken;  /* bytes of rank 0's GPU that were in use before it allocated any; 0: no GPU */
} mst_metrics_start_fields;

/**
 * Opens the file for appending, or makes it. A last line that a kill cut short is ended, so that it spoils no
 * other.
 *
 * Not collective; rank 0 only. metrics_out is closed by mst_metrics_close.
 * @retval MST_EIO, MST_ENOMEM
 */
mst_status mst_metrics_open(const char *path, mst_metrics **metrics_out);

/** Closes the file. Accepts NULL inside, resets the pointer. */
void mst_metrics_close(mst_metrics **metrics);

/*
 * Each appends one line with one write(), so that a reader and a kill see whole lines. Not collective;
 * allocate nothing. With NULL metrics they do nothing. @retval MST_EIO with the path and the system's text
 */
mst_status mst_metrics_start(mst_metrics *metrics, const mst_metrics_start_fields *fields);
mst_status mst_metrics_step(mst_metrics *metrics, const mst_metrics_step_fields *fields);
/** @param loss mean over `valid` held-out tokens, nats */
mst_status mst_metrics_eval(mst_metrics *metrics, uint64_t step, const mst_heldout *heldout);
/** Also makes everything so far durable (fdatasync). */
mst_status mst_metrics_checkpoint(mst_metrics *metrics, const mst_saved *saved);
/** A checkpoint could not be saved, and the run goes on. */
mst_status mst_metrics_checkpoint_failed(mst_metrics *metrics, uint64_t step, const char *reason);
/** The run went back to `step`: lines above with a greater step no longer count. */
mst_status mst_metrics_resume(mst_metrics *metrics, uint64_t step, const char *checkpoint);
/** The run began with weights from elsewhere. @param weights their digest, hexadecimal */
mst_status mst_metrics_init(mst_metrics *metrics, const char *path, const char *weights);
/** As resume, within a start of the run; the next batch begins at sample `samples`. */
mst_status mst_metrics_rollback(mst_metrics *metrics, uint64_t step, uint64_t samples);
/** The update of a step was left out. @param microbatch the first that is not finite; SIZE_MAX: only the sum
 * is */
mst_status mst_metrics_skip(mst_metrics *metrics, uint64_t step, size_t microbatch);
/** Lanes were dealt anew after `step`. @param lanes [ranks] of each rank, from then on */
mst_status mst_metrics_balance(mst_metrics *metrics, uint64_t step, const mst_rebalance *change,
                               const size_t *lanes, int ranks, const char *transport);
/* A rank that is slower than the others. */
typedef struct mst_metrics_straggler_fields {
    int rank;
    const char *host;
    double pace, median; /* seconds per microbatch: its own, the others' */
} mst_metrics_straggler_fields;
/** A rank was named for its slowness. */
mst_status mst_metrics_straggler(mst_metrics *metrics, uint64_t step,
                                 const mst_metrics_straggler_fields *fields);
/* A rank whose GPU is broken. */
typedef struct mst_metrics_leave_fields {
    int rank; /* of the start before this one */
    const char *host, *fault;
    int ranks; /* that go on */
} mst_metrics_leave_fields;
/** The run goes on from `step` without a rank. */
mst_status mst_metrics_leave(mst_metrics *metrics, uint64_t step, const mst_metrics_leave_fields *fields);
/** The process ends here. @param reason "done", "signal", "walltime" or "error" */
mst_status mst_metrics_stop(mst_metrics *metrics, uint64_t step, const char *reason);

#endif
