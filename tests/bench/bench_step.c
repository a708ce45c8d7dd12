/*
 * Real steps of a model on this rank alone, with a clock around every kernel; then the matrix products of the
 * same step once more, alone: as fast as a step could be if all else were free.
 *
 *   bench_step CONFIG.yaml [KEY=VALUE...]    for each line on standard input: a step, one line of JSON;
 *                                            for "step" a step by itself, for "count" too, which instructions.py counts;
 *                                            for "steps N" N of them without clocks inside, one line of JSON with their
 *                                            seconds and the memory in use
 *   bench_step --version                     what counts of instructions belong to
 *
 * The steps are the trainer's (worker/step), on random tokens of the whole vocabulary. The products are called again in the
 * order of the step and on the step's own memory, so weights and activations are as cold as they are there.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cost.h"
#include "muster/clock.h"
#include "muster/config.h"
#include "muster/plan.h"
#include "muster/random.h"

enum { PRODUCTS_MAX = 1 << 16, SHAPES_MAX = 256 };

static void need(mst_status status) {
    if (status == MST_OK) return;
    fprintf(stderr, "bench_step: %s\n", mst_error_message());
    exit(1);
}

/* ---- a clock around every kernel ---- */

typedef struct slot_total {
    size_t calls;
    double seconds, bytes[BENCH_WAYS], flops;
} slot_total;

static mst_kernels real; /* the table that is measured */
static struct {
#define TOTAL(slot, args_type, count) slot_total slot;
    BENCH_SLOTS(TOTAL)
#undef TOTAL
} totals;

static mst_matmul_args *products; /* of the step, in order */
static size_t product_count;

static void count_call(slot_total *total, double seconds, bench_cost cost) {
    total->calls++;
    total->seconds += seconds;
    total->bytes[cost.way] += cost.bytes;
    total->flops += cost.flops;
}

static bool clocked; /* else a GPU's kernels follow each other without a wait */

/* A GPU works on behind the call: a kernel's clock begins and ends when it is idle. */
static double idle(mst_queue *queue) {
    if (clocked && mst_memory_is_apart()) need(mst_queue_sync(queue));
    return mst_clock_now();
}

#define TIMED(slot, args_type, count)                                                                        \
    static mst_status timed_##slot(mst_queue *queue, const args_type *args) {                                \
        const bench_cost cost = count(args);                                                                 \
        const double begin = idle(queue);                                                                    \
        const mst_status status = real.slot(queue, args);                                                    \
        count_call(&totals.slot, idle(queue) - begin, cost);                                                 \
        return status;                                                                                       \
    }
BENCH_SLOTS(TIMED)
#undef TIMED

static mst_status recorded_matmul(mst_queue *queue, const mst_matmul_args *args) {
    if (product_count < PRODUCTS_MAX) products[product_count++] = *args;
    return timed_matmul(queue, args);
}

static mst_kernels timed_table(void) {
    mst_kernels table = real;
#define REPLACE(slot, args_type, count) table.slot = timed_##slot;
    BENCH_SLOTS(REPLACE)
#undef REPLACE
    table.matmul = recorded_matmul;
    return table;
}

/* ---- the products alone, by shape ---- */

typedef struct shape {
    mst_matmul_args args; /* of the first call */
    size_t calls;
    double seconds;
} shape;

static bool same_shape(const mst_matmul_args *a, const mst_matmul_args *b) {
    return a->m == b->m && a->n == b->n && a->k == b->k && a->a_transposed == b->a_transposed &&
           a->b_transposed == b->b_transposed && a->lda == b->lda && a->ldb == b->ldb && a->ldc == b->ldc &&
           a->c_dtype == b->c_dtype && a->accumulate == b->accumulate &&
           (a->bias == NULL) == (b->bias == NULL);
}

static shape *shape_of(shape *shapes, size_t *count, const mst_matmul_args *args) {
    for (size_t i = 0; i < *count; i++)
        if (same_shape(&shapes[i].args, args)) return &shapes[i];
    if (*count == SHAPES_MAX) need(mst_error(MST_EINTERNAL, "more than %d shapes of products", SHAPES_MAX));
    shapes[*count] = (shape){.args = *args};
    return &shapes[(*count)++];
}

/* The products of the last step once more; returns their seconds together. */
static double replay(mst_queue *queue, shape *shapes, size_t *count_out) {
    double all = 0;
    *count_out = 0;
    for (size_t i = 0; i < product_count; i++) {
        shape *s = shape_of(shapes, count_out, &products[i]);
        const double begin = idle(queue);
        need(real.matmul(queue, &products[i]));
        const double seconds = idle(queue) - begin;
        s->calls++;
        s->seconds += seconds;
        all += seconds;
    }
    return all;
}

/* ---- the steps ---- */

static size_t vocabulary, sequence;

/* Takes the place of the room's own (-Wl,--wrap): random tokens, the same in every process. */
mst_status __wrap_mst_data_read(mst_data *data, mst_split split, uint64_t sample, size_t count,
                                int32_t *tokens, int32_t *targets, int32_t *starts);
mst_status __wrap_mst_data_read(mst_data *data, mst_split split, uint64_t sample, size_t count,
                                int32_t *tokens, int32_t *targets, int32_t *starts) {
    (void)data, (void)split, (void)starts;
    uint32_t bits[4];
    for (size_t i = 0; i < count * sequence; i++) {
        if (i % 4 == 0) mst_random_bits(1, MST_RANDOM_TEST, sample, i, bits); /* a GPU waits meanwhile */
        tokens[i] = (int32_t)((uint64_t)bits[i % 4] * vocabulary >> 32);
        targets[i] = (int32_t)((double)vocabulary - 1 - tokens[i]);
    }
    return MST_OK;
}

static mst_trainer_config trainer_config(const mst_config *config) {
    return (mst_trainer_config){.model = config->model,
                                .attention_workspace = mst_config_attention_workspace(config),
                                .shape = config->batch.shape,
                                .transport = config->batch.transport,
                                .micro = config->batch.micro,
                                .seq_len = config->data.seq_len,
                                .precision = config->train.precision,
                                .recompute = config->train.recompute,
                                .head_rows = config->train.head_rows,
                                .optimizer = config->optimizer,
                                .schedule = config->schedule,
                                .seed = config->run.seed};
}

/* As a run of this one rank has them. */
static void choose_head_rows(mst_config *config) {
    const mst_machine machine = {.ranks = 1, .nodes = 1, .memory = (double)real.memory};
    if (real.memory > 0) config->device.kernels = MST_DEVICE_CUDA;
    need(mst_plan_head_rows(config, &machine, &config->train.head_rows));
}

static void print_slots(void) {
    const char *comma = "";
    printf("\"kernels\":{");
#define PRINT(slot, args_type, count)                                                                        \
    if (totals.slot.calls > 0) {                                                                             \
        printf("%s\"" #slot "\":{\"calls\":%zu,\"seconds\":%.9f,\"bytes\":{\"in_place\":%.0f,"               \
               "\"elsewhere\":%.0f,\"only_reads\":%.0f},\"flops\":%.0f}",                                    \
               comma, totals.slot.calls, totals.slot.seconds, totals.slot.bytes[BENCH_IN_PLACE],             \
               totals.slot.bytes[BENCH_ELSEWHERE], totals.slot.bytes[BENCH_ONLY_READS], totals.slot.flops);  \
        comma = ",";                                                                                         \
    }
    BENCH_SLOTS(PRINT)
#undef PRINT
    printf("}");
}

static void print_shapes(const shape *shapes, size_t count) {
    printf("\"products\":[");
    for (size_t i = 0; i < count; i++) {
        const mst_matmul_args *a = &shapes[i].args;
        printf("%s{\"m\":%zu,\"n\":%zu,\"k\":%zu,\"a\":\"%c\",\"b\":\"%c\",\"lda\":%zu,\"ldb\":%zu,\"ldc\":%"
               "zu,\"c\":\"%s\",\"add\":%d,\"calls\":%zu,\"seconds\":%.9f}",
               i > 0 ? "," : "", a->m, a->n, a->k, a->a_transposed ? 'T' : 'N', a->b_transposed ? 'T' : 'N',
               a->lda, a->ldb, a->ldc, mst_dtype_name(a->c_dtype), a->accumulate, shapes[i].calls,
               shapes[i].seconds);
    }
    printf("]");
}

static void one_round(mst_trainer *trainer, mst_queue *queue) {
    static shape shapes[SHAPES_MAX];
    size_t count;
    mst_notice notice = {0};
    mst_step_report report;
    memset(&totals, 0, sizeof totals);
    product_count = 0;
    clocked = true;
    const double begin = mst_clock_now();
    need(mst_trainer_step(trainer, &notice, &report));
    const double step = mst_clock_now() - begin;
    const double alone = replay(queue, shapes, &count);
    clocked = false;
    printf("{\"step_seconds\":%.9f,\"loss\":%.9g,\"products_seconds\":%.9f,", step, report.loss, alone);
    print_slots();
    printf(",");
    print_shapes(shapes, count);
    printf("}\n");
    fflush(stdout);
}

static void only_step(mst_trainer *trainer) {
    mst_notice notice = {0};
    mst_step_report report;
    need(mst_trainer_step(trainer, &notice, &report));
}

/* Bytes in use on the GPU, whoever has them. */
static size_t gpu_bytes(void) {
    size_t room, all;
    need(mst_memory_room(&room, &all));
    return all - room;
}

static size_t taken_before; /* of them, before this process allocated any */

static void plain_steps(mst_trainer *trainer, const mst_kernels *table, long count) {
    const mst_flops flops = mst_trainer_flops(trainer);
    const size_t tokens = mst_trainer_samples_per_step(trainer) * sequence;
    mst_step_report report = {0};
    printf("{\"device\":\"%s\",\"tokens\":%zu,\"flops_per_token\":%.0f,\"seconds\":[", table->class_name,
           tokens, flops.dense + flops.attention);
    for (long i = 0; i < count; i++) {
        mst_notice notice = {0};
        const double begin = mst_clock_now();
        need(mst_trainer_step(trainer, &notice, &report));
        printf("%s%.9f", i > 0 ? "," : "", mst_clock_now() - begin);
    }
    printf("],\"loss\":%.9g,\"memory_bytes\":%zu,\"gpu_before\":%zu,\"gpu_bytes\":%zu}\n", report.loss,
           mst_trainer_bytes(trainer), taken_before, gpu_bytes());
    fflush(stdout);
}

/* Not inlined: callgrind knows it by its name. */
__attribute__((noinline)) static void counted_round(mst_trainer *trainer) {
    only_step(trainer);
}

static void obey(const char *line, mst_trainer *trainer, mst_queue *queue) {
    if (strcmp(line, "count\n") == 0)
        counted_round(trainer);
    else if (strcmp(line, "step\n") == 0)
        only_step(trainer);
    else if (strncmp(line, "steps ", 6) == 0)
        plain_steps(trainer, &real, strtol(line + 6, NULL, 10));
    else
        one_round(trainer, queue);
}

static int print_version(void) {
    need(mst_kernels_open(MST_DEVICE_CPU, "x86-64-v3", &real));
    const char *end = strstr(real.class_name, "-l2=");
    printf("compiler %s, %.*s\n", __VERSION__,
           end ? (int)(end - real.class_name) : (int)strlen(real.class_name), real.class_name);
    return 0;
}

int main(int argc, char **argv) {
    mst_config config;
    mst_comm *comm = NULL;
    mst_queue *queue = NULL;
    mst_trainer *trainer = NULL;
    if (argc < 2) {
        fprintf(stderr, "bench_step CONFIG.yaml [KEY=VALUE...]\n");
        return 2;
    }
    if (strcmp(argv[1], "--version") == 0) return print_version();
    need(mst_config_load(argv[1], (const char *const *)argv + 2, (size_t)argc - 2, stderr, &config));
    products = calloc(PRODUCTS_MAX, sizeof *products);
    if (products == NULL) need(mst_error(MST_ENOMEM, "no memory for %d products", PRODUCTS_MAX));
    vocabulary = config.model.vocab_size;
    sequence = config.data.seq_len;
    need(mst_comm_create_alone(&comm));
    need(mst_kernels_open(config.device.kernels, config.device.level, &real));
    choose_head_rows(&config);
    taken_before = gpu_bytes();
    need(mst_queue_create(config.device.threads > 0 ? config.device.threads : 1, &queue));
    mst_kernels table = timed_table();
    const mst_trainer_config trained = trainer_config(&config);
    need(mst_trainer_create(&trained, comm, NULL, queue, &table, NULL, &trainer));
    need(mst_trainer_init(trainer));
    for (char line[16]; fgets(line, sizeof line, stdin) != NULL;) obey(line, trainer, queue);
    mst_trainer_destroy(&trainer);
    mst_queue_destroy(&queue);
    mst_comm_destroy(&comm);
    mst_config_clear(&config);
    free(products);
    return 0;
}
