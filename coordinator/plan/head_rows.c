/* Rows of logits that exist at a time, of a new run that leaves them to the planner (train.head_rows: auto). */
#include "memory.h"

enum { LEAST = MST_PLAN_HEAD_ROWS, SHARE = 16 };

/* The largest power of two times LEAST that is at most a SHARE-th of a microbatch's rows; at least LEAST. */
static uint64_t most_rows(const mst_config *config) {
    const uint64_t allowed = (uint64_t)config->batch.micro * config->data.seq_len / SHARE;
    uint64_t rows = LEAST;
    while (2 * rows <= allowed) rows *= 2;
    return rows;
}

/* Halves `rows` down to LEAST as long as a GPU's memory does not suffice. */
static mst_status fit(const mst_config *config, const mst_machine *machine, uint64_t *rows) {
    mst_status status = MST_OK;
    mst_config tried = *config; /* what it points to is the config's */
    plan_layouts layouts = {0};
    MST_TRY(plan_layouts_init(config, &layouts));
    while (*rows > LEAST) {
        mst_plan plan = {.machine = *machine};
        plan.machine.driver = MST_PLAN_DRIVER;
        tried.train.head_rows = *rows;
        MST_TRY(plan_memory(&tried, &layouts, &plan));
        if (plan.fits) break;
        *rows /= 2;
    }
done:
    plan_layouts_clear(&layouts);
    return status;
}

mst_status mst_plan_head_rows(const mst_config *config, const mst_machine *machine, uint64_t *rows_out) {
    mst_status status = MST_OK;
    const bool gpu = config->device.kernels == MST_DEVICE_CUDA;
    uint64_t rows = config->train.head_rows;
    if (rows == MST_CONFIG_AUTO) {
        rows = gpu ? most_rows(config) : LEAST;
        if (rows > LEAST && machine->memory > 0) MST_TRY(fit(config, machine, &rows));
    }
    *rows_out = rows;
done:
    return status;
}
