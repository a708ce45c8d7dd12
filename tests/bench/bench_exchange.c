/*
 * The ordered exchange of 64 MiB between the ranks of one node beside MPI's reductions of the same array, in turns.
 *   mpirun -n 2 bench_exchange [ROUNDS]     rank 0 prints one line of JSON: seconds of each, the median of the rounds
 *
 * "ordered" is the exchange's round as a step does it: both ranks' gradients stand in shared memory, each owner finishes the
 * tree of its half in order. MPI_Reduce_scatter_block does the matching half in another order; MPI_Allreduce gives
 * everyone everything, so the exchange is timed with the publishing of the sum's result in fp32 beside it.
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "muster/exchange.h"

enum { BYTES = 64 << 20, COUNT = BYTES / sizeof(float), ROUNDS_MAX = 100 };

static void need(mst_status status) {
    if (status == MST_OK) return;
    fprintf(stderr, "bench_exchange: %s\n", mst_error_message());
    MPI_Abort(MPI_COMM_WORLD, 1);
}

typedef struct bench {
    mst_comm *comm;
    mst_queue *queue;
    mst_kernels kernels;
    mst_layout layout; /* of one unit of one tensor */
    mst_tensor tensor;
    mst_unit unit;
    mst_exchange *exchange;
    float *from, *to;
} bench;

static void open_bench(bench *b) {
    const int size = mst_comm_size(b->comm);
    const mst_sum_shape shape = {.leaf = 1, .lanes = (size_t)size, .rounds = 1, .wire = MST_F32};
    void *from, *to;
    b->tensor = (mst_tensor){.name = "all", .dims = 1, .shape = {COUNT, 1}, .count = COUNT};
    b->unit = (mst_unit){.name = "all", .tensors = 1, .blocks = COUNT / MST_BLOCK};
    b->layout = (mst_layout){.tensors = &b->tensor,
                             .tensor_count = 1,
                             .units = &b->unit,
                             .unit_count = 1,
                             .blocks = COUNT / MST_BLOCK,
                             .parameters = COUNT};
    need(mst_queue_create(1, &b->queue));
    need(mst_kernels_open(MST_DEVICE_CPU, NULL, &b->kernels));
    need(mst_exchange_create(b->comm, MST_TRANSPORT_SHM, &shape, NULL, MST_F32, &b->layout, b->queue,
                             &b->kernels, &b->exchange));
    need(mst_memory_alloc(MST_SPACE_HOST, BYTES, &from));
    need(mst_memory_alloc(MST_SPACE_HOST, BYTES, &to));
    b->from = from;
    b->to = to;
    for (size_t i = 0; i < COUNT; i++) b->from[i] = (float)(i % 1000 + (size_t)mst_comm_rank(b->comm));
}

/* The sum of a round; every rank's lane is filled before the clock starts. Checks what came out. */
static double ordered(bench *b, double *published_out) {
    void *gradient;
    need(mst_exchange_begin_lane(b->exchange, 0, (size_t)mst_comm_rank(b->comm), &gradient));
    memcpy(gradient, b->from, BYTES);
    MPI_Barrier(MPI_COMM_WORLD);
    const double begin = MPI_Wtime();
    need(mst_exchange_unit_done(b->exchange, 0));
    need(mst_exchange_end_round(b->exchange, 0));
    const double summed = MPI_Wtime();
    size_t first, blocks;
    mst_shard_range(&b->unit, mst_comm_rank(b->comm), mst_comm_size(b->comm), &first, &blocks);
    const float *sum = mst_exchange_gradient(b->exchange, 0);
    float *weights = mst_exchange_weights(b->exchange, 0);
    memcpy(weights + first * MST_BLOCK, sum, blocks * MST_BLOCK * sizeof *sum);
    need(mst_exchange_publish(b->exchange));
    *published_out = MPI_Wtime() - begin;
    const size_t size = (size_t)mst_comm_size(b->comm);
    for (size_t i = 0; i < COUNT; i += 997)
        if (weights[i] != (float)(size * (i % 1000) + size * (size - 1) / 2))
            need(mst_error(MST_EINTERNAL, "element %zu of the sum is %g", i, weights[i]));
    return summed - begin;
}

static double slowest(double seconds) {
    double most;
    MPI_Reduce(&seconds, &most, 1, MPI_DOUBLE, MPI_MAX, 0, MPI_COMM_WORLD);
    return most;
}

static int by_size(const void *left, const void *right) {
    const double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static double middle(double *seconds, int count) {
    qsort(seconds, (size_t)count, sizeof *seconds, by_size);
    return seconds[count / 2];
}

int main(int argc, char **argv) {
    bench b = {0};
    static double sum[ROUNDS_MAX], all[ROUNDS_MAX], allreduce[ROUNDS_MAX], scatter[ROUNDS_MAX];
    const int rounds = argc > 1 ? atoi(argv[1]) : 9;
    need(mst_comm_create(&b.comm));
    if (rounds < 1 || rounds > ROUNDS_MAX || mst_comm_nodes(b.comm) != 1 || mst_comm_size(b.comm) < 2) {
        fprintf(stderr, "bench_exchange: on two or more ranks of one node, 1 to %d rounds\n", ROUNDS_MAX);
        mst_comm_destroy(&b.comm);
        return 2;
    }
    open_bench(&b);
    for (int round = -1; round < rounds; round++) { /* the first warms up */
        const int at = round < 0 ? 0 : round;
        double published;
        const double summed = ordered(&b, &published);
        sum[at] = slowest(summed);
        all[at] = slowest(published);
        MPI_Barrier(MPI_COMM_WORLD);
        double begin = MPI_Wtime();
        MPI_Allreduce(b.from, b.to, COUNT, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
        allreduce[at] = slowest(MPI_Wtime() - begin);
        MPI_Barrier(MPI_COMM_WORLD);
        begin = MPI_Wtime();
        MPI_Reduce_scatter_block(b.from, b.to, COUNT / mst_comm_size(b.comm), MPI_FLOAT, MPI_SUM,
                                 MPI_COMM_WORLD);
        scatter[at] = slowest(MPI_Wtime() - begin);
    }
    if (mst_comm_rank(b.comm) == 0)
        printf("{\"ordered\":%.9f,\"ordered_published\":%.9f,\"allreduce\":%.9f,\"reduce_scatter\":%.9f,"
               "\"bytes\":%d}\n",
               middle(sum, rounds), middle(all, rounds), middle(allreduce, rounds), middle(scatter, rounds),
               BYTES);
    mst_exchange_destroy(&b.exchange);
    void *memory = b.from;
    mst_memory_free(MST_SPACE_HOST, &memory);
    memory = b.to;
    mst_memory_free(MST_SPACE_HOST, &memory);
    mst_queue_destroy(&b.queue);
    mst_comm_destroy(&b.comm);
    return 0;
}
