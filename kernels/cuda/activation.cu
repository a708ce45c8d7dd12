/* SwiGLU and GELU, forward and backward, and RoPE: one pass over memory each. */
#include "device.cuh"

enum { THREADS = 256 };

/* ---------------------------------------------------------------- SwiGLU */

template <class T>
MST_KERNEL(THREADS)
swiglu_forward(size_t count, const T *gate, const T *up, T *y, bool wide) {
    constexpr int N = WIDTH<T>;
    size_t i = ((size_t)blockIdx.x * THREADS + threadIdx.x) * N;
    if (i >= count) return;
    float g[N], u[N];
    load(gate + i, count - i, wide, g);
    load(up + i, count - i, wide, u);
    MST_UNROLL for (int k = 0; k < N; k++) u[k] = g[k] * logistic(g[k]).value * u[k];
    store(y + i, count - i, wide, u);
}

/* With s = logistic(gate): d silu = s (1 + gate (1 - s)). */
template <class T>
MST_KERNEL(THREADS)
swiglu_backward(size_t count, const T *gate, const T *up, const T *dy, T *dgate, T *dup, bool wide) {
    constexpr int N = WIDTH<T>;
    size_t i = ((size_t)blockIdx.x * THREADS + threadIdx.x) * N;
    if (i >= count) return;
    float g[N], u[N], d[N];
    load(gate + i, count - i, wide, g);
    load(up + i, count - i, wide, u);
    load(dy + i, count - i, wide, d);
    MST_UNROLL for (int k = 0; k < N; k++) {
        logistic_pair s = logistic(g[k]);
        float gate_k = g[k];
        g[k] = d[k] * u[k] * s.value * (1.0f + gate_k * s.rest);
        u[k] = d[k] * gate_k * s.value;
    }
    store(dgate + i, count - i, wide, g);
    store(dup + i, count - i, wide, u);
}

mst_status mst_swiglu_forward_cuda(mst_queue *queue, const mst_swiglu_args *args) {
    mst_cuda *cuda;
    unsigned blocks;
    size_t count = args->rows * args->cols;
    MST_RETURN_IF(mst_cuda_check_dtype("swiglu_forward", args->dtype));
    MST_RETURN_IF(mst_cuda_of(queue, &cuda));
    MST_RETURN_IF(mst_grid("swiglu_forward", count, 16 / mst_dtype_size(args->dtype) * THREADS, &blocks));
    if (blocks == 0) return MST_OK;
    bool wide = mst_is_wide(args->gate) && mst_is_wide(args->up) && mst_is_wide(args->y);
    return MST_FOR_DTYPE(args->dtype, T, {
        return MST_LAUNCH(cuda, swiglu_forward<T>, blocks, THREADS, 0, count,
                          static_cast<const T *>(args->gate), static_cast<const T *>(args->up),
                          static_cast<T *>(args->y), wide);
    });
}

mst_status mst_swiglu_backward_cuda(mst_queue *queue, const mst_swiglu_args *args) {
    mst_cuda *cuda;
    unsigned blocks;
    size_t count = args->rows * args->cols;
    MST_RETURN_IF(mst_cuda_check_dtype("swiglu_backward", args->dtype));
    MST_RETURN_IF(mst_cuda_of(queue, &cuda));
    MST_RETURN_IF(mst_grid("swiglu_backward", count, 16 / mst_dtype_size(args->dtype) * THREADS, &blocks));
    if (blocks == 0) return MST_OK;
    bool wide = mst_is_wide(args->gate) && mst_is_wide(args->up) && mst_is_wide(args->dy) &&
                mst_is_wide(args->dgate) && mst_is_wide(args->dup);
    return MST_FOR_DTYPE(args->dtype, T, {
        return MST_LAUNCH(cuda, swiglu_backward<T>, blocks, THREADS, 0, count,
                          static_cast<const T *>(args->gate), static_cast<const T *>(args->up),
                          static_cast<const T *>(args->dy), static_cast<T *>(args->dgate),
                          static_cast<T *>(args->dup), wide);
    });
}

/* ---------------------------------------------------------------- GELU */

/* As the CPU's body: (1 + tanh z) / 2 = logistic(2 z), 2 z = x (linear + cubic x^2). From x^2 = 400 on the logistic
 * function is 0 or 1 in fp32: held there, so that nothing overflows. */
constexpr float gelu_linear = 1.59576912f, gelu_cubic = 0.0713548163f;

MST_DEVICE float gelu_square(float x) {
    float square = x * x;
    return square > 400.0f ? 400.0f : square;
}

MST_DEVICE logistic_pair gelu_logistic(float x) {
    return logistic(x * fmaf(gelu_cubic, gelu_square(x), gelu_linear));
}

template <class T> MST_KERNEL(THREADS) gelu_forward(size_t count, const T *x_all, T *y, bool wide) {
    constexpr int N = WIDTH<T>;
    size_t i = ((size_t)blockIdx.x * THREADS + threadIdx.x) * N;
    if (i >= count) return;
    float x[N];
    load(x_all + i, count - i, wide, x);
    MST_UNROLL for (int k = 0; k < N; k++) x[k] = x[k] * gelu_logistic(x[k]).value;
    store(y + i, count - i, wide, x);
}

/* With s = logistic(2 z): d gelu(x) / dx = s + x s (1 - s) d(2 z) / dx. */
template <class T>
MST_KERNEL(THREADS)
gelu_backward(size_t count, const T *x_all, const T *dy, T *dx, bool wide) {
    constexpr int N = WIDTH<T>;
    size_t i = ((size_t)blockIdx.x * THREADS + threadIdx.x) * N;
    if (i >= count) return;
    float x[N], d[N];
    load(x_all + i, count - i, wide, x);
    load(dy + i, count - i, wide, d);
    MST_UNROLL for (int k = 0; k < N; k++) {
        logistic_pair s = gelu_logistic(x[k]);
        float slope = fmaf(3.0f * gelu_cubic, gelu_square(x[k]), gelu_linear);
        d[k] = d[k] * fmaf(x[k] * s.value * s.rest, slope, s.value);
    }
    store(dx + i, count - i, wide, d);
}

mst_status mst_gelu_forward_cuda(mst_queue *queue, const mst_gelu_args *args) {
    mst_cuda *cuda;
    unsigned blocks;
    MST_RETURN_IF(mst_cuda_check_dtype("gelu_forward", args->dtype));
    MST_RETURN_IF(mst_cuda_of(queue, &cuda));
    MST_RETURN_IF(mst_grid("gelu_forward", args->count, 16 / mst_dtype_size(args->dtype) * THREADS, &blocks));
    if (blocks == 0) return MST_OK;
    bool wide = mst_is_wide(args->x) && mst_is_wide(args->y);
    return MST_FOR_DTYPE(args->dtype, T, {
        return MST_LAUNCH(cuda, gelu_forward<T>, blocks, THREADS, 0, args->count,
                          static_cast<const T *>(args->x), static_cast<T *>(args->y), wide);
    });
}

mst_status mst_gelu_backward_cuda(mst_queue *queue, const mst_gelu_args *args) {
    mst_cuda *cuda;
    unsigned blocks;
    MST_RETURN_IF(mst_cuda_check_dtype("gelu_backward", args->dtype));
    MST_RETURN_IF(mst_cuda_of(queue, &cuda));
    MST_RETURN_IF(
        mst_grid("gelu_backward", args->count, 16 / mst_dtype_size(args->dtype) * THREADS, &blocks));
    if (blocks == 0) return MST_OK;
    bool wide = mst_is_wide(args->x) && mst_is_wide(args->dy) && mst_is_wide(args->dx);
    return MST_FOR_DTYPE(args->dtype, T, {
        return MST_LAUNCH(cuda, gelu_backward<T>, blocks, THREADS, 0, args->count,
                          static_cast<const T *>(args->x), static_cast<const T *>(args->dy),
                          static_cast<T *>(args->dx), wide);
    });
}

/* ---------------------------------------------------------------- RoPE */

/* N pairs (i, i + half) of one head by a thread. */
template <class T, int N>
MST_KERNEL(THREADS)
rope(size_t pairs, size_t row_pairs, size_t half, size_t seq_len, size_t first, const int32_t *starts,
     const float *cosine, const float *sine, float sign, T *x_all, size_t ld) {
    size_t pair = ((size_t)blockIdx.x * THREADS + threadIdx.x) * N;
    if (pair >= pairs) return;
    size_t row = pair / row_pairs, in_row = pair % row_pairs, i = in_row % half;
    size_t angle = (first + row % seq_len - (starts ? (size_t)starts[row] : 0)) * half + i;
    T *at = x_all + row * ld + in_row / half * 2 * half + i;
    float x[N], y[N], c[N], s[N];
    load(at, N, N > 1, x);
    load(at + half, N, N > 1, y);
    load(cosine + angle, N, N > 1, c);
    load(sine + angle, N, N > 1, s);
    MST_UNROLL for (int k = 0; k < N; k++) {
        float x_k = x[k], sine_k = sign * s[k];
        x[k] = x_k * c[k] - y[k] * sine_k;
        y[k] = y[k] * c[k] + x_k * sine_k;
    }
    store(at, N, N > 1, x);
    store(at + half, N, N > 1, y);
}

static mst_status check_rope(const mst_rope_args *args) {
    if (args->head_dim % 2 != 0)
        return mst_error(MST_EINVAL, "rope: head_dim %zu is odd; it must be even", args->head_dim);
    if (args->rows > 0 && args->seq_len == 0)
        return mst_error(MST_EINVAL, "rope: %zu rows but seq_len 0", args->rows);
    if (args->ld < args->heads * args->head_dim)
        return mst_error(MST_EINVAL, "rope: ld %zu is less than heads * head_dim = %zu", args->ld,
                         args->heads * args->head_dim);
    return mst_cuda_check_dtype("rope", args->dtype);
}

template <class T, int N> static mst_status start_rope(mst_cuda *cuda, const mst_rope_args *args) {
    size_t half = args->head_dim / 2, pairs = args->rows * args->heads * half;
    unsigned blocks;
    MST_RETURN_IF(mst_grid("rope", pairs, THREADS * N, &blocks));
    if (blocks == 0) return MST_OK;
    return MST_LAUNCH(cuda, (rope<T, N>), blocks, THREADS, 0, pairs, args->heads * half, half, args->seq_len,
                      args->first, args->starts, args->cosine, args->sine, args->inverse ? -1.0f : 1.0f,
                      static_cast<T *>(args->x), args->ld);
}

mst_status mst_rope_cuda(mst_queue *queue, const mst_rope_args *args) {
    mst_cuda *cuda;
    MST_RETURN_IF(check_rope(args));
    MST_RETURN_IF(mst_cuda_of(queue, &cuda));
    return MST_FOR_DTYPE(args->dtype, T, {
        constexpr int N = WIDTH<T>;
        bool wide = args->head_dim / 2 % N == 0 && args->ld % N == 0 && mst_is_wide(args->x) &&
                    mst_is_wide(args->cosine) && mst_is_wide(args->sine);
        return wide ? start_rope<T, N>(cuda, args) : start_rope<T, 1>(cuda, args);
    });
}
