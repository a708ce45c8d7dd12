/*
 * What this machine can do, in the process settings of muster: bandwidth of memory, and the speed of large square products.
 *
 *   bench_machine THREADS [LEVEL]    for each line on standard input: one line of JSON
 *
 * Bandwidth is STREAM's triad, a = b + s c, in bytes that are needed (12 an element): once with plain stores, for which the
 * processor also reads what it overwrites (then 16 bytes travel), once with stores past the cache; and a += s b in place, which
 * needs no such reading. And bytes that are only read and summed.
 */
#include <stdio.h>
#include <stdlib.h>

#include "muster/clock.h"
#include "muster/kernels.h"

enum { ELEMENTS = 1 << 25, TASKS = 256, RUNS = 3, SIDES = 2 };
static const size_t sides[SIDES] = {1024, 2048};

static void need(mst_status status) {
    if (status == MST_OK) return;
    fprintf(stderr, "bench_machine: %s\n", mst_error_message());
    exit(1);
}

/* ---- bandwidth ---- */

typedef float quad __attribute__((vector_size(16)));

typedef struct arrays {
    float *a, *b, *c;
} arrays;

enum { PART = ELEMENTS / TASKS };

static mst_status plain_task(void *context, size_t task, int thread) {
    const arrays *x = context;
    float *restrict a = x->a + task * PART;
    const float *restrict b = x->b + task * PART, *restrict c = x->c + task * PART;
    (void)thread;
    for (size_t i = 0; i < PART; i++) a[i] = b[i] + 0.5f * c[i];
    return MST_OK;
}

static void store_past_cache(float *to, quad value) {
#if defined(__clang__)
    __builtin_nontemporal_store(value, (quad *)(void *)to);
#elif defined(__x86_64__)
    __builtin_ia32_movntps(to, value);
#else
    *(quad *)(void *)to = value;
#endif
}

static mst_status past_cache_task(void *context, size_t task, int thread) {
    const arrays *x = context;
    const size_t first = task * PART;
    (void)thread;
    for (size_t i = first; i < first + PART; i += sizeof(quad) / sizeof(float)) {
        quad b, c;
        __builtin_memcpy(&b, x->b + i, sizeof b);
        __builtin_memcpy(&c, x->c + i, sizeof c);
        store_past_cache(x->a + i, b + 0.5f * c);
    }
    return MST_OK;
}

static mst_status in_place_task(void *context, size_t task, int thread) {
    const arrays *x = context;
    float *restrict a = x->a + task * PART;
    const float *restrict b = x->b + task * PART;
    (void)thread;
    for (size_t i = 0; i < PART; i++) a[i] += 0.5f * b[i];
    return MST_OK;
}

static mst_status read_task(void *context, size_t task, int thread) {
    const arrays *x = context;
    const float *b = x->b + task * PART;
    enum { SUMS = 64 };
    float sum[SUMS] = {0};
    (void)thread;
    for (size_t i = 0; i < PART; i += SUMS)
        for (size_t k = 0; k < SUMS; k++) sum[k] += b[i + k];
    for (size_t k = 1; k < SUMS; k++) sum[0] += sum[k];
    x->a[task * PART] = sum[0]; /* so that it is computed */
    return MST_OK;
}

/* GB/s of needed bytes, `per_element` floats each: the best of a few. */
static double bandwidth(mst_queue *queue, mst_task_fn *task, double per_element, arrays *x) {
    double best = 0;
    for (int run = 0; run < RUNS; run++) {
        const double begin = mst_clock_now();
        need(mst_queue_for(queue, TASKS, task, x));
        const double rate = 1e-9 * per_element * sizeof(float) * ELEMENTS / (mst_clock_now() - begin);
        if (rate > best) best = rate;
    }
    return best;
}

/* ---- products ---- */

/* GFLOP/s of the fastest of a few products, with b as it stands and transposed. */
static double products(mst_queue *queue, const mst_kernels *kernels, mst_dtype dtype, const arrays *x,
                       size_t side) {
    double best = 0;
    for (int run = 0; run < 2 * RUNS; run++) {
        const mst_matmul_args args = {.m = side,
                                      .n = side,
                                      .k = side,
                                      .dtype = dtype,
                                      .c_dtype = MST_F32,
                                      .b_transposed = run % 2 == 0,
                                      .a = x->b,
                                      .lda = side,
                                      .b = x->c,
                                      .ldb = side,
                                      .c = x->a,
                                      .ldc = side};
        const double begin = mst_clock_now();
        need(kernels->matmul(queue, &args));
        const double rate = 2e-9 * (double)side * (double)side * (double)side / (mst_clock_now() - begin);
        if (rate > best) best = rate;
    }
    return best;
}

static void one_round(mst_queue *queue, const mst_kernels *kernels, arrays *x) {
    static const mst_dtype dtypes[] = {MST_F32, MST_BF16};
    printf("{\"triad\":%.3f,\"triad_past_cache\":%.3f,\"in_place\":%.3f,\"only_reads\":%.3f",
           bandwidth(queue, plain_task, 3, x), bandwidth(queue, past_cache_task, 3, x),
           bandwidth(queue, in_place_task, 3, x), bandwidth(queue, read_task, 1, x));
    for (int d = 0; d < 2; d++) {
        const size_t count = sides[SIDES - 1] * sides[SIDES - 1];
        mst_random_normal_args draw = {.count = count, .seed = 1, .deviation = 1};
        float *const operands[] = {x->b, x->c};
        for (int i = 0; i < 2; i++) { /* products of zeros draw less power and run faster */
            draw.result = x->a;
            need(kernels->random_normal(queue, &draw));
            const mst_cast_args cast = {.count = count,
                                        .source = x->a,
                                        .source_dtype = MST_F32,
                                        .result = operands[i],
                                        .result_dtype = dtypes[d]};
            need(kernels->cast(queue, &cast));
        }
        for (int s = 0; s < SIDES; s++)
            printf(",\"%s_%zu\":%.3f", mst_dtype_name(dtypes[d]), sides[s],
                   products(queue, kernels, dtypes[d], x, sides[s]));
    }
    printf("}\n");
    fflush(stdout);
}

int main(int argc, char **argv) {
    mst_queue *queue = NULL;
    mst_kernels kernels;
    arrays x = {0};
    float **const all[] = {&x.a, &x.b, &x.c};
    if (argc < 2) {
        fprintf(stderr, "bench_machine THREADS [LEVEL]\n");
        return 2;
    }
    need(mst_kernels_open(MST_DEVICE_CPU, argc > 2 ? argv[2] : NULL, &kernels));
    need(mst_queue_create(atoi(argv[1]), &queue));
    for (int i = 0; i < 3; i++) {
        void *memory;
        need(mst_memory_alloc(MST_SPACE_HOST, (size_t)ELEMENTS * sizeof(float), &memory));
        *all[i] = memory;
        for (size_t e = 0; e < ELEMENTS; e++) (*all[i])[e] = 1; /* memory is given at the first touch */
    }
    for (char line[16]; fgets(line, sizeof line, stdin) != NULL;) one_round(queue, &kernels, &x);
    for (int i = 0; i < 3; i++) mst_memory_free(MST_SPACE_HOST, all[i]);
    mst_queue_destroy(&queue);
    return 0;
}
