/* RMSNorm and LayerNorm, and sums over rows: the gradients of norm weights and of biases. */
#include "device.cuh"

/*
 * A vector is normalised by a team of warps that keeps it in registers: one warp up to 1,024 elements, eight up to 8,192.
 */
enum { THREADS = 256, PACKS = 4, PACK = 8, ROWS = MST_COLUMN_VECTORS };

static constexpr size_t most_cols(int warps) {
    return (size_t)warps * 32 * PACKS * PACK;
}

/* Where the teams of this block stand. */
struct team {
    size_t vector;
    unsigned rank; /* of this thread in its team */
};

template <int WARPS> MST_DEVICE team team_here() {
    return {(size_t)blockIdx.x * (8 / WARPS) + threadIdx.x / (32 * WARPS), threadIdx.x % (32 * WARPS)};
}

/* ---------------------------------------------------------------- forward */

struct norm_shape {
    size_t vectors, groups, cols, ldx, ldy;
    float eps;
    bool layernorm, round_first, wide;
};

template <class T, int WARPS>
MST_KERNEL(THREADS)
norm_forward(norm_shape s, const T *x_all, const T *delta, T *sum, const T *weight, const T *bias, T *y,
             float *mean_out, float *rstd_out) {
    MST_SHARED(float, shared, THREADS / 32);
    team t = team_here<WARPS>();
    bool inside = t.vector < s.vectors;
    size_t v = inside ? t.vector : s.vectors - 1; /* teams past the end stay for the barriers */
    size_t from = v / s.groups * s.ldx + v % s.groups * s.cols,
           to = v / s.groups * s.ldy + v % s.groups * s.cols;
    float x[PACKS][PACK], total = 0.0f;
    MST_UNROLL for (int p = 0; p < PACKS; p++) {
        size_t c = ((size_t)p * 32 * WARPS + t.rank) * PACK, left = c < s.cols ? s.cols - c : 0;
        load(x_all + from + c, left, s.wide, x[p]);
        if (delta) {
            float d[PACK];
            load(delta + from + c, left, s.wide, d);
            MST_UNROLL for (int k = 0; k < PACK; k++) x[p][k] = rounded_to<T>(x[p][k] + d[k]);
            if (inside && left > 0) store(sum + from + c, left, s.wide, x[p]);
        }
        MST_UNROLL for (int k = 0; k < PACK; k++) total += x[p][k];
    }
    if (!y) return;
    float mean = s.layernorm ? team_sum<WARPS>(total, shared) / (float)s.cols : 0.0f, squares = 0.0f;
    MST_UNROLL for (int p = 0; p < PACKS; p++) {
        size_t c = ((size_t)p * 32 * WARPS + t.rank) * PACK;
        MST_UNROLL for (int k = 0; k < PACK; k++) {
            x[p][k] -= mean;
            if (c + k < s.cols) squares = fmaf(x[p][k], x[p][k], squares);
        }
    }
    float rstd = 1.0f / sqrtf(team_sum<WARPS>(squares, shared) / (float)s.cols + s.eps);
    if (!inside) return;
    if (t.rank == 0) {
        if (s.layernorm) mean_out[v] = mean;
        rstd_out[v] = rstd;
    }
    MST_UNROLL for (int p = 0; p < PACKS; p++) {
        size_t c = ((size_t)p * 32 * WARPS + t.rank) * PACK, left = c < s.cols ? s.cols - c : 0;
        if (left == 0) break;
        float w[PACK], b[PACK] = {0.0f};
        load(weight + c, left, s.wide, w);
        if (bias) load(bias + c, left, s.wide, b);
        MST_UNROLL for (int k = 0; k < PACK; k++) {
            float normal = x[p][k] * rstd;
            if (s.round_first) normal = rounded_to<T>(normal);
            x[p][k] = bias ? normal * w[k] + b[k] : normal * w[k];
        }
        store(y + to + c, left, s.wide, x[p]);
    }
}

static mst_status check_shape(const char *name, mst_dtype dtype, size_t groups, size_t cols, size_t lda,
                              size_t ldb) {
    if (groups == 0) return mst_error(MST_EINVAL, "%s: groups is 0; it must be at least 1", name);
    if (lda < groups * cols || ldb < groups * cols)
        return mst_error(MST_EINVAL, "%s: rows are %zu and %zu elements apart; they have %zu", name, lda, ldb,
                         groups * cols);
    if (cols > most_cols(8))
        return mst_error(MST_EUNSUPPORTED, "%s: vectors of %zu elements; at most %zu on device cuda", name,
                         cols, most_cols(8));
    return mst_cuda_check_dtype(name, dtype);
}

static mst_status check_forward(const char *name, const mst_norm_args *args, bool layernorm) {
    MST_RETURN_IF(
        check_shape(name, args->dtype, args->groups, args->cols, args->ldx, args->y ? args->ldy : args->ldx));
    if (layernorm && args->round_first)
        return mst_error(MST_EINVAL, "%s: only rmsnorm can round first", name);
    if ((args->sum == NULL) != (args->delta == NULL))
        return mst_error(MST_EINVAL, "%s: `delta` and `sum` come together; one of them is NULL", name);
    if (!layernorm && args->bias) return mst_error(MST_EINVAL, "%s: it has no bias; pass NULL", name);
    if (args->y && (!args->rstd || (layernorm && !args->mean)))
        return mst_error(MST_EINVAL, "%s: `rstd` or `mean` is NULL; they are outputs beside `y`", name);
    return MST_OK;
}

/* Rows begin on 16 bytes in every tensor. */
static bool rows_are_wide(mst_dtype dtype, size_t groups, size_t cols, size_t lda, size_t ldb) {
    size_t n = 16 / mst_dtype_size(dtype);
    return (groups == 1 || cols % n == 0) && lda % n == 0 && ldb % n == 0;
}

template <class T, int WARPS>
static mst_status start_forward(mst_cuda *cuda, const mst_norm_args *a, const norm_shape &s) {
    unsigned blocks;
    MST_RETURN_IF(mst_grid("norm_forward", s.vectors, 8 / WARPS, &blocks));
    return MST_LAUNCH(cuda, (norm_forward<T, WARPS>), blocks, THREADS, 0, s, static_cast<const T *>(a->x),
                      static_cast<const T *>(a->delta), static_cast<T *>(a->sum),
                      static_cast<const T *>(a->weight), static_cast<const T *>(a->bias),
                      static_cast<T *>(a->y), static_cast<float *>(a->mean), static_cast<float *>(a->rstd));
}

static mst_status forward(const char *name, mst_queue *queue, const mst_norm_args *a, bool layernorm) {
    mst_cuda *cuda;
    MST_RETURN_IF(check_forward(name, a, layernorm));
    MST_RETURN_IF(mst_cuda_of(queue, &cuda));
    if (a->rows == 0 || a->cols == 0) return MST_OK;
    bool wide = rows_are_wide(a->dtype, a->groups, a->cols, a->ldx, a->y ? a->ldy : a->ldx) &&
                mst_is_wide(a->x) && mst_is_wide(a->delta) && mst_is_wide(a->sum) && mst_is_wide(a->weight) &&
                mst_is_wide(a->bias) && mst_is_wide(a->y);
    norm_shape s = {a->rows * a->groups, a->groups, a->cols,        a->ldx, a->ldy,
                    (float)a->eps,       layernorm, a->round_first, wide};
    return MST_FOR_DTYPE(a->dtype, T, {
        return s.cols <= most_cols(1) ? start_forward<T, 1>(cuda, a, s) : start_forward<T, 8>(cuda, a, s);
    });
}

mst_status mst_rmsnorm_forward_cuda(mst_queue *queue, const mst_norm_args *args) {
    return forward("rmsnorm_forward", queue, args, false);
}
mst_status mst_layernorm_forward_cuda(mst_queue *queue, const mst_norm_args *args) {
    return forward("layernorm_forward", queue, args, true);
}

/* ---------------------------------------------------------------- backward: x */

struct grad_shape {
    size_t vectors, groups, cols, ldx, ldd;
    bool layernorm, wide;
};

/* dx = rstd (g - mean(g) - xhat mean(g xhat)), g = weight dy; without mean(g) for RMSNorm. */
template <class T, int WARPS>
MST_KERNEL(THREADS)
norm_backward(grad_shape s, const T *x_all, const T *weight, const float *mean_all, const float *rstd_all,
              const T *dy, const T *dresidual, T *dx) {
    MST_SHARED(float, shared, THREADS / 32);
    team t = team_here<WARPS>();
    bool inside = t.vector < s.vectors;
    size_t v = inside ? t.vector : s.vectors - 1;
    size_t from = v / s.groups * s.ldx + v % s.groups * s.cols,
           to = v / s.groups * s.ldd + v % s.groups * s.cols;
    float mean = s.layernorm ? mean_all[v] : 0.0f, rstd = rstd_all[v], sum_g = 0.0f, sum_g_xhat = 0.0f;
    float xhat[PACKS][PACK], g[PACKS][PACK];
    MST_UNROLL for (int p = 0; p < PACKS; p++) {
        size_t c = ((size_t)p * 32 * WARPS + t.rank) * PACK, left = c < s.cols ? s.cols - c : 0;
        float w[PACK];
        load(x_all + from + c, left, s.wide, xhat[p]);
        load(dy + to + c, left, s.wide, g[p]);
        load(weight + c, left, s.wide, w);
        MST_UNROLL for (int k = 0; k < PACK; k++) {
            xhat[p][k] = (xhat[p][k] - mean) * rstd;
            g[p][k] = g[p][k] * w[k];
            if ((size_t)k >= left) continue;
            sum_g += g[p][k];
            sum_g_xhat = fmaf(g[p][k], xhat[p][k], sum_g_xhat);
        }
    }
    float mean_g = s.layernorm ? team_sum<WARPS>(sum_g, shared) / (float)s.cols : 0.0f;
    float mean_g_xhat = team_sum<WARPS>(sum_g_xhat, shared) / (float)s.cols;
    if (!inside) return;
    MST_UNROLL for (int p = 0; p < PACKS; p++) {
        size_t c = ((size_t)p * 32 * WARPS + t.rank) * PACK, left = c < s.cols ? s.cols - c : 0;
        if (left == 0) break;
        float r[PACK] = {0.0f};
        if (dresidual) load(dresidual + to + c, left, s.wide, r);
        MST_UNROLL for (int k = 0; k < PACK; k++) {
            float d = rstd * (g[p][k] - mean_g - xhat[p][k] * mean_g_xhat);
            g[p][k] = dresidual ? d + r[k] : d;
        }
        store(dx + to + c, left, s.wide, g[p]);
    }
}

template <class T, int WARPS>
static mst_status start_backward(mst_cuda *cuda, const mst_norm_grad_args *a, const grad_shape &s) {
    unsigned blocks;
    MST_RETURN_IF(mst_grid("norm_backward", s.vectors, 8 / WARPS, &blocks));
    return MST_LAUNCH(cuda, (norm_backward<T, WARPS>), blocks, THREADS, 0, s, static_cast<const T *>(a->x),
                      static_cast<const T *>(a->weight), static_cast<const float *>(a->mean),
                      static_cast<const float *>(a->rstd), static_cast<const T *>(a->dy),
                      static_cast<const T *>(a->dresidual), static_cast<T *>(a->dx));
}

/* ---------------------------------------------------------------- sums over rows, in two stages */

/* What is summed: dy xhat, and dy. Without x there is only dy. */
struct column_shape {
    size_t vectors, groups, cols, ldx, ldd;
};

/* A block of 32 columns and ROWS vectors: eight warps take every eighth vector each, and are added in order. The
 * partial sums are [chunks, 2, cols]. */
template <class T>
MST_KERNEL(THREADS)
column_partials(column_shape s, const T *x, const float *mean, const float *rstd, const T *dy,
                float *partial) {
    MST_SHARED(float, shared, 2 * THREADS);
    unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    size_t chunk = blockIdx.x, c = (size_t)blockIdx.y * 32 + lane, first = chunk * ROWS;
    size_t end = s.vectors - first < ROWS ? s.vectors : first + ROWS;
    float weight = 0.0f, bias = 0.0f;
    for (size_t v = first + warp; c < s.cols && v < end; v += THREADS / 32) {
        float d = to_f32(dy[v / s.groups * s.ldd + v % s.groups * s.cols + c]);
        bias += d;
        if (!x) continue;
        float centred = to_f32(x[v / s.groups * s.ldx + v % s.groups * s.cols + c]) - (mean ? mean[v] : 0.0f);
        weight = fmaf(d, centred * rstd[v], weight);
    }
    shared[threadIdx.x] = weight;
    shared[THREADS + threadIdx.x] = bias;
    __syncthreads();
    if (warp > 1 || c >= s.cols) return; /* warp 0 adds weights, warp 1 biases */
    float sum = shared[warp * THREADS + lane];
    for (unsigned w = 1; w < THREADS / 32; w++) sum += shared[warp * THREADS + w * 32 + lane];
    partial[(chunk * 2 + warp) * s.cols + c] = sum;
}

/* Adds the chunks of a column in order, in fp64 so that their number does not matter, to what is there. */
MST_KERNEL(THREADS)
column_totals(size_t chunks, size_t cols, const float *partial, float *dweight, float *dbias) {
    size_t c = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (c >= cols) return;
    double weight = 0.0, bias = 0.0;
    for (size_t chunk = 0; chunk < chunks; chunk++) {
        weight += (double)partial[chunk * 2 * cols + c];
        bias += (double)partial[(chunk * 2 + 1) * cols + c];
    }
    if (dweight) dweight[c] = (float)((double)dweight[c] + weight);
    if (dbias) dbias[c] = (float)((double)dbias[c] + bias);
}

/* x NULL: only dbias. */
template <class T>
static mst_status sum_columns(mst_cuda *cuda, const column_shape &s, const T *x, const float *mean,
                              const float *rstd, const T *dy, float *dweight, float *dbias) {
    unsigned chunks, tiles, blocks;
    void *partial;
    MST_RETURN_IF(mst_grid("column sums", s.vectors, ROWS, &chunks));
    MST_RETURN_IF(mst_grid("column sums", s.cols, 32, &tiles));
    MST_RETURN_IF(mst_grid("column sums", s.cols, THREADS, &blocks));
    if (tiles > 65535)
        return mst_error(MST_EUNSUPPORTED, "sums of %zu columns; at most 2097120 on device cuda", s.cols);
    MST_RETURN_IF(mst_cuda_scratch(cuda, mst_column_sum_bytes(s.vectors, s.cols), &partial));
    MST_RETURN_IF(MST_LAUNCH(cuda, column_partials<T>, dim3(chunks, tiles), THREADS, 0, s, x, mean, rstd, dy,
                             static_cast<float *>(partial)));
    return MST_LAUNCH(cuda, column_totals, blocks, THREADS, 0, chunks, s.cols,
                      static_cast<const float *>(partial), dweight, dbias);
}

mst_status mst_bias_grad_cuda(mst_queue *queue, const mst_bias_grad_args *a) {
    mst_cuda *cuda;
    if (a->ld < a->cols)
        return mst_error(MST_EINVAL, "bias_grad: ld %zu is less than the %zu columns", a->ld, a->cols);
    MST_RETURN_IF(mst_cuda_check_dtype("bias_grad", a->dtype));
    MST_RETURN_IF(mst_cuda_of(queue, &cuda));
    if (a->rows == 0 || a->cols == 0) return MST_OK;
    column_shape s = {a->rows, 1, a->cols, 0, a->ld};
    return MST_FOR_DTYPE(a->dtype, T, {
        const T *none = NULL;
        return sum_columns(cuda, s, none, NULL, NULL, static_cast<const T *>(a->dy), NULL,
                           static_cast<float *>(a->dbias));
    });
}

/* ---------------------------------------------------------------- backward */

/* The weights first: dx may lie where dy does. */
template <class T>
static mst_status backward_of(mst_cuda *cuda, const mst_norm_grad_args *a, const grad_shape &s) {
    column_shape columns = {s.vectors, s.groups, s.cols, s.ldx, s.ldd};
    MST_RETURN_IF(sum_columns(cuda, columns, static_cast<const T *>(a->x),
                              s.layernorm ? static_cast<const float *>(a->mean) : NULL,
                              static_cast<const float *>(a->rstd), static_cast<const T *>(a->dy),
                              static_cast<float *>(a->dweight), static_cast<float *>(a->dbias)));
    return s.cols <= most_cols(1) ? start_backward<T, 1>(cuda, a, s) : start_backward<T, 8>(cuda, a, s);
}

static mst_status backward(const char *name, mst_queue *queue, const mst_norm_grad_args *a, bool layernorm) {
    mst_cuda *cuda;
    MST_RETURN_IF(check_shape(name, a->dtype, a->groups, a->cols, a->ldx, a->ldd));
    if (!layernorm && a->dbias) return mst_error(MST_EINVAL, "%s: it has no bias; pass NULL for dbias", name);
    MST_RETURN_IF(mst_cuda_of(queue, &cuda));
    if (a->rows == 0 || a->cols == 0) return MST_OK;
    bool wide = rows_are_wide(a->dtype, a->groups, a->cols, a->ldx, a->ldd) && mst_is_wide(a->x) &&
                mst_is_wide(a->weight) && mst_is_wide(a->dy) && mst_is_wide(a->dresidual) &&
                mst_is_wide(a->dx);
    grad_shape s = {a->rows * a->groups, a->groups, a->cols, a->ldx, a->ldd, layernorm, wide};
    return MST_FOR_DTYPE(a->dtype, T, { return backward_of<T>(cuda, a, s); });
}

mst_status mst_rmsnorm_backward_cuda(mst_queue *queue, const mst_norm_grad_args *args) {
    return backward("rmsnorm_backward", queue, args, false);
}
mst_status mst_layernorm_backward_cuda(mst_queue *queue, const mst_norm_grad_args *args) {
    return backward("layernorm_backward", queue, args, true);
}
