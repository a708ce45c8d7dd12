/*
 * When gradients pass the links between nodes: each node's link takes the units' partial sums in the order in which
 * backward completes them, one after the other; what it has not passed when the last microbatch is done, all wait for.
 */
#include "exchange.h"

#include <math.h>
#include <stdlib.h>

#include "muster/forecast.h"

/* Of a microbatch: forward computes a third, backward two thirds (2 and 4 operations a weight). */
static const double forward_share = 1.0 / 3;

/* What backward has done of its work when the units' gradients are complete: the head, the layers from the last to the
 * first, the embedding; of adapters the layers alone. done_out [units] */
static void backward_progress(const mst_config *config, const plan_layouts *layouts, double *done_out) {
    const bool adapters = config->lora.rank > 0;
    const mst_flops flops = plan_flops(config, layouts);
    const double all = flops.dense + flops.attention, layers = (double)config->model.n_layers;
    const double head =
        (adapters ? 4.0 : 6.0) * (double)config->model.vocab_size * (double)config->model.d_model;
    const double layer = (all - head) / layers;
    double done = head;
    if (!adapters) done_out[layouts->trained.unit_count - 1] = head / all;
    for (size_t number = config->model.n_layers; number-- > 0;) {
        done += layer;
        done_out[number + !adapters] = done / all;
    }
    if (!adapters) done_out[0] = 1;
}

static double seconds_of(const mst_link_load *load, const mst_machine *machine) {
    const double bytes = fmax(load->out, load->in);
    return bytes > 0 ? bytes / machine->bandwidth + machine->latency : 0;
}

/* The rounds of one node's link. */
static void follow_link(const mst_traffic *traffic, size_t node, const double *done, const mst_config *config,
                        mst_plan *plan) {
    const double microbatch = plan->microbatch_seconds, leaf = (double)config->batch.shape.leaf;
    const double rounds = (double)config->batch.shape.rounds;
    double free_at = 0, busy = 0, bytes_out = 0, bytes_in = 0, messages = 0;
    for (size_t lane = 0; lane < traffic->lanes; lane++)
        for (size_t unit = traffic->units; unit-- > 0;) {
            const mst_link_load *load =
                &traffic->round[(node * traffic->lanes + lane) * traffic->units + unit];
            const double spent = seconds_of(load, &plan->machine);
            if (spent == 0) continue;
            const double ready = ((double)(lane + 1) * leaf - 1) * microbatch +
                                 (forward_share + (1 - forward_share) * done[unit]) * microbatch;
            free_at = fmax(free_at, ready) + spent;
            busy += spent;
            bytes_out += load->out;
            bytes_in += load->in;
            messages += load->messages;
        }
    const double exposed = fmax(0, free_at - (double)traffic->lanes * leaf * microbatch) * rounds;
    plan->sum_bytes = fmax(plan->sum_bytes, fmax(bytes_out, bytes_in) * rounds);
    plan->messages = fmax(plan->messages, messages * rounds + traffic->publish[node].messages);
    plan->sum_seconds = fmax(plan->sum_seconds, busy * rounds);
    plan->exposed_seconds = fmax(plan->exposed_seconds, exposed);
}

/* Weights, which nothing hides. */
static void follow_publish(const mst_traffic *traffic, size_t node, mst_plan *plan) {
    const mst_link_load *load = &traffic->publish[node];
    const double bytes = fmax(load->out, load->in);
    if (bytes == 0) return;
    plan->publish_bytes = fmax(plan->publish_bytes, bytes);
    plan->publish_seconds = fmax(plan->publish_seconds, bytes / plan->machine.bandwidth +
                                                            traffic->publish_hops * plan->machine.latency);
}

/* How often all weights travel in a step: once, published; or in every pass, gathered forward and back. */
static mst_status publish_times(const mst_config *config, const mst_layout *layout, const mst_plan *plan,
                                double *times_out) {
    mst_status status = MST_OK;
    size_t blocks = 0;
    *times_out = 1;
    if (config->batch.shape.sharding != MST_SHARDING_ALL || plan->machine.ranks == 1) goto done;
    MST_TRY(mst_gathered_blocks_of(layout, &blocks));
    *times_out = (double)blocks / (double)layout->blocks * (double)plan->rank_microbatches;
done:
    return status;
}

/* Gathered one unit ahead: what takes longer than computing is waited for. */
static void follow_gathers(double times, mst_plan *plan) {
    plan->publish_bytes *= times;
    plan->publish_seconds = fmax(0, plan->publish_seconds * times - plan->compute_seconds);
}

/* Small collectives of a step (worker/step/step.c): three agreements a round, then gathered losses, notices, norm, and the
 * agreements around them. Each goes up and down a tree. */
static double agreement(const mst_config *config, const mst_plan *plan) {
    const double calls = 3.0 * (double)config->batch.shape.rounds + 8;
    return plan->machine.nodes > 1 ? calls * 2 * ceil(log2(plan->machine.nodes)) * plan->machine.latency : 0;
}

mst_status plan_exchange(const mst_config *config, const plan_layouts *layouts, mst_plan *plan) {
    mst_status status = MST_OK;
    const mst_layout *layout = &layouts->trained;
    mst_traffic traffic = {0}, apart = {0};
    double *done = calloc(layout->unit_count, sizeof *done);
    const mst_sum_shape *shape = &config->batch.shape;
    const int ranks = plan->machine.ranks;
    double times;
    MST_CHECK(done != NULL, MST_ENOMEM, "plan: no memory for %zu units", layout->unit_count);
    backward_progress(config, layouts, done);
    MST_TRY(publish_times(config, layout, plan, &times));
    MST_TRY(mst_traffic_of(plan->transport, shape, config->train.precision, layout,
                           (mst_placement){ranks, plan->machine.nodes}, &traffic));
    for (size_t node = 0; node < traffic.nodes; node++) {
        follow_link(&traffic, node, done, config, plan);
        follow_publish(&traffic, node, plan);
    }
    plan->hidden_seconds = plan->sum_seconds - plan->exposed_seconds;
    plan->agreement_seconds = agreement(config, plan);
    /* A rank alone on its node sends what a rank sends wherever the others are. */
    MST_TRY(mst_traffic_of(MST_TRANSPORT_MPI, shape, config->train.precision, layout,
                           (mst_placement){ranks, ranks}, &apart));
    for (size_t rank = 0; rank < apart.nodes; rank++) {
        double sent = 0;
        for (size_t i = 0; i < apart.lanes * apart.units; i++)
            sent += apart.round[rank * apart.lanes * apart.units + i].out;
        plan->rank_bytes =
            fmax(plan->rank_bytes, sent * (double)shape->rounds + apart.publish[rank].out * times);
    }
    if (config->batch.shape.sharding == MST_SHARDING_ALL) follow_gathers(times, plan);
done:
    mst_traffic_clear(&traffic);
    mst_traffic_clear(&apart);
    free(done);
    return status;
}
