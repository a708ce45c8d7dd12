/* What is planned for, and memory of ranks. Private to the room. */
#ifndef PLAN_MEMORY_H
#define PLAN_MEMORY_H

#include "muster/forecast.h"
#include "muster/plan.h"

/** The transport that a run would choose, if /dev/shm is large enough. @retval MST_ECONFIG the config's does
 * not allow these nodes */
mst_status plan_transport(const mst_config *config, int ranks, int nodes, mst_transport *transport_out);

/* Layouts of the model, and of what is trained of it: the same, or its adapters. */
typedef struct plan_layouts {
    mst_layout model, trained;
} plan_layouts;

/** Cleared by plan_layouts_clear. @retval MST_ENOMEM, MST_ECONFIG */
mst_status plan_layouts_init(const mst_config *config, plan_layouts *layouts_out);
void plan_layouts_clear(plan_layouts *layouts);

/** Of a trained token. */
mst_flops plan_flops(const mst_config *config, const plan_layouts *layouts);

/* What a microbatch takes, the same on all ranks; bytes. */
typedef struct plan_pass {
    double activations;
    double scratch; /* of kernels, on a GPU */
} plan_pass;

/** @retval MST_ENOMEM, MST_ECONFIG */
mst_status plan_pass_memory(const mst_config *config, const mst_layout *model, plan_pass *pass_out);

mst_status plan_rank_memory(const mst_config *config, const plan_layouts *layouts, mst_transport transport,
                            plan_pass pass, mst_placement place, int rank, mst_plan_memory *memory_out,
                            size_t *slots_out);

#endif
