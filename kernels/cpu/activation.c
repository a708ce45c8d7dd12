/* SwiGLU and GELU, element by element. */
#include "cpu.h"
#include "cpu_math.h"

static mst_swiglu_forward_fn mst_swiglu_forward_cpu;
static mst_swiglu_backward_fn mst_swiglu_backward_cpu;
static mst_gelu_forward_fn mst_gelu_forward_cpu;
static mst_gelu_backward_fn mst_gelu_backward_cpu;

enum { TILE = 16384 }; /* elements of a task */

/* ---------------------------------------------------------------- SwiGLU */

MST_INLINE void swiglu_forward(const mst_swiglu_args *a, size_t begin, size_t end, mst_dtype dtype) {
    const void *gate = a->gate, *up = a->up;
    void *y = a->y;
#pragma omp simd
    for (size_t i = begin; i < end; i++) {
        float g = load(gate, i, dtype);
        store(y, i, dtype, g * logistic_f32(g).value * load(up, i, dtype));
    }
}

/* d silu(x) / dx = s (1 + x (1 - s)) with s = logistic(x). */
MST_INLINE void swiglu_backward(const mst_swiglu_args *a, size_t begin, size_t end, mst_dtype dtype) {
    const void *gate = a->gate, *up = a->up, *dy = a->dy;
    void *dgate = a->dgate, *dup = a->dup;
#pragma omp simd
    for (size_t i = begin; i < end; i++) {
        float g = load(gate, i, dtype), u = load(up, i, dtype), d = load(dy, i, dtype);
        logistic_pair s = logistic_f32(g);
        store(dgate, i, dtype, d * u * s.value * fma_f32(g, s.rest, 1.0f));
        store(dup, i, dtype, d * (g * s.value));
    }
}

static mst_status swiglu_forward_task(void *context, size_t task, int thread) {
    const mst_swiglu_args *a = context;
    (void)thread;
    size_t begin = task * TILE, end = tile_end(a->rows * a->cols, TILE, task);
    if (a->dtype == MST_BF16)
        swiglu_forward(a, begin, end, MST_BF16);
    else
        swiglu_forward(a, begin, end, MST_F32);
    return MST_OK;
}

static mst_status swiglu_backward_task(void *context, size_t task, int thread) {
    const mst_swiglu_args *a = context;
    (void)thread;
    size_t begin = task * TILE, end = tile_end(a->rows * a->cols, TILE, task);
    if (a->dtype == MST_BF16)
        swiglu_backward(a, begin, end, MST_BF16);
    else
        swiglu_backward(a, begin, end, MST_F32);
    return MST_OK;
}

static mst_status mst_swiglu_forward_cpu(mst_queue *queue, const mst_swiglu_args *args) {
    mst_status status = MST_OK;
    mst_swiglu_args job = *args;
    MST_TRY(check_dtype("swiglu_forward", args->dtype));
    MST_TRY(mst_queue_for(queue, tiles_of(args->rows * args->cols, TILE), swiglu_forward_task, &job));
done:
    return status;
}

static mst_status mst_swiglu_backward_cpu(mst_queue *queue, const mst_swiglu_args *args) {
    mst_status status = MST_OK;
    mst_swiglu_args job = *args;
    MST_TRY(check_dtype("swiglu_backward", args->dtype));
    MST_TRY(mst_queue_for(queue, tiles_of(args->rows * args->cols, TILE), swiglu_backward_task, &job));
done:
    return status;
}

/* ---------------------------------------------------------------- GELU */

/*
 * (1 + tanh(z)) / 2 = logistic(2 z), which does not cancel for negative z. 2 z = x (linear + cubic x^2), with
 * linear = 2 sqrt(2 / pi) and cubic = 0.044715 linear. From x^2 = 400 on the logistic function is 0 or 1 in
 * fp32: held there, so that nothing overflows.
 */
static const float gelu_linear = 1.59576912f, gelu_cubic = 0.0713548163f, gelu_square_max = 400.0f;

MST_INLINE float gelu_square(float x) {
    float square = x * x;
    return square > gelu_square_max ? gelu_square_max : square;
}

MST_INLINE void gelu_forward(const mst_gelu_args *a, size_t begin, size_t end, mst_dtype dtype) {
    const void *x = a->x;
    void *y = a->y;
#pragma omp simd
    for (size_t i = begin; i < end; i++) {
        float v = load(x, i, dtype);
        store(y, i, dtype, v * logistic_f32(v * fma_f32(gelu_cubic, gelu_square(v), gelu_linear)).value);
    }
}

/* With s = logistic(2 z): d gelu(x) / dx = s + x s (1 - s) d(2 z) / dx. */
MST_INLINE void gelu_backward(const mst_gelu_args *a, size_t begin, size_t end, mst_dtype dtype) {
    const void *x = a->x, *dy = a->dy;
    void *dx = a->dx;
#pragma omp simd
    for (size_t i = begin; i < end; i++) {
        float v = load(x, i, dtype), square = gelu_square(v);
        logistic_pair s = logistic_f32(v * fma_f32(gelu_cubic, square, gelu_linear));
        float slope = fma_f32(3.0f * gelu_cubic, square, gelu_linear);
        store(dx, i, dtype, load(dy, i, dtype) * fma_f32(v * s.value * s.rest, slope, s.value));
    }
}

static mst_status gelu_forward_task(void *context, size_t task, int thread) {
    const mst_gelu_args *a = context;
    (void)thread;
    size_t begin = task * TILE, end = tile_end(a->count, TILE, task);
    if (a->dtype == MST_BF16)
        gelu_forward(a, begin, end, MST_BF16);
    else
        gelu_forward(a, begin, end, MST_F32);
    return MST_OK;
}

static mst_status gelu_backward_task(void *context, size_t task, int thread) {
    const mst_gelu_args *a = context;
    (void)thread;
    size_t begin = task * TILE, end = tile_end(a->count, TILE, task);
    if (a->dtype == MST_BF16)
        gelu_backward(a, begin, end, MST_BF16);
    else
        gelu_backward(a, begin, end, MST_F32);
    return MST_OK;
}

static mst_status mst_gelu_forward_cpu(mst_queue *queue, const mst_gelu_args *args) {
    mst_status status = MST_OK;
    mst_gelu_args job = *args;
    MST_TRY(check_dtype("gelu_forward", args->dtype));
    MST_TRY(mst_queue_for(queue, tiles_of(args->count, TILE), gelu_forward_task, &job));
done:
    return status;
}

static mst_status mst_gelu_backward_cpu(mst_queue *queue, const mst_gelu_args *args) {
    mst_status status = MST_OK;
    mst_gelu_args job = *args;
    MST_TRY(check_dtype("gelu_backward", args->dtype));
    MST_TRY(mst_queue_for(queue, tiles_of(args->count, TILE), gelu_backward_task, &job));
done:
    return status;
}

void MST_AT_LEVEL(mst_cpu_fill_activation)(mst_kernels *table) {
    table->swiglu_forward = mst_swiglu_forward_cpu;
    table->swiglu_backward = mst_swiglu_backward_cpu;
    table->gelu_forward = mst_gelu_forward_cpu;
    table->gelu_backward = mst_gelu_backward_cpu;
}
