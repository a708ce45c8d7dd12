/*
 * A matrix product, called whole with all threads: muster's own, or a library's.
 *
 *   bench_products THREADS muster|onednn|openblas
 *
 * For each line M N K A B LDA LDB LDC C ADD DTYPE on standard input: one line of JSON with the median of some calls in seconds; 0: the
 * library does not compute this, or is not here. A and B are N or T (stored transposed), C the dtype of the result, ADD 1 for c += .
 * oneDNN is the one that muster is linked with; OpenBLAS is loaded when the system has it. Each is measured in a process of its
 * own: threads of OpenMP go on turning for a while when their work is done, and would take the cores from whoever comes next.
 */
#include <dlfcn.h>
#include <math.h>
#include <oneapi/dnnl/dnnl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "muster/clock.h"
#include "muster/kernels.h"

enum { CALLS = 7 };

static void must(bool good, const char *what) {
    if (good) return;
    fprintf(stderr, "bench_products: %s: %s\n", what, mst_error_message());
    exit(1);
}

typedef void openblas_sgemm_fn(int order, int transa, int transb, int m, int n, int k, float alpha,
                               const float *a, int lda, const float *b, int ldb, float beta, float *c,
                               int ldc);

typedef enum bench_who { MUSTER, ONEDNN, OPENBLAS, EVERYBODY } bench_who;
static const char *const names[EVERYBODY] = {"muster", "onednn", "openblas"};

static struct {
    bench_who who;
    mst_queue *queue;
    mst_kernels kernels;
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    openblas_sgemm_fn *sgemm; /* NULL: no OpenBLAS */
} libraries;

static void *symbol(void *library, const char *name) {
    return library != NULL ? dlsym(library, name) : NULL;
}

static void open_onednn(int threads) {
    void *found = symbol(RTLD_DEFAULT, "omp_set_num_threads");
    void (*set_threads)(int);
    memcpy(&set_threads, &found, sizeof found);
    if (set_threads != NULL) set_threads(threads); /* NULL: it was built without OpenMP */
    must(dnnl_engine_create(&libraries.engine, dnnl_cpu, 0) == dnnl_success, "oneDNN's engine");
    must(dnnl_stream_create(&libraries.stream, libraries.engine, dnnl_stream_default_flags) == dnnl_success,
         "oneDNN's stream");
}

static void open_openblas(int threads) {
    void *blas = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
    void *found = symbol(blas, "cblas_sgemm");
    void (*set_threads)(int);
    memcpy(&libraries.sgemm, &found, sizeof found);
    found = symbol(blas, "openblas_set_num_threads");
    memcpy(&set_threads, &found, sizeof found);
    if (set_threads != NULL) set_threads(threads);
}

static void open_libraries(int threads) {
    must(mst_kernels_open(MST_DEVICE_CPU, NULL, &libraries.kernels) == MST_OK, "kernels");
    must(mst_queue_create(threads, &libraries.queue) == MST_OK, "queue");
    if (libraries.who == ONEDNN) open_onednn(threads);
    if (libraries.who == OPENBLAS) open_openblas(threads);
}

/* ---- oneDNN, whole ---- */

typedef struct whole {
    dnnl_primitive_t primitive;
    dnnl_memory_t a, b, c;
} whole;

static dnnl_data_type_t type_of(mst_dtype dtype) {
    return dtype == MST_BF16 ? dnnl_bf16 : dnnl_f32;
}

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t descriptor;
static void describe(descriptor *d, const dnnl_dims_t dims, mst_dtype dtype, const dnnl_dims_t strides) {
    must(dnnl_memory_desc_create_with_strides(d, 2, dims, type_of(dtype), strides) == dnnl_success, "oneDNN");
}
static dnnl_memory_t memory_of(descriptor d, const void *data) {
    dnnl_memory_t memory;
    must(dnnl_memory_create(&memory, d, libraries.engine, (void *)(uintptr_t)data) == dnnl_success, "oneDNN");
    return memory;
}
static void add_to_c(dnnl_post_ops_t post) {
    dnnl_post_ops_append_sum(post, 1, 0, dnnl_data_type_undef);
}
static dnnl_status_t make(dnnl_primitive_desc_t *made, descriptor a, descriptor b, descriptor c,
                          dnnl_primitive_attr_t attributes) {
    return dnnl_matmul_primitive_desc_create(made, libraries.engine, a, b, NULL, c, attributes);
}
#else
typedef dnnl_memory_desc_t descriptor;
static void describe(descriptor *d, const dnnl_dims_t dims, mst_dtype dtype, const dnnl_dims_t strides) {
    must(dnnl_memory_desc_init_by_strides(d, 2, dims, type_of(dtype), strides) == dnnl_success, "oneDNN");
}
static dnnl_memory_t memory_of(descriptor d, const void *data) {
    dnnl_memory_t memory;
    must(dnnl_memory_create(&memory, &d, libraries.engine, (void *)(uintptr_t)data) == dnnl_success,
         "oneDNN");
    return memory;
}
static void add_to_c(dnnl_post_ops_t post) {
    dnnl_post_ops_append_sum(post, 1);
}
static dnnl_status_t make(dnnl_primitive_desc_t *made, descriptor a, descriptor b, descriptor c,
                          dnnl_primitive_attr_t attributes) {
    dnnl_matmul_desc_t matmul;
    const dnnl_status_t status = dnnl_matmul_desc_init(&matmul, &a, &b, NULL, &c);
    if (status != dnnl_success) return status;
    return dnnl_primitive_desc_create(made, &matmul, attributes, libraries.engine, NULL);
}
#endif

/* False: oneDNN does not compute this here. */
static bool whole_create(const mst_matmul_args *x, whole *made) {
    const int64_t m = (int64_t)x->m, n = (int64_t)x->n, k = (int64_t)x->k;
    const int64_t lda = (int64_t)x->lda, ldb = (int64_t)x->ldb;
    descriptor a, b, c;
    describe(&a, (dnnl_dims_t){m, k}, x->dtype,
             x->a_transposed ? (dnnl_dims_t){1, lda} : (dnnl_dims_t){lda, 1});
    describe(&b, (dnnl_dims_t){k, n}, x->dtype,
             x->b_transposed ? (dnnl_dims_t){1, ldb} : (dnnl_dims_t){ldb, 1});
    describe(&c, (dnnl_dims_t){m, n}, x->c_dtype, (dnnl_dims_t){(int64_t)x->ldc, 1});
    dnnl_primitive_attr_t attributes;
    dnnl_post_ops_t post;
    dnnl_primitive_desc_t description;
    must(dnnl_primitive_attr_create(&attributes) == dnnl_success, "oneDNN");
    must(dnnl_post_ops_create(&post) == dnnl_success, "oneDNN");
    if (x->accumulate) add_to_c(post);
    must(dnnl_primitive_attr_set_post_ops(attributes, post) == dnnl_success, "oneDNN");
    const bool possible = make(&description, a, b, c, attributes) == dnnl_success;
    if (possible) {
        must(dnnl_primitive_create(&made->primitive, description) == dnnl_success, "oneDNN");
        *made = (whole){made->primitive, memory_of(a, x->a), memory_of(b, x->b), memory_of(c, x->c)};
        dnnl_primitive_desc_destroy(description);
    }
    dnnl_post_ops_destroy(post);
    dnnl_primitive_attr_destroy(attributes);
    return possible;
}

static void whole_run(const whole *w) {
    const dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, w->a}, {DNNL_ARG_WEIGHTS, w->b}, {DNNL_ARG_DST, w->c}};
    must(dnnl_primitive_execute(w->primitive, libraries.stream, 3, args) == dnnl_success, "oneDNN's product");
    must(dnnl_stream_wait(libraries.stream) == dnnl_success, "oneDNN's product");
}

static void whole_destroy(whole *w) {
    dnnl_memory_destroy(w->a);
    dnnl_memory_destroy(w->b);
    dnnl_memory_destroy(w->c);
    dnnl_primitive_destroy(w->primitive);
}

/* ---- turns ---- */

static void blas_run(const mst_matmul_args *x) {
    enum { ROW_MAJOR = 101, PLAIN = 111, TRANSPOSED = 112 };
    libraries.sgemm(ROW_MAJOR, x->a_transposed ? TRANSPOSED : PLAIN, x->b_transposed ? TRANSPOSED : PLAIN,
                    (int)x->m, (int)x->n, (int)x->k, 1, x->a, (int)x->lda, x->b, (int)x->ldb,
                    x->accumulate ? 1 : 0, x->c, (int)x->ldc);
}

static int by_size(const void *left, const void *right) {
    const double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static double middle(double *seconds) {
    qsort(seconds, CALLS, sizeof *seconds, by_size);
    return seconds[CALLS / 2];
}

static void measure(const mst_matmul_args *x) {
    double seconds[CALLS] = {0};
    whole w;
    const bool possible = libraries.who == MUSTER   ? true
                          : libraries.who == ONEDNN ? whole_create(x, &w)
                                                    : libraries.sgemm != NULL && x->dtype == MST_F32;
    for (int call = -1; possible && call < CALLS; call++) { /* the first one warms up */
        const double begin = mst_clock_now();
        if (libraries.who == MUSTER)
            must(libraries.kernels.matmul(libraries.queue, x) == MST_OK, "product");
        else if (libraries.who == ONEDNN)
            whole_run(&w);
        else
            blas_run(x);
        seconds[call < 0 ? 0 : call] = mst_clock_now() - begin;
    }
    if (possible && libraries.who == ONEDNN) whole_destroy(&w);
    printf("{\"seconds\":%.9f}\n", middle(seconds));
    fflush(stdout);
}

/* Room for rows of stored length ld, filled with values that do not grow: c += is called again and again. */
static void *operand(size_t rows, size_t ld, mst_dtype dtype, uint64_t seed) {
    const size_t count = rows * ld;
    void *normal, *memory;
    must(mst_memory_alloc(MST_SPACE_HOST, count * sizeof(float), &normal) == MST_OK, "memory");
    must(mst_memory_alloc(MST_SPACE_HOST, count * sizeof(float), &memory) == MST_OK, "memory");
    const mst_random_normal_args draw = {.count = count, .seed = seed, .deviation = 1, .result = normal};
    const mst_cast_args cast = {
        .count = count, .source = normal, .source_dtype = MST_F32, .result = memory, .result_dtype = dtype};
    must(libraries.kernels.random_normal(libraries.queue, &draw) == MST_OK, "random numbers");
    must(libraries.kernels.cast(libraries.queue, &cast) == MST_OK, "cast");
    mst_memory_free(MST_SPACE_HOST, &normal);
    return memory;
}

static bool parse(const char *line, mst_matmul_args *x) {
    char a, b, c[8], dtype[8];
    int add;
    *x = (mst_matmul_args){0};
    if (sscanf(line, "%zu %zu %zu %c %c %zu %zu %zu %7s %d %7s", &x->m, &x->n, &x->k, &a, &b, &x->lda,
               &x->ldb, &x->ldc, c, &add, dtype) != 11)
        return false;
    x->a_transposed = a == 'T';
    x->b_transposed = b == 'T';
    x->accumulate = add != 0;
    x->dtype = strcmp(dtype, "bf16") == 0 ? MST_BF16 : MST_F32;
    x->c_dtype = strcmp(c, "bf16") == 0 ? MST_BF16 : MST_F32;
    return true;
}

int main(int argc, char **argv) {
    mst_matmul_args x;
    while (argc == 3 && libraries.who < EVERYBODY && strcmp(argv[2], names[libraries.who]) != 0)
        libraries.who++;
    if (argc != 3 || libraries.who == EVERYBODY) {
        fprintf(stderr, "bench_products THREADS muster|onednn|openblas\n");
        return 2;
    }
    open_libraries(atoi(argv[1]));
    void *memory[3] = {NULL};
    for (char line[256], before[256] = ""; fgets(line, sizeof line, stdin) != NULL;) {
        if (strcmp(line, before) != 0) { /* a product that was asked for just now has its operands still */
            must(parse(line, &x), "a line that says no product");
            for (size_t i = 0; i < 3; i++) mst_memory_free(MST_SPACE_HOST, &memory[i]);
            x.a = memory[0] = operand(x.a_transposed ? x.k : x.m, x.lda, x.dtype, 1);
            x.b = memory[1] = operand(x.b_transposed ? x.n : x.k, x.ldb, x.dtype, 2);
            x.c = memory[2] = operand(x.m, x.ldc, x.c_dtype, 3);
            memcpy(before, line, sizeof before);
        }
        measure(&x);
    }
    for (size_t i = 0; i < 3; i++) mst_memory_free(MST_SPACE_HOST, &memory[i]);
    mst_queue_destroy(&libraries.queue);
    return 0;
}
