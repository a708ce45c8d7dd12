/* A run for which memory is short: what `muster plan` would change. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "muster/plan.h"
#include "training.h"

/* What would help, the best first. It need not be enough where others use the same memory, so at least a tenth is saved. */
static size_t find_changes(const training *t, mst_plan_advice *advice_out) {
    static const double enough = 0.9;
    mst_plan plan;
    size_t count = 0;
    mst_config config = t->config; /* what it points to stays t's */
    const double gpu = (double)t->device.kernels.memory;
    mst_machine machine = {.ranks = mst_comm_size(t->comm),
                           .nodes = mst_comm_nodes(t->comm),
                           .flops = t->peak > 0 ? t->peak / mst_comm_size(t->comm) : 1e12,
                           .utilisation = MST_PLAN_UTILISATION,
                           .bandwidth = 1.25e9,
                           .latency = 20e-6,
                           .disk = 1e9,
                           .driver = (double)t->device.taken};
    if (gpu > 0) config.device.kernels = MST_DEVICE_CUDA;
    if (mst_plan_make(&config, &machine, &plan) != MST_OK) return 0;
    const double programs = gpu > 0 ? 0 : plan.memory.program * mst_comm_node_size(t->comm);
    const double needed = gpu > 0 ? plan.device_bytes : plan.node_bytes;
    const double memory = gpu > 0 ? gpu : (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    const double less = enough * (needed - programs) + programs;
    plan.machine.memory = memory < less ? memory : less;
    plan.fits = false;
    if (mst_plan_advise(&config, &plan, advice_out, &count) != MST_OK) return 0;
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
