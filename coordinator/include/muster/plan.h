/* What a run would take on machines that need not be there: memory, seconds, days; and whether it fits. */
#ifndef MUSTER_PLAN_H
#define MUSTER_PLAN_H

#include <stdio.h>

#include "muster/config.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Where nobody says what share of its matrix products' speed a step reaches; docs/plan.md has what was measured. */
#define MST_PLAN_UTILISATION 0.8

/* Rows of logits at a time on a CPU, and the fewest that are chosen for a GPU. */
#define MST_PLAN_HEAD_ROWS 256

/* What a GPU's driver is thought to take of its memory for each process where that was not measured: an estimate, bytes. */
#define MST_PLAN_DRIVER (512.0 * 1048576)

/* The machines, as declared. */
typedef struct mst_machine {
    int ranks, nodes;   /* ranks stand on nodes in order, as even as may be */
    double memory;      /* bytes of a node, or with device.kernels cuda of a rank's GPU; 0: not said */
    double flops;       /* of large matrix products on one rank, FLOP/s */
    double utilisation; /* share of it that forward and backward reach */
    double bandwidth;   /* of a node's link, bytes/s each way; of no matter with one node */
    double latency;     /* of a message between nodes, seconds */
    double disk;        /* of the file system of checkpoints, all nodes together, bytes/s */
    double
        driver; /* bytes of each GPU that are in use before muster allocates any; without a GPU of no matter */
} mst_machine;

/* Bytes of one rank by purpose. All but `scratch`, `program` and `host` is what the run reports as memory_bytes. */
typedef struct mst_plan_memory {
    double
        frozen; /* weights of a model whose adapters alone are trained, in the compute type; shared as those */
    double weights;   /* published, in the compute type; ranks of one node that share memory have one copy */
    double gradients; /* partial sums and the owned shards of the sum */
    double received;  /* shards of other ranks' partial sums */
    double masters;   /* fp32 weights of the owned shards */
    double moments;   /* of the owned shards */
    double activations; /* of a microbatch */
    double scratch;     /* of kernels on a GPU: the matrix library's workspace, partial sums */
    double workspaces; /* pinned memory between a GPU and microbatches, MPI, or an optimizer in host memory */
    double snapshot;   /* what saving keeps: a copy of masters and moments, digests, buffers */
    double other;      /* norms, requests, alignment */
    double program;    /* about: the process with its libraries, which no run reports as its own */
    double
        host; /* what of all this is not on the rank's device: with device.kernels cuda, the CPU's memory */
} mst_plan_memory;

typedef struct mst_plan {
    mst_machine machine;
    mst_transport transport; /* that a run would choose */
    size_t trained;          /* of the parameters: all, or the adapters' */
    size_t parameters, layers, tokens_per_step, microbatches, lanes; /* lanes: the most that a rank has */
    size_t rank_microbatches; /* the most that a rank computes in a step */
    size_t slots;             /* whole gradients that wait on the rank that has most */
    size_t head_rows;         /* of logits at a time: as the config has it, or chosen */
    uint64_t steps;           /* 0: not known, for run.epochs without the data */

    int largest;            /* the rank that needs most memory */
    mst_plan_memory memory; /* of it */
    double first_bytes;     /* that rank 0 will report of itself: memory_bytes of metrics.jsonl */
    double
        node_bytes; /* of the node that needs most, programs included; with device.kernels cuda what is not on GPUs */
    double device_bytes; /* of the GPU that needs most, with machine.driver; 0: device.kernels is not cuda */

    double flops_per_token, flops_per_step;
    double microbatch_seconds, compute_seconds; /* of the rank that has most to do */

    /* Between nodes, a step; of the node whose link has most to do. */
    double sum_bytes, publish_bytes, messages; /* each way, at most */
    double sum_seconds;                        /* of gradients on the link */
    double hidden_seconds, exposed_seconds;    /* while microbatches are computed, and after them */
    double publish_seconds;                    /* of weights: nothing is computed meanwhile */
    double rank_bytes;                         /* that a rank sends to others, wherever they are, at most */
    double agreement_seconds;                  /* small messages that end a step */

    double checkpoint_bytes, checkpoint_seconds;
    double evaluation_seconds; /* of one evaluation */
    double overhead_seconds;   /* of evaluations, and checkpoints that training waits for, per step */

    double step_seconds, tokens_per_second, finish_seconds;
    bool fits; /* in machine.memory; true when that is not said */
} mst_plan;

/**
 * Rows of logits that a new run has at a time, and keeps for good: the config's number; where that is MST_CONFIG_AUTO, on a CPU
 * MST_PLAN_HEAD_ROWS, and on a GPU the largest power of two times so many that is at most a sixteenth of a microbatch's, halved down
 * to them while a rank does not fit into machine->memory. The driver counts as MST_PLAN_DRIVER, for what is measured may differ from
 * start to start.
 *
 * Not collective: the same arguments give the same number.
 * @param config complete, with its vocabulary; a GPU is meant where device.kernels is cuda
 * @param machine ranks, nodes and memory count
 * @retval as mst_plan_make
 */
mst_status mst_plan_head_rows(const mst_config *config, const mst_machine *machine, uint64_t *rows_out);

/**
 * Computes a plan. Not collective; allocates nothing that it plans for.
 * @param config complete, with its vocabulary
 * @retval MST_ECONFIG fewer ranks than nodes, a transport that these nodes do not allow; MST_ENOMEM
 */
mst_status mst_plan_make(const mst_config *config, const mst_machine *machine, mst_plan *plan_out);

/** Bytes of one rank, as mst_plan_make sums them up where memory is not said. Not collective. @retval as there */
mst_status mst_plan_memory_of(const mst_config *config, int ranks, int nodes, int rank,
                              mst_plan_memory *memory_out);
/** All of it that a run reports of itself: without `scratch` and `program`, wherever it is. */
double mst_plan_reported(const mst_plan_memory *memory);

/* A change of the config that helps. */
typedef struct mst_plan_advice {
    char change[384]; /* "batch.wire=bf16": what --set takes */
    char why[160];
    mst_plan plan; /* with it */
} mst_plan_advice;

enum { MST_PLAN_ADVICE_MAX = 16 };

/** Changes that make a plan fit, or, when it does, that make a step at least 5 % shorter; the best first.
 * Not collective. @param advice_out [MST_PLAN_ADVICE_MAX] */
mst_status mst_plan_advise(const mst_config *config, const mst_plan *plan, mst_plan_advice *advice_out,
                           size_t *count_out);

/** Prints a plan for people. @param source of the FLOP/s, such as "declared" */
void mst_plan_print(const mst_plan *plan, const mst_config *config, const char *source,
                    const mst_plan_advice *advice, size_t advice_count, FILE *file);
/** Prints it as one line of JSON. @retval MST_ENOMEM */
mst_status mst_plan_print_json(const mst_plan *plan, const mst_config *config, const char *source,
                               const mst_plan_advice *advice, size_t advice_count, FILE *file);

#ifdef __cplusplus
}
#endif
#endif
