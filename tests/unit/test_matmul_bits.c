/* The CPU matrix product gives the same bits for any number of threads, for repeated calls, for other
 * addresses, and when several queues compute at once. Usage: test_matmul_bits [LEVEL [SEED]]. */
#include <pthread.h>
#include <stdint.h>

#include "matmul.h"
#include "test.h"

enum { MAX_THREADS = 8, SAMPLES = 200, PAIRS = 4 };

static const int thread_counts[] = {1, 2, 3, 4, 8};
enum { COUNTS = sizeof thread_counts / sizeof *thread_counts };

static mst_queue *queues[COUNTS];
static uint64_t state;

static uint32_t random_bits(void) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 32);
}

/* Uniform in [-1, 1). */
static float random_value(void) {
    return (float)((double)random_bits() / 2147483648.0 - 1.0);
}

typedef struct buffers {
    char *a, *b, *bias, *c, *first, *again;
    size_t c_bytes;
} buffers;

static void *make(size_t elements, mst_dtype dtype) {
    void *memory = NULL;
    CHECK_OK(mst_memory_alloc(MST_SPACE_HOST, (elements + 1) * mst_dtype_size(dtype), &memory));
    if (memory == NULL) exit(1);
    for (size_t i = 0; i <= elements; i++) {
        if (dtype == MST_F32)
            ((float *)memory)[i] = random_value();
        else
            ((mst_bf16 *)memory)[i] = mst_bf16_from_f32(random_value());
    }
    return memory;
}

static double value_at(const void *p, mst_dtype dtype, size_t i) {
    return dtype == MST_F32 ? ((const float *)p)[i] : mst_bf16_to_f32(((const mst_bf16 *)p)[i]);
}

static const char *text_of(const mst_matmul_args *x) {
    static char text[128];
    snprintf(text, sizeof text, "[%zu, %zu, %zu] %c%c %s -> %s%s%s ld %zu %zu %zu", x->m, x->n, x->k,
             x->a_transposed ? 'T' : 'N', x->b_transposed ? 'T' : 'N', mst_dtype_name(x->dtype),
             mst_dtype_name(x->c_dtype), x->bias != NULL ? " bias" : "", x->accumulate ? " +=" : "", x->lda,
             x->ldb, x->ldc);
    return text;
}

/*
 * A few elements against fp64: the error of an fp32 sum of k products is at most (k + 2) 2^-24 times the sum
 * of absolute values, and rounding to bf16 adds 2^-8 of the result at most.
 */
static void check_samples(const mst_matmul_args *x, const void *before) {
    for (int s = 0; s < SAMPLES; s++) {
        size_t i = random_bits() % x->m, j = random_bits() % x->n;
        double start = x->accumulate ? value_at(before, MST_F32, i * x->ldc + j) : 0.0;
        if (x->bias != NULL) start = value_at(x->bias, x->dtype, j);
        double sum = start, size = fabs(start);
        for (size_t l = 0; l < x->k; l++) {
            double term = value_at(x->a, x->dtype, x->a_transposed ? l * x->lda + i : i * x->lda + l) *
                          value_at(x->b, x->dtype, x->b_transposed ? j * x->ldb + l : l * x->ldb + j);
            sum += term;
            size += fabs(term);
        }
        double bound = (double)(x->k + 2) * 0x1p-24 * size;
        if (x->c_dtype == MST_BF16) bound += 0x1p-8 * (fabs(sum) + bound);
        double got = value_at(x->c, x->c_dtype, i * x->ldc + j);
        CHECK(fabs(got - sum) <= bound, "%s: element %zu, %zu is %.9g, not %.9g within %.3g", text_of(x), i,
              j, got, sum, bound);
    }
}

/* The same product on every queue, twice, and once at addresses one element further: always the same bits. */
static void check_bits(mst_matmul_args x, buffers *u) {
    size_t a_bytes = (x.a_transposed ? x.k : x.m) * x.lda * mst_dtype_size(x.dtype);
    u->c_bytes = x.m * x.ldc * mst_dtype_size(x.c_dtype);
    /* What stands in c before must not matter when it is overwritten: NaN would show. Columns past n stay. */
    if (!x.accumulate) memset(u->first, 0xff, u->c_bytes);
    for (int q = 0; q < COUNTS; q++)
        for (int repeat = 0; repeat < 2; repeat++) {
            memcpy(u->c, u->first, u->c_bytes);
            CHECK_OK(mst_matmul_cpu(queues[q], &x));
            if (q == 0 && repeat == 0) memcpy(u->again, u->c, u->c_bytes);
            CHECK(memcmp(u->c, u->again, u->c_bytes) == 0, "%s: other bits with %d threads, call %d",
                  text_of(&x), thread_counts[q], repeat);
        }
    check_samples(&x, u->first);
    char *shifted = u->a + mst_dtype_size(x.dtype);
    memmove(shifted, u->a, a_bytes);
    x.a = shifted;
    memcpy(u->c, u->first, u->c_bytes);
    CHECK_OK(mst_matmul_cpu(queues[1], &x));
    CHECK(memcmp(u->c, u->again, u->c_bytes) == 0, "%s: other bits at another address", text_of(&x));
}

typedef struct types {
    mst_dtype dtype, c_dtype;
    bool bias, accumulate;
} types;

static const types type_list[] = {
    {MST_F32, MST_F32, false, false},  {MST_F32, MST_F32, true, false},  {MST_F32, MST_F32, false, true},
    {MST_BF16, MST_BF16, true, false}, {MST_BF16, MST_F32, false, true}, {MST_BF16, MST_F32, false, false},
};

static void check_shape(size_t m, size_t n, size_t k, size_t gap) {
    for (size_t layout = 0; layout < 4; layout++)
        for (size_t t = 0; t < sizeof type_list / sizeof *type_list; t++) {
            const types *type = &type_list[t];
            bool at = layout & 1, bt = layout & 2;
            size_t lda = (at ? m : k) + gap, ldb = (bt ? k : n) + gap, ldc = n + gap;
            buffers u = {.a = make((at ? k : m) * lda, type->dtype),
                         .b = make((bt ? n : k) * ldb, type->dtype),
                         .bias = make(n, type->dtype),
                         .c = make(m * ldc, type->c_dtype),
                         .first = make(m * ldc, type->c_dtype),
                         .again = make(m * ldc, type->c_dtype)};
            check_bits((mst_matmul_args){.m = m,
                                         .n = n,
                                         .k = k,
                                         .dtype = type->dtype,
                                         .c_dtype = type->c_dtype,
                                         .a_transposed = at,
                                         .b_transposed = bt,
                                         .a = u.a,
                                         .lda = lda,
                                         .b = u.b,
                                         .ldb = ldb,
                                         .bias = type->bias ? u.bias : NULL,
                                         .c = u.c,
                                         .ldc = ldc,
                                         .accumulate = type->accumulate},
                       &u);
            mst_memory_free(MST_SPACE_HOST, &u.a);
            mst_memory_free(MST_SPACE_HOST, &u.b);
            mst_memory_free(MST_SPACE_HOST, &u.bias);
            mst_memory_free(MST_SPACE_HOST, &u.c);
            mst_memory_free(MST_SPACE_HOST, &u.first);
            mst_memory_free(MST_SPACE_HOST, &u.again);
        }
}

/* Several queues at once share the cache of oneDNN products, among them ones that none has used before. */
typedef struct rival {
    pthread_t thread;
    size_t number;
    const void *a, *b;
    float *c;
} rival;

enum { RIVAL_SHAPES = 12, RIVAL_SIDE = 160 };

static void *compete(void *argument) {
    rival *r = argument;
    mst_queue *queue = NULL;
    if (mst_queue_create(2, &queue) != MST_OK) return NULL;
    for (size_t s = 0; s < RIVAL_SHAPES; s++) {
        size_t side = RIVAL_SIDE - s;
        mst_matmul_args x = {.m = side,
                             .n = side,
                             .k = side,
                             .dtype = MST_F32,
                             .c_dtype = MST_F32,
                             .a = r->a,
                             .lda = side,
                             .b = r->b,
                             .ldb = side,
                             .c = r->c + s * RIVAL_SIDE * RIVAL_SIDE,
                             .ldc = side};
        if (mst_matmul_cpu(queue, &x) != MST_OK) break;
    }
    mst_queue_destroy(&queue);
    return NULL;
}

static void check_rivals(void) {
    rival rivals[PAIRS] = {0};
    void *a = make(RIVAL_SIDE * RIVAL_SIDE, MST_F32), *b = make(RIVAL_SIDE * RIVAL_SIDE, MST_F32);
    size_t elements = RIVAL_SHAPES * RIVAL_SIDE * RIVAL_SIDE;
    for (size_t i = 0; i < PAIRS; i++) {
        rivals[i] = (rival){.number = i, .a = a, .b = b, .c = calloc(elements, sizeof(float))};
        CHECK(pthread_create(&rivals[i].thread, NULL, compete, &rivals[i]) == 0, "thread %zu", i);
    }
    for (size_t i = 0; i < PAIRS; i++) pthread_join(rivals[i].thread, NULL);
    for (size_t s = 0; s < RIVAL_SHAPES; s++) {
        size_t first = s * RIVAL_SIDE * RIVAL_SIDE, side = RIVAL_SIDE - s;
        double sum = 0.0;
        for (size_t l = 0; l < side; l++) sum += (double)((float *)a)[l] * (double)((float *)b)[l * side];
        CHECK(fabs(rivals[0].c[first] - sum) <= (double)(side + 2) * 0x1p-24 * (double)side, "shape %zu", s);
    }
    for (size_t i = 1; i < PAIRS; i++)
        CHECK(memcmp(rivals[0].c, rivals[i].c, elements * sizeof(float)) == 0, "queue %zu has other bits", i);
    for (size_t i = 0; i < PAIRS; i++) free(rivals[i].c);
    mst_memory_free(MST_SPACE_HOST, &a);
    mst_memory_free(MST_SPACE_HOST, &b);
}

/* Prints a hash of products of the layout that oneDNN, left alone, splits by its number of threads. */
static void print_hash(void) {
    static const size_t shapes[][3] = {{384, 384, 2048}, {192, 192, 4096}, {128, 512, 3072}, {256, 64, 8192}};
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int t = 0; t < 2; t++) {
            size_t m = shapes[s][0], n = shapes[s][1], k = shapes[s][2];
            mst_dtype dtype = t == 0 ? MST_F32 : MST_BF16;
            void *a = make(k * m, dtype), *b = make(k * n, dtype), *c = make(m * n, MST_F32);
            mst_matmul_args x = {.m = m,
                                 .n = n,
                                 .k = k,
                                 .dtype = dtype,
                                 .c_dtype = MST_F32,
                                 .a_transposed = true,
                                 .a = a,
                                 .lda = m,
                                 .b = b,
                                 .ldb = n,
                                 .c = c,
                                 .ldc = n};
            CHECK_OK(mst_matmul_cpu(queues[1], &x));
            for (size_t i = 0; i < m * n * sizeof(float); i++)
                hash = (hash ^ ((unsigned char *)c)[i]) * 0x100000001b3u;
            mst_memory_free(MST_SPACE_HOST, &a);
            mst_memory_free(MST_SPACE_HOST, &b);
            mst_memory_free(MST_SPACE_HOST, &c);
        }
    printf("hash %016llx\n", (unsigned long long)hash);
}

/* oneDNN's own number of threads, from the environment, must not matter:
 * it is read once, so each value needs a process. */
static void check_environment(const char *program, const char *level) {
    char command[1024], first[64] = "", line[64];
    for (int threads = 1; threads <= 4; threads++) {
        snprintf(command, sizeof command, "OMP_NUM_THREADS=%d '%s' %s 1 hash", threads, program, level);
        FILE *pipe = popen(command, "r");
        CHECK(pipe != NULL, "%s", command);
        if (pipe == NULL) return;
        line[0] = '\0';
        while (fgets(line, sizeof line, pipe) != NULL && strncmp(line, "hash ", 5) != 0) continue;
        CHECK(pclose(pipe) == 0 && strncmp(line, "hash ", 5) == 0, "%s printed '%s'", command, line);
        if (threads == 1) memcpy(first, line, sizeof first);
        CHECK(strcmp(first, line) == 0, "OMP_NUM_THREADS=%d: %s instead of %s", threads, line, first);
    }
}

static void check_refusals(void) {
    float one[4] = {1, 1, 1, 1};
    mst_matmul_args good = {.m = 1,
                            .n = 1,
                            .k = 1,
                            .dtype = MST_F32,
                            .c_dtype = MST_F32,
                            .a = one,
                            .lda = 1,
                            .b = one + 1,
                            .ldb = 1,
                            .c = one + 2,
                            .ldc = 1};
    mst_matmul_args x = good;
    CHECK_OK(mst_matmul_cpu(queues[0], &x));
    x.lda = 0;
    CHECK_STATUS(mst_matmul_cpu(queues[0], &x), MST_EINVAL);
    x = good;
    x.dtype = MST_F64;
    CHECK_STATUS(mst_matmul_cpu(queues[0], &x), MST_EUNSUPPORTED);
    x = good;
    x.accumulate = true;
    x.bias = one + 3;
    CHECK_STATUS(mst_matmul_cpu(queues[0], &x), MST_EINVAL);
    x = good;
    x.k = 0;
    x.bias = one + 3;
    one[2] = 5;
    CHECK_OK(mst_matmul_cpu(queues[0], &x));
    CHECK(one[2] == 1, "an empty product with a bias is %g", one[2]);
    CHECK_STATUS(mst_matmul_cpu_limit("x86-64-v2"), MST_EUNSUPPORTED);
}

int main(int argc, char **argv) {
    char class[128];
    const char *level = argc > 1 ? argv[1] : "x86-64-v4";
    state = argc > 2 ? strtoull(argv[2], NULL, 10) : 20240607;
    CHECK_OK(mst_matmul_cpu_limit(level));
    mst_matmul_cpu_class(class, sizeof class);
    printf("%s: %s, seed %llu\n", level, class, (unsigned long long)state);
    for (int q = 0; q < COUNTS; q++) CHECK_OK(mst_queue_create(thread_counts[q], &queues[q]));
    if (argc > 3) {
        print_hash();
        return test_finish("test_matmul_bits");
    }
    check_environment(argv[0], level);
    check_rivals();
    /* One tile, many, edges on both sides, thin ones, and a k that is cut into slabs
     * where panels are copied. */
    static const size_t shapes[][4] = {{1, 1, 1, 0},       {7, 5, 3, 2},       {64, 64, 64, 0},
                                       {130, 195, 66, 0},  {257, 770, 65, 3},  {600, 800, 96, 0},
                                       {5, 1600, 80, 0},   {1500, 9, 80, 1},   {40, 50, 4500, 0},
                                       {384, 256, 512, 0}, {40, 400, 16500, 5}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        check_shape(shapes[s][0], shapes[s][1], shapes[s][2], shapes[s][3]);
    if (strcmp(level, "x86-64-v2") != 0) check_refusals();
    for (int q = 0; q < COUNTS; q++) mst_queue_destroy(&queues[q]);
    return test_finish("test_matmul_bits");
}
