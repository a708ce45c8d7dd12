/*
 * The language of our kernels: launches, shared memory, wide accesses, numbers. It has two bodies, nvcc's and that of
 * tests/support/cuda_emulation.h, so that the same kernels run on the CPU. Private to this folder.
 */
#ifndef MST_DEVICE_CUH
#define MST_DEVICE_CUH

#include "cuda.h"

#ifdef MST_CUDA_EMULATED
#include "cuda_emulation.h"
#define MST_DEVICE                         static inline
#define MST_KERNEL(threads)                static void
#define MST_KERNEL_BLOCKS(threads, blocks) static void
/* An array of shared memory; stands at the top of a kernel. */
#define MST_SHARED(type, name, count)                                                                        \
    static emulation::shared_site name##_site;                                                               \
    type *name = reinterpret_cast<type *>(name##_site.get(sizeof(type) * (count)))
/* The shared memory whose size the launch gives. */
#define MST_SHARED_DYNAMIC(name) unsigned char *name = emulation::dynamic_shared()
#define MST_START(kernel, grid, block, dynamic, stream, ...)                                                 \
    (emulation::start(#kernel, grid, block, dynamic, static_cast<cudaStream_t>(stream), kernel)(__VA_ARGS__))
#define MST_UNROLL
#define MST_UNROLL_BY(times)
#else
#include <cuda_runtime.h>
#define MST_DEVICE                         static __device__ __forceinline__
#define MST_KERNEL(threads)                static __global__ void __launch_bounds__(threads)
/* With as many registers as leave room for so many blocks on a multiprocessor. */
#define MST_KERNEL_BLOCKS(threads, blocks) static __global__ void __launch_bounds__(threads, blocks)
#define MST_SHARED(type, name, count)      __shared__ __align__(16) type name[count]
#define MST_SHARED_DYNAMIC(name)           extern __shared__ __align__(16) unsigned char name[]
#define MST_START(kernel, grid, block, dynamic, stream, ...)                                                 \
    (kernel)<<<grid, block, dynamic, static_cast<cudaStream_t>(stream)>>>(__VA_ARGS__)
#define MST_PRAGMA(text)     _Pragma(#text)
#define MST_UNROLL           MST_PRAGMA(unroll)
#define MST_UNROLL_BY(times) MST_PRAGMA(unroll times)
#endif

#define MST_RETURN_IF(call)                                                                                  \
    do {                                                                                                     \
        mst_status status_of_call = (call);                                                                  \
        if (status_of_call != MST_OK) return status_of_call;                                                 \
    } while (0)

/* ---------------------------------------------------------------- launches */

static inline mst_status mst_cuda_result(const char *what, cudaError_t error) {
    return error == cudaSuccess ? MST_OK : mst_cuda_failed(what, (int)error);
}

/* Launches a kernel (in parentheses when it has commas) and returns whether that began. */
#define MST_LAUNCH(cuda, kernel, grid, block, dynamic, ...)                                                  \
    (MST_START(kernel, grid, block, dynamic, (cuda)->stream, __VA_ARGS__),                                   \
     mst_cuda_result(#kernel, cudaGetLastError()))

/* Blocks of `each` that cover `count`: the first dimension of a grid. */
static inline mst_status mst_grid(const char *operation, size_t count, size_t each, unsigned *blocks_out) {
    size_t blocks = count / each + (count % each != 0);
    *blocks_out = 0;
    if (blocks > 0x7fffffffu)
        return mst_error(MST_EINVAL,
                         "%s: %zu elements are more than one launch takes; use smaller microbatches",
                         operation, count);
    *blocks_out = (unsigned)blocks;
    return MST_OK;
}

static inline bool mst_is_wide(const void *pointer) {
    return (uintptr_t)pointer % 16 == 0;
}

/* ---------------------------------------------------------------- numbers */

typedef mst_bf16 bf16;

MST_DEVICE float to_f32(float x) {
    return x;
}
MST_DEVICE float to_f32(bf16 x) {
    return __uint_as_float((unsigned)x << 16);
}

/* To nearest even; a NaN stays a NaN with its sign: mst_bf16_from_f32. */
MST_DEVICE bf16 to_bf16(float x) {
    unsigned bits = __float_as_uint(x);
    return (bf16)((x != x ? bits | 0x400000u : bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}
MST_DEVICE void set(float &to, float x) {
    to = x;
}
MST_DEVICE void set(bf16 &to, float x) {
    to = to_bf16(x);
}

template <class T> MST_DEVICE float rounded_to(float x) {
    T stored;
    set(stored, x);
    return to_f32(stored);
}

/* exp(x) = fraction * 2^n, as in kernels/cpu/cpu_math.h, whose polynomial this is: the same bits. */
MST_DEVICE float exp_fraction(float x, float *shifted_out) {
    float shifted = fmaf(x, 0x1.715476p0f, 0x1.8p23f + 127.0f);
    float n = shifted - (0x1.8p23f + 127.0f);
    float r = fmaf(n, -0x1.7f7d1cp-20f, fmaf(n, -0x1.62e4p-1f, x));
    float q = fmaf(r, 0x1.6a2402p-10f, 0x1.123a1ep-7f);
    q = fmaf(q, r, 0x1.5558f2p-5f);
    q = fmaf(q, r, 0x1.555492p-3f);
    q = fmaf(q, r, 0x1.fffffcp-2f);
    *shifted_out = shifted;
    return fmaf(fmaf(q, r, 1.0f), r, 1.0f);
}

/* exp(x) for x <= 88; 0 where the result is below 2^-126.5. NaN stays NaN. */
MST_DEVICE float exp_flushed(float x) {
    float shifted, fraction = exp_fraction(x < -88.0f ? -88.0f : x, &shifted);
    return fraction * __uint_as_float(__float_as_uint(shifted) << 23);
}

/* 2^x, off by 2 units at most; 0 below 2^-126: the weights of attention. */
MST_DEVICE float exp2_fast(float x) {
#ifdef MST_CUDA_EMULATED
    float y = exp2f(x);
    return y < 0x1p-126f ? 0.0f : y;
#else
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#endif
}

/* logistic(x) = 1 / (1 + exp(-x)), and 1 - logistic(x) without cancellation. */
struct logistic_pair {
    float value, rest;
};
MST_DEVICE logistic_pair logistic(float x) {
    float e = exp_flushed(-fabsf(x)), larger = 1.0f / (1.0f + e), smaller = e * larger;
    return x < 0.0f ? logistic_pair{smaller, larger} : logistic_pair{larger, smaller};
}

/* ---------------------------------------------------------------- wide accesses */

/* Elements of T in one access of 16 bytes. */
template <class T> constexpr int WIDTH = 16 / (int)sizeof(T);

template <int BYTES> struct word;
template <> struct word<2> { typedef uint16_t type; };
template <> struct word<4> { typedef unsigned type; };
template <> struct word<8> { typedef uint2 type; };
template <> struct word<16> { typedef uint4 type; };

/* N elements at p (the first `left` of them, the others 0), in accesses of up to 16 bytes where `wide`. */
template <int N, class T> MST_DEVICE void load(const T *p, size_t left, bool wide, float (&x)[N]) {
    if (wide && left >= N) {
        constexpr int BYTES = N * (int)sizeof(T) < 16 ? N * (int)sizeof(T) : 16,
                      PART = BYTES / (int)sizeof(T);
        typedef typename word<BYTES>::type access;
        MST_UNROLL for (int k = 0; k < N; k += PART) {
            union {
                access whole;
                T part[PART];
            } u;
            u.whole = *reinterpret_cast<const access *>(p + k);
            MST_UNROLL for (int i = 0; i < PART; i++) x[k + i] = to_f32(u.part[i]);
        }
    } else {
        MST_UNROLL for (int i = 0; i < N; i++) x[i] = (size_t)i < left ? to_f32(p[i]) : 0.0f;
    }
}

template <int N, class T> MST_DEVICE void store(T *p, size_t left, bool wide, const float (&x)[N]) {
    if (wide && left >= N) {
        constexpr int BYTES = N * (int)sizeof(T) < 16 ? N * (int)sizeof(T) : 16,
                      PART = BYTES / (int)sizeof(T);
        typedef typename word<BYTES>::type access;
        MST_UNROLL for (int k = 0; k < N; k += PART) {
            union {
                access whole;
                T part[PART];
            } u;
            MST_UNROLL for (int i = 0; i < PART; i++) set(u.part[i], x[k + i]);
            *reinterpret_cast<access *>(p + k) = u.whole;
        }
    } else {
        MST_UNROLL for (int i = 0; i < N; i++) if ((size_t)i < left) set(p[i], x[i]);
    }
}

/* ---------------------------------------------------------------- sums */

/* The sum over a warp, in every lane: a balanced tree. */
template <class T> MST_DEVICE T warp_sum(T x) {
    MST_UNROLL for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
    return x;
}

/* The sum over WARPS warps that follow each other, in every thread: warps in order. `shared` has an element for each
 * warp of the block; all threads of the block call it. */
template <int WARPS, class T> MST_DEVICE T team_sum(T x, T *shared) {
    x = warp_sum(x);
    if (WARPS == 1) return x;
    unsigned warp = threadIdx.x / 32;
    __syncthreads(); /* others may still read what the call before left */
    if (threadIdx.x % 32 == 0) shared[warp] = x;
    __syncthreads();
    unsigned first = warp / WARPS * WARPS;
    T sum = shared[first];
    MST_UNROLL for (int w = 1; w < WARPS; w++) sum += shared[first + w];
    return sum;
}

/* Calls `body` with a value of the element type that `dtype` names, F32 or BF16. */
#define MST_FOR_DTYPE(dtype, T, ...)                                                                         \
    ((dtype) == MST_BF16 ? [&]() -> mst_status { typedef bf16 T; __VA_ARGS__ }()                                     \
                         : [&]() -> mst_status { typedef float T; __VA_ARGS__ }())

#endif
