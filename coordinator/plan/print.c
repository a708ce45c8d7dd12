/* A plan in words. */
#include <math.h>

#include "muster/plan.h"
#include "muster/units.h"

typedef char text[MST_QUANTITY_TEXT];

static const char *bytes(double value, char *out) {
    return mst_quantity_text(MST_QUANTITY_BYTES, value, out);
}

static const char *seconds(double value, char *out) {
    return mst_quantity_text(MST_QUANTITY_SECONDS, value, out);
}

/* A run that is told auto takes the GPUs that it finds; the plan says which device it is for. */
static void put_device(const mst_config *config, FILE *file) {
    static const char *const devices[] = {
        [MST_DEVICE_CPU] = "CPU (device.kernels: cpu)",
        [MST_DEVICE_REF] = "CPU (device.kernels: ref)",
        [MST_DEVICE_CUDA] = "a GPU for each rank",
        [MST_DEVICE_AUTO] = "CPU (device.kernels: auto); --set device.kernels=cuda plans for GPUs"};
    fprintf(file, "device         %s\n", devices[config->device.kernels]);
}

static void put_memory(const mst_plan *plan, const mst_config *config, FILE *file) {
    const mst_plan_memory *m = &plan->memory;
    text a, b;
    const mst_sum_shape *shape = &config->batch.shape;
    const bool sharded = shape->sharding == MST_SHARDING_ALL && plan->machine.ranks > 1, gpu = m->host > 0;
    const bool shared = plan->transport == MST_TRANSPORT_SHM || plan->transport == MST_TRANSPORT_NODE;
    fprintf(file, "memory         of rank %d%s\n", plan->largest,
            plan->machine.ranks > 1 ? ", which needs most" : "");
    if (m->frozen > 0)
        fprintf(file, "  frozen       %-10s weights of the model that the adapters adapt, %s\n",
                bytes(m->frozen, a), mst_dtype_name(config->train.precision));
    fprintf(file, "  weights      %-10s %s, %s%s\n", bytes(m->weights, a),
            sharded ? "its shard, and units that are gathered" : "published",
            mst_dtype_name(config->train.precision), shared ? ", one copy for its node" : "");
    if (plan->slots == 0 && sharded)
        fprintf(file, "  gradients    %-10s of two units on their way, in %s, and its shard of the sum\n",
                bytes(m->gradients, a), mst_dtype_name(shape->wire));
    else
        fprintf(
            file, "  gradients    %-10s %zu partial sum%s of all gradients in %s, and its shard of the sum\n",
            bytes(m->gradients, a), plan->slots, plan->slots == 1 ? "" : "s", mst_dtype_name(shape->wire));
    if (m->received > 0)
        fprintf(file, "  received     %-10s its shard of the others' partial sums\n", bytes(m->received, a));
    const char *away = gpu && config->optimizer.offload ? ", in host memory" : "";
    static const char *const again[] = {"", ", outputs of norms and activation functions computed twice",
                                        ", of layers only their inputs"};
    fprintf(file, "  masters      %-10s fp32 weights of its shard%s\n", bytes(m->masters, a), away);
    fprintf(file, "  moments      %-10s of AdamW in %s, of its shard%s\n", bytes(m->moments, a),
            mst_dtype_name(config->optimizer.moments), away);
    fprintf(file, "  activations  %-10s of a microbatch of %zu x %zu tokens%s\n", bytes(m->activations, a),
            config->batch.micro, config->data.seq_len, again[config->train.recompute]);
    fprintf(file, "  logits       %-10s of these: %zu rows at a time%s\n",
            bytes((double)(plan->head_rows * config->model.vocab_size * sizeof(float)), a), plan->head_rows,
            config->train.head_rows == MST_CONFIG_AUTO ? ", chosen (train.head_rows: auto)" : "");
    if (gpu)
        fprintf(file, "  scratch      %-10s of kernels: the libraries' workspaces, sums over rows\n",
                bytes(m->scratch, a));
    if (m->workspaces > 0)
        fprintf(file, "  workspaces   %-10s pinned, for what goes to and from the GPU\n",
                bytes(m->workspaces, a));
    fprintf(file, "  saving       %-10s %s\n", bytes(m->snapshot, a),
            config->checkpoint.async ? "a copy of masters and moments, so that training goes on; digests"
            : gpu                    ? "a copy of masters and moments in fp32, which is written; digests"
                                     : "digests; no copy (checkpoint.async=false)");
    fprintf(file, "  other        %-10s norms, messages, alignment\n", bytes(m->other, a));
    fprintf(file, "  program      %-10s about: the process and its libraries\n", bytes(m->program, a));
    if (gpu)
        fprintf(file,
                "  host         %-10s all ranks of a node, of the CPU's memory: %s%sworkspaces, "
                "saving, other\n",
                bytes(plan->node_bytes, a), plan->transport == MST_TRANSPORT_NCCL ? "" : "received, ",
                *away ? "masters, moments, " : "");
    if (gpu)
        fprintf(file, "  driver       %-10s of the GPU, in use before muster allocates any; %s\n",
                bytes(plan->machine.driver, a),
                plan->machine.driver == MST_PLAN_DRIVER ? "an estimate" : "measured here");
    if (gpu)
        fprintf(file, "  GPU          %-10s the rest: what muster allocates there, and the driver's",
                bytes(plan->device_bytes, a));
    else
        fprintf(file, "  node         %-10s all ranks of the node that needs most",
                bytes(plan->node_bytes, a));
    if (plan->machine.memory > 0)
        fprintf(file, ", of %s: %s", bytes(plan->machine.memory, b), plan->fits ? "fits" : "does NOT fit");
    fputc('\n', file);
}

static void put_compute(const mst_plan *plan, const char *source, FILE *file) {
    text a, b;
    fprintf(file, "compute        %.3g GFLOP a token, %.3g TFLOP a step of %zu tokens (%zu microbatches)\n",
            plan->flops_per_token * 1e-9, plan->flops_per_step * 1e-12, plan->tokens_per_step,
            plan->microbatches);
    fprintf(file, "  at           %s a rank, %s, of which %.0f %% are reached\n",
            mst_quantity_text(MST_QUANTITY_FLOPS, plan->machine.flops, a), source,
            100 * plan->machine.utilisation);
    fprintf(file, "  seconds      %s: %zu microbatch%s of %s on the rank that has most\n",
            seconds(plan->compute_seconds, a), plan->rank_microbatches,
            plan->rank_microbatches == 1 ? "" : "es", seconds(plan->microbatch_seconds, b));
}

/* What of the gradients' time is not seen. */
static void put_hidden(const mst_plan *plan, FILE *file) {
    text a, b, c;
    fprintf(file, "  gradients    %s, %s", bytes(plan->sum_bytes, a), seconds(plan->sum_seconds, b));
    if (plan->exposed_seconds < 1e-9)
        fputs(": hidden behind backward\n", file);
    else
        fprintf(file, ": %s hidden behind backward, %s waited for\n", seconds(plan->hidden_seconds, a),
                seconds(plan->exposed_seconds, c));
}

static void put_exchange(const mst_plan *plan, FILE *file) {
    text a, b;
    fprintf(file, "exchange       transport %s", mst_transport_name(plan->transport));
    if (plan->machine.ranks == 1) {
        fputs(": one rank, nothing travels\n", file);
        return;
    }
    fprintf(file, "; a rank %s %s a step\n",
            plan->transport == MST_TRANSPORT_MPI || plan->transport == MST_TRANSPORT_NCCL ? "sends"
                                                                                          : "shares",
            bytes(plan->rank_bytes, a));
    if (plan->machine.nodes == 1) {
        fputs("               all within one node: no network; its time is not counted\n", file);
        return;
    }
    fprintf(file, "  link         of a node: %s each way, %s a message; %.0f messages a step\n",
            mst_quantity_text(MST_QUANTITY_LINK, plan->machine.bandwidth, a),
            seconds(plan->machine.latency, b), plan->messages);
    put_hidden(plan, file);
    fprintf(file, "  weights      %s, %s waited for\n", bytes(plan->publish_bytes, a),
            seconds(plan->publish_seconds, b));
    fprintf(file, "  agreement    %s\n", seconds(plan->agreement_seconds, a));
}

static void put_time(const mst_plan *plan, const mst_config *config, FILE *file) {
    text a, b;
    fprintf(file, "checkpoint     %s, %s at %s%s\n", bytes(plan->checkpoint_bytes, a),
            seconds(plan->checkpoint_seconds, b),
            mst_quantity_text(MST_QUANTITY_RATE, plan->machine.disk, (text){0}),
            config->checkpoint.async ? ", while training goes on" : "; training waits");
    fprintf(file, "step           %s", seconds(plan->step_seconds, a));
    if (plan->overhead_seconds > 0)
        fprintf(file, ", and %s for evaluations%s", seconds(plan->overhead_seconds, b),
                config->checkpoint.async ? "" : " and checkpoints");
    fprintf(file, "\nspeed          %.4g tokens/s, %.3g tokens a day\n", plan->tokens_per_second,
            plan->tokens_per_second * 86400);
    if (plan->steps == 0) {
        fprintf(file,
                "finish         after %g passes over the data; how many steps these are, is known when it is "
                "there\n",
                config->run.epochs);
        return;
    }
    fprintf(file, "finish         %llu steps, %.3g tokens: %s\n", (unsigned long long)plan->steps,
            (double)plan->steps * (double)plan->tokens_per_step, seconds(plan->finish_seconds, a));
}

/* What is compared with --memory, and of what that is. */
static double needed(const mst_plan *plan) {
    return plan->device_bytes > 0 ? plan->device_bytes : plan->node_bytes;
}
static const char *holder(const mst_plan *plan) {
    return plan->device_bytes > 0 ? "GPU" : "node";
}

static void put_advice(const mst_plan *plan, const mst_plan_advice *advice, size_t count, FILE *file) {
    text a;
    if (!plan->fits && count == 0)
        fputs("               no change of the batch makes it fit: use more or larger nodes, or a smaller "
              "model\n",
              file);
    for (size_t i = 0; i < count; i++)
        fprintf(file, "%-14s %s%s: %s (%.4g tokens/s, %s a %s)\n", i == 0 ? "try" : "",
                advice[i].change[0] == '-' ? "" : "--set ", advice[i].change, advice[i].why,
                advice[i].plan.tokens_per_second, bytes(needed(&advice[i].plan), a), holder(&advice[i].plan));
}

/* Where the seconds of a step go, in a sentence. */
static void put_verdict(const mst_plan *plan, FILE *file) {
    text a, b;
    const double busy = 100 * plan->compute_seconds / (plan->step_seconds + plan->overhead_seconds);
    fputs("verdict        ", file);
    if (!plan->fits)
        fprintf(file, "does not fit: a %s needs %s and has %s\n", holder(plan), bytes(needed(plan), a),
                bytes(plan->machine.memory, b));
    else if (plan->machine.memory > 0)
        fprintf(file, "fits, with %s of a %s to spare; ", bytes(plan->machine.memory - needed(plan), a),
                holder(plan));
    else
        fputs("whether it fits is not known without --memory; ", file);
    if (!plan->fits) return;
    fprintf(file, "%.0f %% of the time is computing\n", busy);
}

void mst_plan_print(const mst_plan *plan, const mst_config *config, const char *source,
                    const mst_plan_advice *advice, size_t advice_count, FILE *file) {
    const int ranks = plan->machine.ranks, nodes = plan->machine.nodes;
    fprintf(file, "model          %s, %zu layers, %.4g M parameters, %s\n",
            mst_family_name(config->model.family), plan->layers, (double)plan->parameters * 1e-6,
            mst_dtype_name(config->train.precision));
    if (plan->trained < plan->parameters)
        fprintf(file, "adapters       of rank %zu: %.4g M parameters are trained\n", config->lora.rank,
                (double)plan->trained * 1e-6);
    fprintf(file, "ranks          %d on %d node%s; the batch is leaf %zu x lanes %zu x rounds %zu\n", ranks,
            nodes, nodes == 1 ? "" : "s", config->batch.shape.leaf, config->batch.shape.lanes,
            config->batch.shape.rounds);
    if ((size_t)ranks > config->batch.shape.lanes)
        fprintf(file, "               only %zu of them compute: batch.lanes is %zu\n",
                config->batch.shape.lanes, config->batch.shape.lanes);
    put_device(config, file);
    put_memory(plan, config, file);
    put_compute(plan, source, file);
    put_exchange(plan, file);
    put_time(plan, config, file);
    put_verdict(plan, file);
    put_advice(plan, advice, advice_count, file);
}
