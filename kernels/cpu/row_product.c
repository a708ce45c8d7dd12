/*
 * The matrix product of one row: y = W x (+ bias), what a model computes for every token that it writes. It is
 * as fast as the weights come from memory, which a product in tiles is not; so the slot of the matrix product
 * takes this body where m is 1. Elsewhere it takes panel_product.c's, or where the level has none that of dispatch/matmul.c.
 *
 * W stored [n, k]: every element is a sum over MST_LANES lanes. W stored [k, n]: every element is summed in
 * order of k.
 */
#include "cpu.h"
#include "dispatch/matmul.h"
#include "panel_product.h"

static mst_matmul_fn mst_matmul_at_level_cpu;

enum { TILE_ELEMENTS = 32768 }; /* of W, of a task, about */

typedef struct row_job {
    const mst_matmul_args *args;
    const float *x; /* [k] */
    size_t tile;    /* columns of a task */
} row_job;

MST_INLINE void dot_chunk(float *lane, const void *w, const float *x, size_t i, size_t width,
                          mst_dtype dtype) {
#pragma omp simd
    for (size_t l = 0; l < width; l++) lane[l] = fma_f32(load(w, i + l, dtype), x[i + l], lane[l]);
}

MST_INLINE float dot(const void *w, const float *x, size_t k, mst_dtype dtype) {
    float lane[MST_LANES] = {0};
    size_t i = 0;
    for (; i + MST_LANES <= k; i += MST_LANES) dot_chunk(lane, w, x, i, MST_LANES, dtype);
    dot_chunk(lane, w, x, i, k - i, dtype);
    return lanes_sum(lane);
}

/* y [width] = sum over k of x[k] W[k, col ...]; width is at most MST_LANES. */
MST_INLINE void columns(const mst_matmul_args *a, const float *x, size_t col, size_t width, float *y,
                        mst_dtype dtype) {
    float sum[MST_LANES] = {0};
    for (size_t k = 0; k < a->k; k++)
#pragma omp simd
        for (size_t l = 0; l < width; l++)
            sum[l] = fma_f32(load(a->b, k * a->ldb + col + l, dtype), x[k], sum[l]);
    for (size_t l = 0; l < width; l++) y[l] = sum[l];
}

MST_INLINE void put(const mst_matmul_args *a, size_t col, size_t count, const float *y, mst_dtype dtype) {
    for (size_t l = 0; l < count; l++) {
        float value = a->bias != NULL ? y[l] + load(a->bias, col + l, dtype) : y[l];
        if (a->c_dtype == MST_BF16)
            store(a->c, col + l, MST_BF16, value);
        else
            store(a->c, col + l, MST_F32, value);
    }
}

MST_INLINE void compute(const row_job *job, size_t begin, size_t end, mst_dtype dtype) {
    const mst_matmul_args *a = job->args;
    float y[MST_LANES];
    for (size_t col = begin; col < end; col += MST_LANES) {
        size_t count = end - col < MST_LANES ? end - col : MST_LANES;
        if (a->b_transposed)
            for (size_t l = 0; l < count; l++)
                y[l] = dot(element(a->b, (col + l) * a->ldb, dtype), job->x, a->k, dtype);
        else if (count == MST_LANES)
            columns(a, job->x, col, MST_LANES, y, dtype);
        else
            columns(a, job->x, col, count, y, dtype);
        put(a, col, count, y, dtype);
    }
}

static mst_status row_task(void *context, size_t task, int thread) {
    const row_job *job = context;
    (void)thread;
    size_t begin = task * job->tile, end = tile_end(job->args->n, job->tile, task);
    if (job->args->dtype == MST_BF16)
        compute(job, begin, end, MST_BF16);
    else
        compute(job, begin, end, MST_F32);
    return MST_OK;
}

static mst_status multiply_row(mst_queue *queue, const mst_matmul_args *args) {
    mst_status status = MST_OK;
    row_job job = {.args = args, .x = args->a};
    job.tile = tile_of_rows(args->k, TILE_ELEMENTS);
    job.tile = tiles_of(job.tile, MST_LANES) * MST_LANES;
    if (args->dtype == MST_BF16) { /* in the caller's scratch: the tasks need none of their own */
        float *widened = mst_queue_scratch(queue, 0, args->k * sizeof(float));
        MST_CHECK(widened != NULL, MST_ENOMEM, "matmul: no memory for %zu bytes of scratch",
                  args->k * sizeof(float));
        for (size_t i = 0; i < args->k; i++) widened[i] = load(args->a, i, MST_BF16);
        job.x = widened;
    }
    status = mst_queue_for(queue, tiles_of(args->n, job.tile), row_task, &job);
done:
    return status;
}

/* Everything unusual, and what is to be refused, goes to the general body. */
static bool is_row(const mst_matmul_args *x) {
    return x->m == 1 && x->n > 0 && x->k > 0 && !x->a_transposed && !x->accumulate && x->scale == 0 &&
           (x->dtype == MST_F32 || x->dtype == MST_BF16) &&
           (x->c_dtype == x->dtype || x->c_dtype == MST_F32) && x->lda >= x->k &&
           x->ldb >= (x->b_transposed ? x->k : x->n) && x->ldc >= x->n;
}

static mst_status mst_matmul_at_level_cpu(mst_queue *queue, const mst_matmul_args *args) {
    if (is_row(args)) return multiply_row(queue, args);
    if (args->m == 0 || args->n == 0 || args->k == 0 || !MST_AT_LEVEL(mst_panel_product_takes)(args))
        return mst_matmul_cpu(queue, args);
    mst_status status = mst_matmul_cpu_check(args);
    return status == MST_OK ? MST_AT_LEVEL(mst_panel_product)(queue, args) : status;
}

void MST_AT_LEVEL(mst_cpu_fill_row_product)(mst_kernels *table) {
    table->matmul = mst_matmul_at_level_cpu;
}
