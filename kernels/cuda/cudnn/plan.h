/* From a graph to kernels: an engine of the library with the values of its knobs, which is what gets recorded. Private to this folder. */
#ifndef MST_CUDNN_PLAN_H
#define MST_CUDNN_PLAN_H

#include "graph.h"

enum { KNOBS_MAX = 32 };

/* By which the library names an algorithm of one version of itself. */
typedef struct cudnn_algorithm {
    int64_t engine;
    size_t knob_count;
    struct {
        int64_t type, value;
    } knobs[KNOBS_MAX];
} cudnn_algorithm;

typedef struct cudnn_plan {
    workshop w; /* has all that the plan rests on */
    descriptor plan;
    size_t workspace; /* bytes */
} cudnn_plan;

/** The plan of an algorithm for a kind.
 * @return whether it is there, to be cleared by the caller with mst_cudnn_clear(&plan_out->w) */
bool mst_cudnn_plan(const cudnn_place *place, const attention_kind *kind, const cudnn_algorithm *algorithm,
                    cudnn_plan *plan_out);

/** The first of those that the library proposes that adds in one order, has a plan, and needs at most `workspace` bytes.
 * @return whether there is one */
bool mst_cudnn_choose(const cudnn_place *place, const attention_kind *kind, size_t workspace,
                      cudnn_algorithm *algorithm_out, cudnn_plan *plan_out);

#endif
