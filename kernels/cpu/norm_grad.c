/* Gradients of RMSNorm and LayerNorm, and of a bias:
 * what is summed over rows is summed in tiles of fixed shape. */
#include "chunk.h"
#include "columns.h"
#include "cpu.h"
#include "vectors.h"

static mst_rmsnorm_backward_fn mst_rmsnorm_backward_cpu;
static mst_layernorm_backward_fn mst_layernorm_backward_cpu;
static mst_bias_grad_fn mst_bias_grad_cpu;

enum { CHUNK = 32 }; /* a line of bf16 */

typedef enum norm_kind { RMSNORM, LAYERNORM } norm_kind;

typedef struct norm_grad_job {
    const mst_norm_grad_args *args;
    norm_kind kind;
    column_sums columns; /* dweight, and dbias if wanted */
} norm_grad_job;

/* One vector: pointers to its start, and its statistics. What the first pass over the next vector reads is fetched in the second
 * pass over this one, which waits for nothing. */
typedef struct norm_grad_row {
    const void *x, *dy, *weight, *dresidual;
    const void *next_x, *next_dy, *next_dresidual;
    void *dx;
    float mean, rstd;
    float *dweight, *dbias; /* partial sums of the vector's tile */
} norm_grad_row;

/* With xhat = (x - mean) rstd and g = dy weight: dweight += dy xhat, dbias += dy; sums of g and of g xhat. */
MST_INLINE void sums_chunk(float *lane_g, float *lane_gx, const norm_grad_row *row, size_t i, size_t width,
                           mst_dtype dtype, norm_kind kind, bool with_bias) {
    float mean = row->mean, rstd = row->rstd, *dweight = row->dweight, *dbias = row->dbias;
    float x[MST_LANES], dy[MST_LANES], weight[MST_LANES];
    load_chunk(x, row->x, i, width, dtype);
    load_chunk(dy, row->dy, i, width, dtype);
    load_chunk(weight, row->weight, i, width, dtype);
#pragma omp simd
    for (size_t k = 0; k < width; k++) {
        float xhat = (kind == LAYERNORM ? x[k] - mean : x[k]) * rstd, g = dy[k] * weight[k];
        dweight[i + k] = fma_f32(dy[k], xhat, dweight[i + k]);
        if (with_bias) dbias[i + k] += dy[k];
        lane_gx[k] = fma_f32(g, xhat, lane_gx[k]);
        if (kind == LAYERNORM) lane_g[k] += g;
    }
}

/* dx = rstd (g - mean(g) - xhat mean(g xhat)) (+ dresidual); RMSNorm has no mean(g). */
MST_INLINE void dx_chunk(const norm_grad_row *row, float mean_g, float mean_gx, size_t i, size_t width,
                         mst_dtype dtype, norm_kind kind, bool with_residual) {
    float mean = row->mean, rstd = row->rstd;
    float x[CHUNK], gradient[CHUNK], weight[CHUNK], dresidual[CHUNK];
    prefetch(row->next_x, i, dtype);
    prefetch(row->next_dy, i, dtype);
    if (with_residual) prefetch(row->next_dresidual, i, dtype);
    load_chunk(x, row->x, i, width, dtype);
    load_chunk(gradient, row->dy, i, width, dtype);
    load_chunk(weight, row->weight, i, width, dtype);
    if (with_residual) load_chunk(dresidual, row->dresidual, i, width, dtype);
#pragma omp simd
    for (size_t k = 0; k < width; k++) {
        float xhat = (kind == LAYERNORM ? x[k] - mean : x[k]) * rstd, g = gradient[k] * weight[k];
        if (kind == LAYERNORM) g -= mean_g;
        gradient[k] = fma_f32(-xhat, mean_gx, g) * rstd;
        if (with_residual) gradient[k] += dresidual[k];
    }
    store_chunk(row->dx, i, gradient, width, dtype);
}

MST_INLINE void dx_row(const norm_grad_row *row, float mean_g, float mean_gx, size_t cols, mst_dtype dtype,
                       norm_kind kind, bool with_residual) {
    size_t i = 0;
    for (; i + CHUNK <= cols; i += CHUNK)
        dx_chunk(row, mean_g, mean_gx, i, CHUNK, dtype, kind, with_residual);
    dx_chunk(row, mean_g, mean_gx, i, cols - i, dtype, kind, with_residual);
}

MST_INLINE void norm_grad_row_run(const norm_grad_row *row, size_t cols, mst_dtype dtype, norm_kind kind,
                                  bool with_bias) {
    float lane_g[MST_LANES] = {0}, lane_gx[MST_LANES] = {0};
    size_t i = 0;
    for (; i + MST_LANES <= cols; i += MST_LANES)
        sums_chunk(lane_g, lane_gx, row, i, MST_LANES, dtype, kind, with_bias);
    sums_chunk(lane_g, lane_gx, row, i, cols - i, dtype, kind, with_bias);
    float mean_g = kind == LAYERNORM ? lanes_sum(lane_g) / (float)cols : 0;
    float mean_gx = lanes_sum(lane_gx) / (float)cols;
    if (row->dresidual != NULL)
        dx_row(row, mean_g, mean_gx, cols, dtype, kind, true);
    else
        dx_row(row, mean_g, mean_gx, cols, dtype, kind, false);
}

MST_INLINE void norm_grad_tile(const norm_grad_job *job, size_t tile, mst_dtype dtype, norm_kind kind,
                               bool with_bias) {
    const mst_norm_grad_args *a = job->args;
    const column_sums *c = &job->columns;
    float *partial = column_sums_tile(c, tile);
    size_t cols = a->cols, end = tile_end(c->rows, c->tile_rows, tile);
    for (size_t v = tile * c->tile_rows; v < end; v++) {
        size_t next = v + 1 < end ? v + 1 : v;
        size_t to = vector_start(v, a->groups, cols, a->ldd),
               next_to = vector_start(next, a->groups, cols, a->ldd);
        const void *dresidual = a->dresidual;
        norm_grad_row row = {
            .x = element(a->x, vector_start(v, a->groups, cols, a->ldx), dtype),
            .dy = element(a->dy, to, dtype),
            .weight = a->weight,
            .dresidual = dresidual == NULL ? NULL : element(dresidual, to, dtype),
            .next_x = element(a->x, vector_start(next, a->groups, cols, a->ldx), dtype),
            .next_dy = element(a->dy, next_to, dtype),
            .next_dresidual = dresidual == NULL ? NULL : element(dresidual, next_to, dtype),
            .dx = element_mut(a->dx, to, dtype),
            .mean = kind == LAYERNORM ? ((const float *)a->mean)[v] : 0,
            .rstd = ((const float *)a->rstd)[v],
            .dweight = partial,
            .dbias = with_bias ? partial + cols : NULL,
        };
        norm_grad_row_run(&row, cols, dtype, kind, with_bias);
    }
}

static mst_status norm_grad_task(void *context, size_t task, int thread) {
    const norm_grad_job *job = context;
    (void)thread;
    bool bf16 = job->args->dtype == MST_BF16, with_bias = job->columns.sums == 2;
    if (job->kind == RMSNORM && bf16)
        norm_grad_tile(job, task, MST_BF16, RMSNORM, false);
    else if (job->kind == RMSNORM)
        norm_grad_tile(job, task, MST_F32, RMSNORM, false);
    else if (with_bias && bf16)
        norm_grad_tile(job, task, MST_BF16, LAYERNORM, true);
    else if (with_bias)
        norm_grad_tile(job, task, MST_F32, LAYERNORM, true);
    else if (bf16)
        norm_grad_tile(job, task, MST_BF16, LAYERNORM, false);
    else
        norm_grad_tile(job, task, MST_F32, LAYERNORM, false);
    return MST_OK;
}

static mst_status norm_backward(mst_queue *queue, const mst_norm_grad_args *args, norm_kind kind,
                                const char *operation) {
    mst_status status = MST_OK;
    MST_TRY(check_dtype(operation, args->dtype));
    MST_CHECK(kind == LAYERNORM || args->dbias == NULL, MST_EINVAL, "%s has no bias; pass NULL for dbias",
              operation);
    MST_TRY(check_vectors(operation, args->groups, args->cols, args->ldx, args->ldd));
    if (args->rows == 0 || args->cols == 0) goto done;
    norm_grad_job job = {.args = args, .kind = kind};
    MST_TRY(column_sums_init(&job.columns, queue, args->rows * args->groups, args->cols, args->dweight,
                             args->dbias));
    MST_TRY(mst_queue_for(queue, job.columns.tiles, norm_grad_task, &job));
    MST_TRY(column_sums_finish(&job.columns, queue));
done:
    return status;
}

static mst_status mst_rmsnorm_backward_cpu(mst_queue *queue, const mst_norm_grad_args *args) {
    return norm_backward(queue, args, RMSNORM, "rmsnorm_backward");
}

static mst_status mst_layernorm_backward_cpu(mst_queue *queue, const mst_norm_grad_args *args) {
    return norm_backward(queue, args, LAYERNORM, "layernorm_backward");
}

typedef struct bias_grad_job {
    const mst_bias_grad_args *args;
    column_sums columns;
} bias_grad_job;

MST_INLINE void add_chunk(float *total, const void *dy, size_t i, size_t width, mst_dtype dtype) {
    float value[CHUNK];
    load_chunk(value, dy, i, width, dtype);
#pragma omp simd
    for (size_t k = 0; k < width; k++) total[i + k] += value[k];
}

MST_INLINE void bias_grad_tile(const bias_grad_job *job, size_t tile, mst_dtype dtype) {
    const mst_bias_grad_args *a = job->args;
    float *partial = column_sums_tile(&job->columns, tile);
    size_t cols = a->cols, end = tile_end(a->rows, job->columns.tile_rows, tile);
    for (size_t r = tile * job->columns.tile_rows; r < end; r++) {
        const void *dy = element(a->dy, r * a->ld, dtype);
        size_t i = 0;
        for (; i + CHUNK <= cols; i += CHUNK) add_chunk(partial, dy, i, CHUNK, dtype);
        add_chunk(partial, dy, i, cols - i, dtype);
    }
}

static mst_status bias_grad_task(void *context, size_t task, int thread) {
    const bias_grad_job *job = context;
    (void)thread;
    if (job->args->dtype == MST_BF16)
        bias_grad_tile(job, task, MST_BF16);
    else
        bias_grad_tile(job, task, MST_F32);
    return MST_OK;
}

static mst_status mst_bias_grad_cpu(mst_queue *queue, const mst_bias_grad_args *args) {
    mst_status status = MST_OK;
    MST_TRY(check_dtype("bias_grad", args->dtype));
    if (args->rows == 0 || args->cols == 0) goto done;
    MST_CHECK(args->ld >= args->cols, MST_EINVAL, "bias_grad: ld %zu is below cols %zu", args->ld,
              args->cols);
    bias_grad_job job = {.args = args};
    MST_TRY(column_sums_init(&job.columns, queue, args->rows, args->cols, args->dbias, NULL));
    MST_TRY(mst_queue_for(queue, job.columns.tiles, bias_grad_task, &job));
    MST_TRY(column_sums_finish(&job.columns, queue));
done:
    return status;
}

void MST_AT_LEVEL(mst_cpu_fill_norm_grad)(mst_kernels *table) {
    table->rmsnorm_backward = mst_rmsnorm_backward_cpu;
    table->layernorm_backward = mst_layernorm_backward_cpu;
    table->bias_grad = mst_bias_grad_cpu;
}
