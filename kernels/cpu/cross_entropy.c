/*
 * Cross-entropy and z-loss with their gradient. A row of logits is read from memory once, in blocks:
 * of each block the maximum is found, and exp(logit - maximum) is kept in scratch memory and summed.
 * When the row's log-sum-exp is known, a second pass scales what was kept into the gradient; the
 * exponentials are not computed again.
 */
#include "chunk.h"
#include "cpu.h"
#include "cpu_math.h"
#include "muster/elementary.h"

static mst_cross_entropy_fn mst_cross_entropy_cpu;

enum { TILE_ELEMENTS = 16384, BLOCK = 2048, CHUNK = 64 };
enum { LINE = 16, BLOCK_BYTES = BLOCK * sizeof(float) }; /* floats of a cache line */

typedef struct cross_entropy_job {
    const mst_cross_entropy_args *args;
    mst_queue *queue;
    size_t tile_rows;
} cross_entropy_job;

/* What is kept of a row between the passes, in scratch memory of the thread. */
typedef struct softmax_row {
    float *weight;      /* [vocab] exp(logit - maximum of its block) */
    float *block_max;   /* [blocks] */
    float *block_total; /* [blocks] sum of the weights */
    float max;
    double total; /* sum over j of exp(logit[j] - max) */
} softmax_row;

MST_INLINE void max_chunk(float *lane, const float *x, size_t i, size_t width) {
#pragma omp simd
    for (size_t k = 0; k < width; k++) lane[k] = x[i + k] > lane[k] ? x[i + k] : lane[k];
}

/** The largest of x, NaN left out; -inf if there is none. */
static float max_of(const float *x, size_t n) {
    float lane[MST_LANES];
    for (size_t k = 0; k < MST_LANES; k++) lane[k] = -__builtin_inff();
    size_t i = 0;
    for (; i + MST_LANES <= n; i += MST_LANES) max_chunk(lane, x, i, MST_LANES);
    max_chunk(lane, x, i, n - i);
    for (size_t width = MST_LANES / 2; width > 0; width /= 2)
        for (size_t k = 0; k < width; k++) lane[k] = lane[k + width] > lane[k] ? lane[k + width] : lane[k];
    return lane[0];
}

/* The next block is fetched meanwhile: this pass computes, the search for the maximum waits for memory. */
MST_INLINE void weigh_chunk(float *lane, float *weight, const float *x, float max, size_t i, size_t width) {
    for (size_t k = 0; k < width; k += LINE)
        __builtin_prefetch((const void *)((uintptr_t)(x + i + k) + BLOCK_BYTES));
#pragma omp simd
    for (size_t k = 0; k < width; k++) {
        float w = exp_flushed(x[i + k] - max);
        weight[i + k] = w;
        lane[k] += w;
    }
}

/** weight = exp(x - max); returns their sum. */
static float weigh(float *weight, const float *x, float max, size_t n) {
    float lane[MST_LANES] = {0};
    size_t i = 0;
    for (; i + MST_LANES <= n; i += MST_LANES) weigh_chunk(lane, weight, x, max, i, MST_LANES);
    weigh_chunk(lane, weight, x, max, i, n - i);
    return lanes_sum(lane);
}

/* First pass. A block of nothing but -inf has no weight, whatever it is measured against. */
static void softmax_row_weigh(softmax_row *row, const float *logits, size_t vocab) {
    size_t blocks = tiles_of(vocab, BLOCK);
    row->max = -__builtin_inff();
    for (size_t b = 0; b < blocks; b++) {
        size_t begin = b * BLOCK, width = tile_end(vocab, BLOCK, b) - begin;
        float max = max_of(logits + begin, width);
        row->block_max[b] = max;
        row->block_total[b] =
            weigh(row->weight + begin, logits + begin, max == -__builtin_inff() ? 0 : max, width);
        row->max = max > row->max ? max : row->max;
    }
    row->total = 0;
    for (size_t b = 0; b < blocks; b++)
        row->total += (double)row->block_total[b] * exp_f32(row->block_max[b] - row->max);
}

MST_INLINE void scale_chunk(void *dlogits, const float *weight, float factor, size_t j, size_t width,
                            mst_dtype dtype) {
    float scaled[CHUNK];
#pragma omp simd
    for (size_t k = 0; k < width; k++) scaled[k] = weight[j + k] * factor;
    store_chunk(dlogits, j, scaled, width, dtype);
}

MST_INLINE void scale_row(void *dlogits, const float *weight, float factor, size_t begin, size_t end,
                          mst_dtype dtype) {
    size_t j = begin;
    for (; j + CHUNK <= end; j += CHUNK) scale_chunk(dlogits, weight, factor, j, CHUNK, dtype);
    scale_chunk(dlogits, weight, factor, j, end - j, dtype);
}

/* Second pass: dlogits[j] = factor * exp(logit[j] - max) - (j == target) * scale. */
MST_INLINE void softmax_row_scale(const softmax_row *row, void *dlogits, double factor, float scale,
                                  size_t target, size_t vocab, mst_dtype dtype) {
    for (size_t b = 0; b < tiles_of(vocab, BLOCK); b++) {
        float block_factor = (float)(factor * exp_f32(row->block_max[b] - row->max));
        scale_row(dlogits, row->weight, block_factor, b * BLOCK, tile_end(vocab, BLOCK, b), dtype);
        if (target / BLOCK != b) continue;
        float gradient = row->weight[target] * block_factor - scale;
        store_chunk(dlogits, target, &gradient, 1, dtype);
    }
}

/* Log of the sum of exp(logits); NaN when a logit is NaN or +inf, or all are -inf. */
static double log_sum_exp(const softmax_row *row) {
    if (!(row->total > 0 && row->total < __builtin_inf())) return __builtin_nan("");
    return row->max + mst_elementary_log(row->total);
}

static void cross_entropy_row(const mst_cross_entropy_args *a, size_t r, softmax_row *row) {
    float *loss = a->loss, *zloss = a->zloss;
    void *dlogits = a->dlogits == NULL ? NULL : element_mut(a->dlogits, r * a->ldd, a->dtype);
    if (a->targets[r] < 0) {
        loss[r] = zloss[r] = 0;
        if (dlogits != NULL) memset(dlogits, 0, a->vocab * mst_dtype_size(a->dtype));
        return;
    }
    const float *logits = (const float *)a->logits + r * a->vocab;
    size_t target = (size_t)a->targets[r];
    softmax_row_weigh(row, logits, a->vocab);
    double lse = log_sum_exp(row);
    loss[r] = (float)(lse - logits[target]);
    zloss[r] = (float)(lse * lse);
    if (dlogits == NULL) return;
    double factor = a->scale * (1.0 + 2.0 * a->z_coefficient * lse) / row->total;
    if (a->dtype == MST_BF16)
        softmax_row_scale(row, dlogits, factor, (float)a->scale, target, a->vocab, MST_BF16);
    else
        softmax_row_scale(row, dlogits, factor, (float)a->scale, target, a->vocab, MST_F32);
}

static mst_status cross_entropy_task(void *context, size_t task, int thread) {
    const cross_entropy_job *job = context;
    const mst_cross_entropy_args *a = job->args;
    size_t blocks = tiles_of(a->vocab, BLOCK);
    float *scratch = mst_queue_scratch(job->queue, thread, (a->vocab + 2 * blocks) * sizeof *scratch);
    if (scratch == NULL)
        return mst_error(MST_ENOMEM, "cross_entropy: no memory for a row of %zu logits", a->vocab);
    softmax_row row = {scratch, scratch + a->vocab, scratch + a->vocab + blocks, 0, 0};
    size_t end = tile_end(a->rows, job->tile_rows, task);
    for (size_t r = task * job->tile_rows; r < end; r++) cross_entropy_row(a, r, &row);
    return MST_OK;
}

static mst_status mst_cross_entropy_cpu(mst_queue *queue, const mst_cross_entropy_args *args) {
    mst_status status = MST_OK;
    MST_TRY(check_dtype("cross_entropy", args->dtype));
    if (args->rows == 0 || args->vocab == 0) goto done;
    size_t row_bytes = args->ldd * mst_dtype_size(args->dtype), logits_bytes = args->vocab * sizeof(float);
    MST_CHECK(args->dlogits == NULL || args->ldd >= args->vocab, MST_EINVAL,
              "cross_entropy: ldd %zu is below vocab %zu", args->ldd, args->vocab);
    MST_CHECK(
        args->dlogits != args->logits || row_bytes == logits_bytes, MST_EINVAL,
        "cross_entropy: in place, rows of dlogits must be %zu bytes apart like those of logits, not %zu",
        logits_bytes, row_bytes);
    for (size_t r = 0; r < args->rows; r++)
        MST_CHECK(args->targets[r] < 0 || (size_t)args->targets[r] < args->vocab, MST_EINVAL,
                  "cross_entropy: target %d of row %zu is outside the vocabulary of %zu",
                  (int)args->targets[r], r, args->vocab);
    cross_entropy_job job = {
        .args = args, .queue = queue, .tile_rows = tile_of_rows(args->vocab, TILE_ELEMENTS)};
    MST_TRY(mst_queue_for(queue, tiles_of(args->rows, job.tile_rows), cross_entropy_task, &job));
done:
    return status;
}

void MST_AT_LEVEL(mst_cpu_fill_cross_entropy)(mst_kernels *table) {
    table->cross_entropy = mst_cross_entropy_cpu;
}
