/* A plan as one line of JSON, in bytes and seconds. */
#include <jansson.h>
#include <stdlib.h>

#include "muster/plan.h"

static json_t *memory_of(const mst_plan *plan) {
    const mst_plan_memory *m = &plan->memory;
    return json_pack(
        "{s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}",
        "rank", plan->largest, "frozen", m->frozen, "weights", m->weights, "gradients", m->gradients,
        "received", m->received, "masters", m->masters, "moments", m->moments, "activations", m->activations,
        "scratch", m->scratch, "workspaces", m->workspaces, "saving", m->snapshot, "other", m->other,
        "program", m->program, "reported", mst_plan_reported(m), "first_reported", plan->first_bytes, "host",
        m->host, "driver", plan->device_bytes > 0 ? plan->machine.driver : 0, "device", plan->device_bytes,
        "node", plan->node_bytes);
}

static json_t *exchange_of(const mst_plan *plan) {
    return json_pack("{s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "transport",
                     mst_transport_name(plan->transport), "rank_bytes", plan->rank_bytes, "gradient_bytes",
                     plan->sum_bytes, "weight_bytes", plan->publish_bytes, "messages", plan->messages,
                     "gradient_seconds", plan->sum_seconds, "hidden_seconds", plan->hidden_seconds,
                     "exposed_seconds", plan->exposed_seconds, "weight_seconds", plan->publish_seconds,
                     "agreement_seconds", plan->agreement_seconds);
}

static json_t *machine_of(const mst_plan *plan, const char *source) {
    const mst_machine *m = &plan->machine;
    return json_pack("{s:i, s:i, s:f, s:f, s:s, s:f, s:f, s:f, s:f}", "ranks", m->ranks, "nodes", m->nodes,
                     "memory", m->memory, "flops", m->flops, "flops_are", source, "utilisation",
                     m->utilisation, "bandwidth", m->bandwidth, "latency", m->latency, "disk", m->disk);
}

static json_t *advice_of(const mst_plan_advice *advice, size_t count) {
    json_t *list = json_array();
    for (size_t i = 0; i < count && list != NULL; i++)
        json_array_append_new(list,
                              json_pack("{s:s, s:s, s:f, s:f}", "change", advice[i].change, "why",
                                        advice[i].why, "tokens_per_second", advice[i].plan.tokens_per_second,
                                        "node_bytes", advice[i].plan.node_bytes));
    return list;
}

mst_status mst_plan_print_json(const mst_plan *plan, const mst_config *config, const char *source,
                               const mst_plan_advice *advice, size_t advice_count, FILE *file) {
    mst_status status = MST_OK;
    json_t *line = json_pack(
        "{s:s, s:I, s:I, s:s, s:o, s:I, s:o, s:f, s:f, s:f, s:f, s:o, s:f, s:f, s:f, s:f, s:I, s:f, s:I, "
        "s:f, "
        "s:b, "
        "s:o}",
        "family", mst_family_name(config->model.family), "parameters", (json_int_t)plan->parameters,
        "trained", (json_int_t)plan->trained, "device",
        config->device.kernels == MST_DEVICE_CUDA ? "gpu" : "cpu", "machine", machine_of(plan, source),
        "head_rows", (json_int_t)plan->head_rows, "memory", memory_of(plan), "flops_per_token",
        plan->flops_per_token, "flops_per_step", plan->flops_per_step, "microbatch_seconds",
        plan->microbatch_seconds, "compute_seconds", plan->compute_seconds, "exchange", exchange_of(plan),
        "checkpoint_bytes", plan->checkpoint_bytes, "checkpoint_seconds", plan->checkpoint_seconds,
        "step_seconds", plan->step_seconds, "overhead_seconds", plan->overhead_seconds, "tokens_per_step",
        (json_int_t)plan->tokens_per_step, "tokens_per_second", plan->tokens_per_second, "steps",
        (json_int_t)plan->steps, "finish_seconds", plan->finish_seconds, "fits", plan->fits, "try",
        advice_of(advice, advice_count));
    char *printed = line != NULL ? json_dumps(line, JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(12)) : NULL;
    MST_CHECK(printed != NULL, MST_ENOMEM, "plan: out of memory");
    fprintf(file, "%s\n", printed);
done:
    free(printed);
    json_decref(line);
    return status;
}
