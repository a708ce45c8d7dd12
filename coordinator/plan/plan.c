/* A plan: memory of all ranks, seconds of a step, days of a run. */
#include "muster/plan.h"

#include <math.h>

#include "exchange.h"
#include "memory.h"

static size_t lanes_of(const mst_config *config, int rank, int ranks) {
    size_t first, count;
    mst_lanes_of(config->batch.shape.lanes, rank, ranks, &first, &count);
    return count;
}

/* What a pass computes besides the FLOPs that count: a forward pass of all layers but the last. */
static double recomputed_share(const mst_config *config, const mst_flops *flops) {
    if (config->train.recompute != MST_RECOMPUTE_FULL) return 0;
    const double head = 6.0 * (double)config->model.vocab_size * (double)config->model.d_model;
    const double all = flops->dense + flops->attention, layers = (double)config->model.n_layers;
    return (all - head) / 3 * (layers - 1) / layers / all;
}

static void plan_compute(const mst_config *config, const plan_layouts *layouts, mst_plan *plan) {
    const mst_sum_shape *shape = &config->batch.shape;
    const mst_flops flops = plan_flops(config, layouts);
    const double tokens = (double)(config->batch.micro * config->data.seq_len);
    for (int rank = 0; rank < plan->machine.ranks; rank++) {
        const size_t lanes = lanes_of(config, rank, plan->machine.ranks);
        if (lanes > plan->lanes) plan->lanes = lanes;
    }
    plan->microbatches = shape->leaf * shape->lanes * shape->rounds;
    plan->rank_microbatches = shape->leaf * plan->lanes * shape->rounds;
    plan->tokens_per_step = plan->microbatches * config->batch.micro * config->data.seq_len;
    plan->flops_per_token = flops.dense + flops.attention;
    plan->flops_per_step = plan->flops_per_token * (double)plan->tokens_per_step;
    plan->microbatch_seconds = (1 + recomputed_share(config, &flops)) * plan->flops_per_token * tokens /
                               (plan->machine.flops * plan->machine.utilisation);
    plan->compute_seconds = plan->microbatch_seconds * (double)plan->rank_microbatches;
}

/* The share of steps after which a checkpoint is begun. */
static double checkpoints_per_step(const mst_config *config, double step_seconds) {
    double often = 0;
    if (config->checkpoint.every > 0) often = 1.0 / (double)config->checkpoint.every;
    if (config->checkpoint.minutes > 0)
        often = fmax(often, fmin(1, step_seconds / (60 * config->checkpoint.minutes)));
    return often;
}

static void plan_overhead(const mst_config *config, const mst_layout *layout, mst_plan *plan) {
    const double step =
        plan->compute_seconds + plan->exposed_seconds + plan->publish_seconds + plan->agreement_seconds;
    plan->checkpoint_bytes = 3.0 * (double)layout->parameters * sizeof(float);
    plan->checkpoint_seconds = plan->checkpoint_bytes / plan->machine.disk;
    /* Forward only: a third of a microbatch's operations; dealt to the ranks. */
    plan->evaluation_seconds =
        ceil((double)config->train.eval_batches / plan->machine.ranks) * plan->microbatch_seconds / 3;
    if (config->train.eval_every > 0)
        plan->overhead_seconds += plan->evaluation_seconds / (double)config->train.eval_every;
    if (!config->checkpoint.async)
        plan->overhead_seconds += plan->checkpoint_seconds * checkpoints_per_step(config, step);
    plan->step_seconds = step;
}

mst_status mst_plan_make(const mst_config *config, const mst_machine *machine, mst_plan *plan_out) {
    mst_status status = MST_OK;
    plan_layouts layouts = {0};
    mst_config planned = *config; /* what it points to is the config's */
    mst_plan plan = {.machine = *machine, .steps = config->run.steps, .layers = config->model.n_layers};
    MST_TRY(mst_plan_head_rows(config, machine, &planned.train.head_rows));
    MST_TRY(plan_layouts_init(config, &layouts));
    plan.parameters = layouts.model.parameters;
    plan.trained = layouts.trained.parameters;
    MST_TRY(plan_memory(&planned, &layouts, &plan));
    plan_compute(config, &layouts, &plan);
    MST_TRY(plan_exchange(config, &layouts, &plan));
    plan_overhead(config, &layouts.trained, &plan);
    const double all = plan.step_seconds + plan.overhead_seconds;
    plan.tokens_per_second = (double)plan.tokens_per_step / all;
    plan.finish_seconds = all * (double)plan.steps;
    *plan_out = plan;
done:
    plan_layouts_clear(&layouts);
    return status;
}
