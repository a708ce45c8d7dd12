/* A run for which memory is short: what `muster plan` would change. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "muster/plan.h"
#include "training.h"

/* Memory for a node's ranks, bytes: their GPUs' and what their programs take beside these, or the system's. */
static double node_memory(const training *t, double programs) {
    if (t->device.kernels.memory > 0)
        return (double)t->device.kernels.memory * mst_comm_node_size(t->comm) + programs;
    return (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
}

/* What would help, the best first. It need not be enough where others use the same memory, so at least a tenth is saved. */
static size_t find_changes(const training *t, mst_plan_advice *advice_out) {
    static const double enough = 0.9;
    mst_plan plan;
    size_t count = 0;
    mst_machine machine = {.ranks = mst_comm_size(t->comm),
                           .nodes = mst_comm_nodes(t->comm),
                           .flops = t->peak > 0 ? t->peak / mst_comm_size(t->comm) : 1e12,
                           .utilisation = MST_PLAN_UTILISATION,
                           .bandwidth = 1.25e9,
                           .latency = 20e-6,
                           .disk = 1e9};
    if (mst_plan_make(&t->config, &machine, &plan) != MST_OK) return 0;
    const double programs = plan.memory.program * mst_comm_node_size(t->comm);
    const double memory = node_memory(t, programs), less = enough * (plan.node_bytes - programs) + programs;
    plan.machine.memory = memory < less ? memory : less;
    plan.fits = false;
    if (mst_plan_advise(&t->config, &plan, advice_out, &count) != MST_OK) return 0;
    return count;
}

mst_status training_advise(training *t, mst_status failure) {
    enum { SAID = 3 };
    mst_plan_advice advice[MST_PLAN_ADVICE_MAX];
    char text[2048], one[sizeof advice->change + sizeof advice->why + 64];
    if (failure != MST_ENOMEM || t->data == NULL) return failure;
    snprintf(text, sizeof text, "%s", mst_error_message());
    const size_t count = find_changes(t, advice);
    for (size_t i = 0; i < count && i < SAID; i++) {
        snprintf(one, sizeof one, "%s--set %.255s (%.159s)", i == 0 ? "; 'muster plan' advises " : ", or ",
                 advice[i].change, advice[i].why);
        strncat(text, one, sizeof text - strlen(text) - 1);
    }
    return mst_error(failure, "%s", text);
}
