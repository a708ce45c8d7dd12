/* SwiGLU and GELU, element by element. */
#include "chunk.h"
#include "cpu.h"
#include "cpu_math.h"

static mst_swiglu_forward_fn mst_swiglu_forward_cpu;
static mst_swiglu_backward_fn mst_swiglu_backward_cpu;
static mst_gelu_forward_fn mst_gelu_forward_cpu;
static mst_gelu_backward_fn mst_gelu_backward_cpu;

/*
 * The arithmetic of a chunk. gcc keeps it in registers from loading to storing. clang finds no vectors in it there: for clang it is a
 * function by itself, and a chunk lies in the first cache.
 */
#ifdef __clang__
#define ARITHMETIC static __attribute__((noinline))
enum { TILE = 16384, CHUNK = 256 }; /* elements of a task; of a chunk */
#else
#define ARITHMETIC MST_INLINE
enum { TILE = 16384, CHUNK = 32 };
#endif

/* ---------------------------------------------------------------- SwiGLU */

/* Where the logistic function is 1 in fp32, and its slope 0; and where it is next to nothing. */
static const float gate_low = -87.0f, gate_high = 88.0f;

/* up = gate logistic(gate) up, with `held`, the gate within its limits. */
ARITHMETIC void swiglu_values(float *up, const float *gate, const float *held, size_t width,
                              mst_dtype dtype) {
    const float unit = -logistic_unit(dtype);
#pragma omp simd
    for (size_t k = 0; k < width; k++) up[k] *= gate[k] * logistic_negative(unit * held[k], dtype).value;
}

MST_INLINE void swiglu_chunk(const mst_swiglu_args *a, size_t i, size_t width, mst_dtype dtype) {
    float gate[CHUNK], up[CHUNK], held[CHUNK];
    load_chunk(gate, a->gate, i, width, dtype);
    load_chunk(up, a->up, i, width, dtype);
    load_chunk(held, a->gate, i, width, dtype);
    hold_chunk(held, width, gate_low, gate_high);
    swiglu_values(up, gate, held, width, dtype);
    store_chunk(a->y, i, up, width, dtype);
}

MST_INLINE void swiglu_forward(const mst_swiglu_args *args, size_t begin, size_t end, mst_dtype dtype) {
    const mst_swiglu_args a = *args;
    size_t i = begin;
    for (; i + CHUNK <= end; i += CHUNK) swiglu_chunk(&a, i, CHUNK, dtype);
    swiglu_chunk(&a, i, end - i, dtype);
}

/* d silu(x) / dx = s + x s', with s = logistic(x). up becomes dgate, dy becomes dup. */
ARITHMETIC void swiglu_gradients(float *up, float *dy, const float *gate, const float *held, size_t width,
                                 mst_dtype dtype) {
    const float unit = -logistic_unit(dtype);
#pragma omp simd
    for (size_t k = 0; k < width; k++) {
        logistic_pair s = logistic_negative(unit * held[k], dtype);
        up[k] = dy[k] * up[k] * fma_f32(gate[k], s.slope, s.value);
        dy[k] *= gate[k] * s.value;
    }
}

MST_INLINE void swiglu_grad_chunk(const mst_swiglu_args *a, size_t i, size_t width, mst_dtype dtype) {
    float gate[CHUNK], up[CHUNK], dy[CHUNK], held[CHUNK];
    load_chunk(gate, a->gate, i, width, dtype);
    load_chunk(up, a->up, i, width, dtype);
    load_chunk(dy, a->dy, i, width, dtype);
    load_chunk(held, a->gate, i, width, dtype);
    hold_chunk(held, width, gate_low, gate_high);
    swiglu_gradients(up, dy, gate, held, width, dtype);
    store_chunk(a->dgate, i, up, width, dtype);
    store_chunk(a->dup, i, dy, width, dtype);
}

MST_INLINE void swiglu_backward(const mst_swiglu_args *args, size_t begin, size_t end, mst_dtype dtype) {
    const mst_swiglu_args a = *args;
    size_t i = begin;
    for (; i + CHUNK <= end; i += CHUNK) swiglu_grad_chunk(&a, i, CHUNK, dtype);
    swiglu_grad_chunk(&a, i, end - i, dtype);
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
 * (1 + tanh(z)) / 2 = logistic(2 z), which does not cancel for negative z. -2 z = x (linear + cubic x^2), with
 * linear = -2 sqrt(2 / pi) and cubic = 0.044715 linear. It is 87.3 at x = -10, where the logistic function is next to nothing, and
 * -87.8 at x = 10.02, where it is 1 in fp32 and its slope 0.
 */
static const float gelu_linear = -1.59576912f, gelu_cubic = -0.0713548163f, gelu_low = -10.0f,
                   gelu_high = 10.02f;

/* x = gelu(x), with `held`, x within its limits. */
ARITHMETIC void gelu_values(float *x, const float *held, size_t width, mst_dtype dtype) {
    const float linear = gelu_linear * logistic_unit(dtype), cubic = gelu_cubic * logistic_unit(dtype);
#pragma omp simd
    for (size_t k = 0; k < width; k++) {
        float t = held[k] * fma_f32(cubic, held[k] * held[k], linear);
        x[k] *= logistic_negative(t, dtype).value;
    }
}

MST_INLINE void gelu_chunk(const mst_gelu_args *a, size_t i, size_t width, mst_dtype dtype) {
    float x[CHUNK], held[CHUNK];
    load_chunk(x, a->x, i, width, dtype);
    load_chunk(held, a->x, i, width, dtype);
    hold_chunk(held, width, gelu_low, gelu_high);
    gelu_values(x, held, width, dtype);
    store_chunk(a->y, i, x, width, dtype);
}

MST_INLINE void gelu_forward(const mst_gelu_args *args, size_t begin, size_t end, mst_dtype dtype) {
    const mst_gelu_args a = *args;
    size_t i = begin;
    for (; i + CHUNK <= end; i += CHUNK) gelu_chunk(&a, i, CHUNK, dtype);
    gelu_chunk(&a, i, end - i, dtype);
}

/* With s = logistic(2 z): d gelu(x) / dx = s + x s' d(2 z) / dx. dy becomes dx. */
ARITHMETIC void gelu_gradients(float *dy, const float *x, const float *held, size_t width, mst_dtype dtype) {
    const float linear = gelu_linear * logistic_unit(dtype), cubic = gelu_cubic * logistic_unit(dtype);
#pragma omp simd
    for (size_t k = 0; k < width; k++) {
        float square = held[k] * held[k];
        logistic_pair s = logistic_negative(held[k] * fma_f32(cubic, square, linear), dtype);
        float slope = fma_f32(-3.0f * gelu_cubic, square, -gelu_linear);
        dy[k] *= fma_f32(x[k] * s.slope, slope, s.value);
    }
}

MST_INLINE void gelu_grad_chunk(const mst_gelu_args *a, size_t i, size_t width, mst_dtype dtype) {
    float x[CHUNK], held[CHUNK], dy[CHUNK];
    load_chunk(x, a->x, i, width, dtype);
    load_chunk(held, a->x, i, width, dtype);
    load_chunk(dy, a->dy, i, width, dtype);
    hold_chunk(held, width, gelu_low, gelu_high);
    gelu_gradients(dy, x, held, width, dtype);
    store_chunk(a->dx, i, dy, width, dtype);
}

MST_INLINE void gelu_backward(const mst_gelu_args *args, size_t begin, size_t end, mst_dtype dtype) {
    const mst_gelu_args a = *args;
    size_t i = begin;
    for (; i + CHUNK <= end; i += CHUNK) gelu_grad_chunk(&a, i, CHUNK, dtype);
    gelu_grad_chunk(&a, i, end - i, dtype);
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
