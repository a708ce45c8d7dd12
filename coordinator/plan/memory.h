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

/** Fills what of a plan is memory of its machine's ranks, and whether it fits. @param config with its rows of logits chosen
 * @retval MST_ECONFIG, MST_ENOMEM */
mst_status plan_memory(const mst_config *config, const plan_layouts *layouts, mst_plan *plan);

#endif
