/* Rows of logits that the planner chooses for a new run (train.head_rows: auto). */
#include "muster/plan.h"
#include "test.h"

static const char text[] = "run: {name: rows, steps: 8}\n"
                           "model: {vocab_size: 50000, d_model: 64, n_layers: 2, n_heads: 4}\n"
                           "data: {sources: [none.h5], seq_len: %d}\n"
                           "batch: {micro: %d, lanes: 4}\n"
                           "schedule: {kind: constant, peak: 1e-3}\n"
                           "train: {head_rows: %s}\n"
                           "device: {kernels: %s}\n";

static mst_config config_of(int micro, int seq_len, const char *rows, const char *kernels) {
    mst_config config = {0};
    char filled[1024];
    snprintf(filled, sizeof filled, text, seq_len, micro, rows, kernels);
    CHECK_OK(mst_config_parse(filled, "rows.yaml", NULL, 0, stderr, &config));
    return config;
}

static uint64_t chosen(const mst_config *config, double memory, int ranks) {
    const mst_machine machine = {.ranks = ranks, .nodes = 1, .memory = memory};
    uint64_t rows = 0;
    CHECK_OK(mst_plan_head_rows(config, &machine, &rows));
    return rows;
}

/* By the microbatch and the device alone, where memory is not short. */
static void test_rule(void) {
    static const struct {
        int micro, seq_len;
        const char *given, *kernels;
        uint64_t rows;
    } cases[] = {
        {1, 32, "auto", "cpu", 256},     {64, 4096, "auto", "cpu", 256},   {64, 4096, "auto", "ref", 256},
        {1, 32, "auto", "cuda", 256}, /* a whole microbatch: 32 */
        {4, 1024, "auto", "cuda", 256},  {511, 16, "auto", "cuda", 256},   {512, 16, "auto", "cuda", 512},
        {12, 1024, "auto", "cuda", 512}, {16, 1024, "auto", "cuda", 1024}, {64, 4096, "auto", "cuda", 16384},
        {16, 1024, "300", "cuda", 300},  {16, 1024, "0", "cuda", 0},       {16, 1024, "1", "cpu", 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mst_config config = config_of(cases[i].micro, cases[i].seq_len, cases[i].given, cases[i].kernels);
        const uint64_t unknown = chosen(&config, 0, 1), ample = chosen(&config, 1e15, 3);
        CHECK(unknown == cases[i].rows && ample == cases[i].rows, "case %zu: %llu and %llu rows, not %llu", i,
              (unsigned long long)unknown, (unsigned long long)ample, (unsigned long long)cases[i].rows);
        mst_config_clear(&config);
    }
}

/* Bytes of a GPU with this number; the driver as it is estimated. */
static double device_bytes(mst_config config, uint64_t rows, int ranks) {
    const mst_machine machine = {.ranks = ranks, .nodes = 1, .driver = MST_PLAN_DRIVER};
    mst_plan plan = {0};
    config.train.head_rows = rows;
    CHECK_OK(mst_plan_make(&config, &machine, &plan));
    CHECK(plan.head_rows == rows, "%zu rows", plan.head_rows);
    return plan.device_bytes;
}

/* The largest number that fits, to the byte; the smallest where none does. */
static void test_memory(int ranks) {
    mst_config config = config_of(64, 1024, "auto", "cuda");
    for (uint64_t rows = 512; rows <= 4096; rows *= 2) {
        const double need = device_bytes(config, rows, ranks);
        CHECK(need > device_bytes(config, rows / 2, ranks), "%llu rows need more than half as many",
              (unsigned long long)rows);
        CHECK(chosen(&config, need, ranks) == rows, "%llu rows fit", (unsigned long long)rows);
        CHECK(chosen(&config, need - 1, ranks) == rows / 2, "%llu rows lack a byte",
              (unsigned long long)rows);
    }
    CHECK(chosen(&config, 1, ranks) == 256, "nothing fits");
    mst_config_clear(&config);
}

/* A plan is that of the chosen number, which does not depend on what the driver was measured to have. */
static void test_plan(void) {
    mst_config config = config_of(64, 1024, "auto", "cuda");
    const double need = device_bytes(config, 1024, 1);
    mst_machine machine = {.ranks = 1, .nodes = 1, .memory = need, .driver = MST_PLAN_DRIVER};
    mst_plan plan;
    CHECK_OK(mst_plan_make(&config, &machine, &plan));
    CHECK(plan.head_rows == 1024 && plan.fits && plan.device_bytes == need, "%zu rows, %.0f of %.0f bytes",
          plan.head_rows, plan.device_bytes, need);
    machine.driver += 1;
    CHECK_OK(mst_plan_make(&config, &machine, &plan));
    CHECK(plan.head_rows == 1024 && !plan.fits, "%zu rows, with a larger driver", plan.head_rows);
    mst_config_clear(&config);
}

int main(void) {
    test_rule();
    test_memory(1);
    test_memory(3);
    test_plan();
    return test_finish("test_head_rows");
}
