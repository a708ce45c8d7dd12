/* RMSNorm and LayerNorm with the residual fused:
 * each vector is read from memory once and stays in the first cache. */
#include "chunk.h"
#include "cpu.h"
#include "vectors.h"

static mst_rmsnorm_forward_fn mst_rmsnorm_forward_cpu;
static mst_layernorm_forward_fn mst_layernorm_forward_cpu;

enum { TILE_ELEMENTS = 16384, CHUNK = 32 }; /* of a task, about; of a line of bf16 */

typedef enum norm_kind { RMSNORM, LAYERNORM } norm_kind;

typedef struct norm_job {
    const mst_norm_args *args;
    norm_kind kind;
    size_t tile_vectors;
} norm_job;

/* What a row does in its first pass: add the residual and sum what the statistics need first. */
MST_INLINE void add_chunk(float *lane, const void *x, const void *delta, void *sum, size_t i, size_t width,
                          mst_dtype dtype, norm_kind kind) {
    float value[MST_LANES], added[MST_LANES];
    load_chunk(value, x, i, width, dtype);
    if (delta != NULL) {
        load_chunk(added, delta, i, width, dtype);
#pragma omp simd
        for (size_t k = 0; k < width; k++) value[k] += added[k];
        round_chunk(value, width, dtype);
        store_chunk(sum, i, value, width, dtype);
    }
#pragma omp simd
    for (size_t k = 0; k < width; k++)
        lane[k] = kind == RMSNORM ? fma_f32(value[k], value[k], lane[k]) : lane[k] + value[k];
}

/** sum = x + delta (delta NULL: nothing is stored), and the sum of the values or of their squares. */
MST_INLINE float add_row(const void *x, const void *delta, void *sum, size_t cols, mst_dtype dtype,
                         norm_kind kind) {
    float lane[MST_LANES] = {0};
    size_t i = 0;
    for (; i + MST_LANES <= cols; i += MST_LANES) add_chunk(lane, x, delta, sum, i, MST_LANES, dtype, kind);
    add_chunk(lane, x, delta, sum, i, cols - i, dtype, kind);
    return lanes_sum(lane);
}

MST_INLINE void deviation_chunk(float *lane, const void *x, float mean, size_t i, size_t width,
                                mst_dtype dtype) {
    float value[MST_LANES];
    load_chunk(value, x, i, width, dtype);
#pragma omp simd
    for (size_t k = 0; k < width; k++) {
        float deviation = value[k] - mean;
        lane[k] = fma_f32(deviation, deviation, lane[k]);
    }
}

/** Sum of squared deviations from the mean: a pass of its own, because E[x^2] - E[x]^2 cancels. */
MST_INLINE float row_deviation2(const void *x, float mean, size_t cols, mst_dtype dtype) {
    float lane[MST_LANES] = {0};
    size_t i = 0;
    for (; i + MST_LANES <= cols; i += MST_LANES) deviation_chunk(lane, x, mean, i, MST_LANES, dtype);
    deviation_chunk(lane, x, mean, i, cols - i, dtype);
    return lanes_sum(lane);
}

/* What the second pass of a vector works on. Of the vector after it, x and delta are fetched meanwhile: this pass computes, the
 * first one waits for memory. */
typedef struct norm_row {
    const void *x, *weight, *bias, *next_x, *next_delta;
    void *y;
    float mean, rstd;
} norm_row;

/** y = (x - mean) rstd weight + bias. */
MST_INLINE void normalise_chunk(const norm_row *row, size_t i, size_t width, mst_dtype dtype, bool with_bias,
                                bool round_first) {
    float mean = row->mean, rstd = row->rstd, value[CHUNK], weight[CHUNK], bias[CHUNK];
    prefetch(row->next_x, i, dtype);
    prefetch(row->next_delta, i, dtype);
    load_chunk(value, row->x, i, width, dtype);
    load_chunk(weight, row->weight, i, width, dtype);
    if (with_bias) load_chunk(bias, row->bias, i, width, dtype);
#pragma omp simd
    for (size_t k = 0; k < width; k++) value[k] = (value[k] - mean) * rstd;
    if (round_first) round_chunk(value, width, dtype);
#pragma omp simd
    for (size_t k = 0; k < width; k++) {
        value[k] *= weight[k];
        if (with_bias) value[k] += bias[k];
    }
    store_chunk(row->y, i, value, width, dtype);
}

MST_INLINE void normalise_row(const norm_row *row, size_t cols, mst_dtype dtype, bool with_bias,
                              bool round_first) {
    size_t i = 0;
    for (; i + CHUNK <= cols; i += CHUNK) normalise_chunk(row, i, CHUNK, dtype, with_bias, round_first);
    normalise_chunk(row, i, cols - i, dtype, with_bias, round_first);
}

/* Vector v, before vector `next`. */
MST_INLINE void norm_vector(const mst_norm_args *a, size_t v, size_t next, mst_dtype dtype, norm_kind kind) {
    size_t cols = a->cols, from = vector_start(v, a->groups, cols, a->ldx);
    const void *x = element(a->x, from, dtype);
    float total;
    if (a->delta != NULL) {
        void *sum = element_mut(a->sum, from, dtype);
        total = add_row(x, element(a->delta, from, dtype), sum, cols, dtype, kind);
        x = sum;
    } else {
        total = add_row(x, NULL, NULL, cols, dtype, kind);
    }
    if (a->y == NULL) return;
    double count = (double)cols, mean_square = total / count;
    float mean = 0;
    if (kind == LAYERNORM) {
        mean = (float)(total / count);
        mean_square = row_deviation2(x, mean, cols, dtype) / count;
        ((float *)a->mean)[v] = mean;
    }
    float rstd = (float)(1.0 / __builtin_sqrt(mean_square + a->eps));
    ((float *)a->rstd)[v] = rstd;
    size_t next_from = vector_start(next, a->groups, cols, a->ldx);
    norm_row row = {.x = x,
                    .weight = a->weight,
                    .bias = a->bias,
                    .next_x = element(a->x, next_from, dtype),
                    .next_delta = element(a->delta != NULL ? a->delta : a->x, next_from, dtype),
                    .y = element_mut(a->y, vector_start(v, a->groups, cols, a->ldy), dtype),
                    .mean = mean,
                    .rstd = rstd};
    if (kind == LAYERNORM && a->bias != NULL)
        normalise_row(&row, cols, dtype, true, false);
    else if (kind == RMSNORM && dtype == MST_BF16 && a->round_first)
        normalise_row(&row, cols, dtype, false, true);
    else
        normalise_row(&row, cols, dtype, false, false);
}

static mst_status norm_task(void *context, size_t task, int thread) {
    const norm_job *job = context;
    (void)thread;
    size_t end = tile_end(job->args->rows * job->args->groups, job->tile_vectors, task);
    for (size_t v = task * job->tile_vectors; v < end; v++) {
        size_t next = v + 1 < end ? v + 1 : v;
        if (job->kind == RMSNORM && job->args->dtype == MST_BF16)
            norm_vector(job->args, v, next, MST_BF16, RMSNORM);
        else if (job->kind == RMSNORM)
            norm_vector(job->args, v, next, MST_F32, RMSNORM);
        else if (job->args->dtype == MST_BF16)
            norm_vector(job->args, v, next, MST_BF16, LAYERNORM);
        else
            norm_vector(job->args, v, next, MST_F32, LAYERNORM);
    }
    return MST_OK;
}

static mst_status norm_forward(mst_queue *queue, const mst_norm_args *args, norm_kind kind,
                               const char *operation) {
    mst_status status = MST_OK;
    MST_TRY(check_dtype(operation, args->dtype));
    MST_CHECK((args->delta == NULL) == (args->sum == NULL), MST_EINVAL,
              "%s: delta and sum go together; give both or neither", operation);
    MST_CHECK(kind == LAYERNORM || args->bias == NULL, MST_EINVAL, "%s has no bias; pass NULL", operation);
    MST_CHECK(kind == RMSNORM || !args->round_first, MST_EINVAL, "%s: only rmsnorm can round first",
              operation);
    MST_TRY(check_vectors(operation, args->groups, args->cols, args->ldx, args->y ? args->ldy : args->ldx));
    if (args->rows == 0 || args->cols == 0) goto done;
    if (args->y == NULL && args->delta == NULL) goto done;
    norm_job job = {.args = args, .kind = kind, .tile_vectors = tile_of_rows(args->cols, TILE_ELEMENTS)};
    MST_TRY(mst_queue_for(queue, tiles_of(args->rows * args->groups, job.tile_vectors), norm_task, &job));
done:
    return status;
}

static mst_status mst_rmsnorm_forward_cpu(mst_queue *queue, const mst_norm_args *args) {
    return norm_forward(queue, args, RMSNORM, "rmsnorm_forward");
}

static mst_status mst_layernorm_forward_cpu(mst_queue *queue, const mst_norm_args *args) {
    return norm_forward(queue, args, LAYERNORM, "layernorm_forward");
}

void MST_AT_LEVEL(mst_cpu_fill_norm)(mst_kernels *table) {
    table->rmsnorm_forward = mst_rmsnorm_forward_cpu;
    table->layernorm_forward = mst_layernorm_forward_cpu;
}
