/*
 * What rank 0 does in a step beside computing, in processor time, on as many ranks as mpirun starts.
 *   bench_coordinator [STEPS]        rank 0 prints one line of JSON
 *
 * The steps are real ones (worker/step) of a tiny model, with the watchdog, and what the run's loop adds to them. Its clocks are
 * those of threads, so that other ranks on the same cores do not count. Waiting does not count either: rank 0 enters each call
 * of MPI only when all others are in it, and have been left time there; what it then spends is the call's own work.
 * Computing is taken off: the passes of the model, the gradients' sums, the optimizer's update. The linker puts the __wrap_
 * functions here in the place of the rooms' own (-Wl,--wrap).
 */
#include <mpi.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "metrics.h"
#include "muster/step.h"
#include "progress.h"

enum { CALLS_MAX = 256, STEPS_MAX = 200, WARM = 3, LANES = 64, SEQ_LEN = 16, MICRO = 1, IDLE_SECONDS = 3 };

/* ---- clocks ---- */

static double seconds_of(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double cpu(void) {
    return seconds_of(CLOCK_THREAD_CPUTIME_ID);
}

static void nap(double seconds) {
    const struct timespec pause = {.tv_sec = (time_t)seconds,
                                   .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&pause, NULL);
}

/* ---- calls of MPI, which rank 0 enters last ---- */

static atomic_int
    *arrivals; /* [ranks] calls that each rank has entered, in memory that all share; NULL: not counted */
static int rank, size, expected;
static double call_seconds[CALLS_MAX], wrapper_seconds; /* of this step */
static size_t calls;

/* Every other rank has entered its call of this number. Then they get time to go as far in it as they can alone. */
static void wait_for_others(void) {
    expected++;
    for (int r = 1; r < size; r++)
        while (atomic_load(&arrivals[r]) < expected) nap(0.0005);
    nap(0.02 + 0.002 * size);
}

static double enter(bool comes) {
    const double begin = cpu();
    if (arrivals != NULL && rank == 0 && comes) wait_for_others();
    if (arrivals != NULL && rank != 0 && comes) atomic_fetch_add(&arrivals[rank], 1);
    return begin;
}

/* A call that began at `inner` of a wrapper that began at `begin`. */
static void leave(double begin, double inner, bool further) {
    const double end = cpu();
    if (further && calls > 0)
        call_seconds[calls - 1] += end - inner; /* the next of a row of receives */
    else if (calls < CALLS_MAX)
        call_seconds[calls++] = end - inner;
    wrapper_seconds += cpu() - begin;
}

#define CALL(comes, further, call)                                                                           \
    const double begin = enter(comes);                                                                       \
    const double inner = cpu();                                                                              \
    const int result = (call);                                                                               \
    leave(begin, inner, further);                                                                            \
    return result

int MPI_Allreduce(const void *from, void *to, int count, MPI_Datatype type, MPI_Op op, MPI_Comm comm) {
    CALL(true, false, PMPI_Allreduce(from, to, count, type, op, comm));
}
int MPI_Bcast(void *data, int count, MPI_Datatype type, int root, MPI_Comm comm) {
    CALL(true, false, PMPI_Bcast(data, count, type, root, comm));
}
int MPI_Barrier(MPI_Comm comm) {
    CALL(true, false, PMPI_Barrier(comm));
}
int MPI_Allgatherv(const void *from, int count, MPI_Datatype type, void *to, const int *counts,
                   const int *places, MPI_Datatype to_type, MPI_Comm comm) {
    CALL(true, false, PMPI_Allgatherv(from, count, type, to, counts, places, to_type, comm));
}
int MPI_Send(const void *data, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm) {
    CALL(true, false, PMPI_Send(data, count, type, to, tag, comm));
}
int MPI_Recv(void *data, int count, MPI_Datatype type, int from, int tag, MPI_Comm comm, MPI_Status *status) {
    CALL(from == 1, from > 1,
         PMPI_Recv(data, count, type, from, tag, comm, status)); /* rank 0 gathers in order */
}

/* ---- computing, which is taken off ---- */

static double compute_seconds;
static int depth; /* a pass of the model also sums: counted once */

#define COMPUTE(call)                                                                                        \
    const double begin = cpu();                                                                              \
    depth++;                                                                                                 \
    const mst_status status = (call);                                                                        \
    if (--depth == 0) compute_seconds += cpu() - begin;                                                      \
    return status

mst_status __real_mst_model_train(mst_model *model, const mst_weight_source *weights, const int32_t *tokens,
                                  const int32_t *targets, const int32_t *starts, double loss_scale,
                                  double z_coefficient, const mst_gradient_sink *sink, mst_loss *loss_out);
mst_status __wrap_mst_model_train(mst_model *model, const mst_weight_source *weights, const int32_t *tokens,
                                  const int32_t *targets, const int32_t *starts, double loss_scale,
                                  double z_coefficient, const mst_gradient_sink *sink, mst_loss *loss_out);
mst_status __wrap_mst_model_train(mst_model *model, const mst_weight_source *weights, const int32_t *tokens,
                                  const int32_t *targets, const int32_t *starts, double loss_scale,
                                  double z_coefficient, const mst_gradient_sink *sink, mst_loss *loss_out) {
    COMPUTE(__real_mst_model_train(model, weights, tokens, targets, starts, loss_scale, z_coefficient, sink,
                                   loss_out));
}

mst_status __real_mst_exchange_begin_lane(mst_exchange *exchange, size_t round, size_t lane,
                                          void **gradients_out);
mst_status __wrap_mst_exchange_begin_lane(mst_exchange *exchange, size_t round, size_t lane,
                                          void **gradients_out);
mst_status __wrap_mst_exchange_begin_lane(mst_exchange *exchange, size_t round, size_t lane,
                                          void **gradients_out) {
    COMPUTE(__real_mst_exchange_begin_lane(exchange, round, lane, gradients_out));
}

mst_status __real_mst_optimizer_update(mst_optimizer *optimizer, size_t unit, const float *gradient,
                                       double gradient_scale, double rate, uint64_t update_count,
                                       void *unit_weights, mst_dtype weight_dtype);
mst_status __wrap_mst_optimizer_update(mst_optimizer *optimizer, size_t unit, const float *gradient,
                                       double gradient_scale, double rate, uint64_t update_count,
                                       void *unit_weights, mst_dtype weight_dtype);
mst_status __wrap_mst_optimizer_update(mst_optimizer *optimizer, size_t unit, const float *gradient,
                                       double gradient_scale, double rate, uint64_t update_count,
                                       void *unit_weights, mst_dtype weight_dtype) {
    COMPUTE(__real_mst_optimizer_update(optimizer, unit, gradient, gradient_scale, rate, update_count,
                                        unit_weights, weight_dtype));
}

/* No data: any tokens do. */
mst_status __wrap_mst_data_read(mst_data *data, mst_split split, uint64_t sample, size_t count,
                                int32_t *tokens, int32_t *targets, int32_t *starts);
mst_status __wrap_mst_data_read(mst_data *data, mst_split split, uint64_t sample, size_t count,
                                int32_t *tokens, int32_t *targets, int32_t *starts) {
    (void)data, (void)split, (void)starts;
    for (size_t i = 0; i < count * SEQ_LEN; i++) {
        tokens[i] = (int32_t)((sample + i) % 60);
        targets[i] = (int32_t)((sample + i + 1) % 60);
    }
    return MST_OK;
}

static mst_status (*real_sum)(mst_queue *queue, const mst_ordered_sum_args *args);
static mst_status timed_sum(mst_queue *queue, const mst_ordered_sum_args *args) {
    COMPUTE(real_sum(queue, args));
}

/* ---- the steps ---- */

typedef struct step_cost {
    double own;    /* outside MPI: order of losses, norms, checks */
    double mpi;    /* in its calls */
    double record; /* metrics and the live line */
} step_cost;

typedef struct bench {
    mst_comm *comm;
    mst_queue *queue;
    mst_kernels kernels;
    mst_watchdog *watchdog;
    mst_trainer *trainer;
    mst_metrics *metrics;
    mst_progress *progress;
} bench;

static void need(mst_status status) {
    if (status == MST_OK) return;
    fprintf(stderr, "bench_coordinator: %s\n", mst_error_message());
    exit(1);
}

static void open_bench(bench *b) {
    const mst_trainer_config config = {
        .model = {.family = MST_FAMILY_LLAMA,
                  .vocab_size = 4096, /* as many blocks as ranks */
                  .d_model = 64,
                  .n_layers = 2,
                  .n_heads = 8,
                  .n_kv_heads = 8,
                  .head_dim = 8,
                  .d_ff = 32,
                  .max_seq_len = SEQ_LEN,
                  .norm_eps = 1e-5,
                  .rope_theta = 1e4,
                  .init_deviation = 0.02},
        .shape = {.leaf = 1, .lanes = LANES, .rounds = 1, .wire = MST_F32},
        .transport = MST_TRANSPORT_AUTO,
        .micro = MICRO,
        .seq_len = SEQ_LEN,
        .precision = MST_F32,
        .optimizer = {.beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .clip_norm = 1},
        .schedule = {.kind = MST_SCHEDULE_CONSTANT, .peak = 1e-3, .steps = 1000000}};
    need(mst_queue_create(1, &b->queue));
    need(mst_kernels_open(MST_DEVICE_CPU, NULL, &b->kernels));
    real_sum = b->kernels.ordered_sum;
    b->kernels.ordered_sum = timed_sum;
    need(mst_watchdog_create(b->comm, 120, &b->watchdog));
    need(mst_trainer_create(&config, b->comm, NULL, b->queue, &b->kernels, b->watchdog, &b->trainer));
    need(mst_trainer_init(b->trainer));
    if (rank != 0) return;
    FILE *nowhere = fopen("/dev/null", "we");
    if (nowhere != NULL) need(mst_progress_begin(nowhere, &b->progress));
    need(mst_metrics_open("bench_coordinator.jsonl", &b->metrics));
    unlink("bench_coordinator.jsonl"); /* it is written all the same, and nothing is left behind */
}

/* What coordinator/run does after a step on rank 0. */
static mst_status record(bench *b, const mst_step_report *report) {
    if (rank != 0) return MST_OK;
    const mst_metrics_step_fields fields = {.report = report,
                                            .position = mst_trainer_position(b->trainer),
                                            .steps = 1000000,
                                            .seconds = 0.5,
                                            .tokens_per_second = 1000,
                                            .flops = 1e9,
                                            .peak_share = 0.5,
                                            .memory_bytes = mst_trainer_bytes(b->trainer)};
    mst_progress_step(b->progress, &fields);
    return mst_metrics_step(b->metrics, &fields);
}

static void one_step(bench *b, step_cost *cost_out) {
    mst_notice notice = {.elapsed = 1};
    mst_step_report report;
    calls = 0;
    wrapper_seconds = compute_seconds = 0;
    const double begin = cpu();
    need(mst_trainer_step(b->trainer, &notice, &report));
    const double stepped = cpu();
    const mst_status recorded = record(b, &report);
    const double written = cpu();
    need(mst_comm_agree(b->comm, recorded));
    mst_watchdog_waiting(b->watchdog, "step end", 0);
    need(mst_comm_agree(b->comm, MST_OK)); /* the loop's */
    const double end = cpu();
    *cost_out = (step_cost){.own = end - begin - wrapper_seconds - compute_seconds - (written - stepped),
                            .record = written - stepped};
}

static int by_value(const void *left, const void *right) {
    const double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

/* The lowest eighth: on a machine with fewer cores than ranks many calls meet somebody who had no turn yet. */
static double usual(double *values, size_t count) {
    qsort(values, count, sizeof *values, by_value);
    return values[count / 8];
}

/* Each call's usual time over the steps, added. */
static void measure_steps(bench *b, size_t steps, step_cost *cost_out, size_t *calls_out) {
    static double own[STEPS_MAX], records[STEPS_MAX], each[CALLS_MAX][STEPS_MAX];
    step_cost cost;
    for (size_t i = 0; i < WARM + steps; i++) {
        one_step(b, &cost);
        if (i < WARM) continue;
        own[i - WARM] = cost.own;
        records[i - WARM] = cost.record;
        for (size_t c = 0; c < calls; c++) each[c][i - WARM] = call_seconds[c];
    }
    *cost_out = (step_cost){.own = usual(own, steps), .record = usual(records, steps)};
    for (size_t c = 0; c < calls; c++) cost_out->mpi += usual(each[c], steps);
    *calls_out = calls;
}

/* Processor seconds a second of all threads but the main one, while that sleeps: heartbeats, and MPI's own. */
static double measure_idle(bench *b) {
    atomic_int *counted = arrivals;
    arrivals = NULL;
    need(mst_comm_barrier(b->comm));
    const double before = seconds_of(CLOCK_PROCESS_CPUTIME_ID), main_before = cpu();
    nap(IDLE_SECONDS);
    const double all = seconds_of(CLOCK_PROCESS_CPUTIME_ID) - before - (cpu() - main_before);
    need(mst_comm_barrier(b->comm));
    arrivals = counted;
    return all / IDLE_SECONDS;
}

/* A page that all ranks of this machine see. */
static void share_arrivals(const bench *b, MPI_Win *window_out) {
    MPI_Aint bytes;
    int unit;
    void *base;
    const MPI_Comm node = *(const MPI_Comm *)mst_comm_mpi(b->comm, true);
    MPI_Win_allocate_shared(rank == 0 ? (MPI_Aint)((size_t)size * sizeof *arrivals) : 0, 1, MPI_INFO_NULL,
                            node, &base, window_out);
    MPI_Win_shared_query(*window_out, 0, &bytes, &unit, &base);
    if (rank == 0) memset(base, 0, (size_t)size * sizeof *arrivals);
    PMPI_Barrier(node);
    arrivals = base;
}

int main(int argc, char **argv) {
    bench b = {0};
    step_cost cost;
    size_t counted;
    MPI_Win window = MPI_WIN_NULL;
    const size_t steps = argc > 1 ? strtoul(argv[1], NULL, 10) : 20;
    if (steps < 1 || steps > STEPS_MAX) {
        fprintf(stderr, "bench_coordinator: 1 to %d steps\n", STEPS_MAX);
        return 2;
    }
    need(mst_comm_create(&b.comm));
    rank = mst_comm_rank(b.comm);
    size = mst_comm_size(b.comm);
    if (mst_comm_node_size(b.comm) != size) {
        fprintf(stderr, "bench_coordinator: all ranks have to be on one machine\n");
        return 2;
    }
    open_bench(&b);
    if (size > 1) share_arrivals(&b, &window);
    measure_steps(&b, steps, &cost, &counted);
    const double threads = measure_idle(&b);
    arrivals = NULL;
    if (rank == 0)
        printf("{\"ranks\":%d,\"own_us\":%.3f,\"mpi_us\":%.3f,\"calls\":%zu,\"record_us\":%.3f,\"threads_us_"
               "per_second\":%.1f}\n",
               size, cost.own * 1e6, cost.mpi * 1e6, counted, cost.record * 1e6, threads * 1e6);
    mst_metrics_close(&b.metrics);
    mst_progress_end(&b.progress);
    mst_trainer_destroy(&b.trainer);
    mst_watchdog_destroy(&b.watchdog);
    mst_queue_destroy(&b.queue);
    if (window != MPI_WIN_NULL) MPI_Win_free(&window);
    mst_comm_destroy(&b.comm);
    return 0;
}
