/* AdamW, casts, initial values, digests: what happens to flat ranges. */
#include "../base/normal.h"
#include "../base/rounding.h"
#include "device.cuh"

enum { THREADS = 256 };

/* ---------------------------------------------------------------- AdamW */

/* The scalars of a step, each rounded to fp32 once. */
struct adamw_scalars {
    float gradient_scale, beta1, beta2, rest1, rest2; /* rest = 1 - beta */
    float decay;                                      /* 1 - lr * weight_decay */
    float rate;                                       /* lr / correction1 */
    float correction2_sqrt, eps;
};

MST_DEVICE float moment_at_odds(float x, unsigned odds, const float *) {
    (void)odds;
    return x;
}
MST_DEVICE float moment_at_odds(float x, unsigned odds, const bf16 *) {
    return to_f32(mst_bf16_at_odds(x, odds));
}

/* One pass: 16 bytes of each fp32 array by every thread. The operations are those of the CPU's body, in its order. M is the type
 * of the moments. */
template <class T, class M>
MST_KERNEL(THREADS)
adamw(size_t count, const float *gradient, M *m_all, M *v_all, float *master_all, T *weight, bool wide,
      unsigned key, unsigned first, adamw_scalars s) {
    constexpr int N = 4;
    size_t i = ((size_t)blockIdx.x * THREADS + threadIdx.x) * N;
    if (i >= count) return;
    size_t left = count - i;
    float g[N], m[N], v[N], master[N];
    load(gradient + i, left, wide, g);
    load(m_all + i, left, wide, m);
    load(v_all + i, left, wide, v);
    load(master_all + i, left, wide, master);
    MST_UNROLL for (int k = 0; k < N; k++) {
        g[k] = g[k] * s.gradient_scale;
        m[k] = s.beta1 * m[k] + s.rest1 * g[k];
        v[k] = s.beta2 * v[k] + s.rest2 * g[k] * g[k];
        float denominator = sqrtf(v[k]) / s.correction2_sqrt + s.eps;
        master[k] = master[k] * s.decay - s.rate * m[k] / denominator;
        unsigned bits = mst_rounding_bits(key, first + (unsigned)i + (unsigned)k);
        m[k] = moment_at_odds(m[k], bits & 0xffffu, m_all);
        v[k] = moment_at_odds(v[k], bits >> 16, v_all);
    }
    store(m_all + i, left, wide, m);
    store(v_all + i, left, wide, v);
    store(master_all + i, left, wide, master);
    store(weight + i, left, wide, master);
}

mst_status mst_adamw_cuda(mst_queue *queue, const mst_adamw_args *args) {
    mst_cuda *cuda;
    unsigned blocks;
    MST_RETURN_IF(mst_cuda_check_dtype("adamw", args->weight_dtype));
    MST_RETURN_IF(mst_cuda_check_dtype("adamw", args->moments));
    MST_RETURN_IF(mst_cuda_of(queue, &cuda));
    MST_RETURN_IF(mst_grid("adamw", args->count, 4 * THREADS, &blocks));
    if (blocks == 0) return MST_OK;
    adamw_scalars s = {(float)args->gradient_scale,
                       (float)args->beta1,
                       (float)args->beta2,
                       (float)(1.0 - args->beta1),
                       (float)(1.0 - args->beta2),
                       (float)(1.0 - args->lr * args->weight_decay),
                       (float)(args->lr / args->correction1),
                       (float)args->correction2_sqrt,
                       (float)args->eps};
    bool wide = mst_is_wide(args->gradient) && mst_is_wide(args->m) && mst_is_wide(args->v) &&
                mst_is_wide(args->master) && mst_is_wide(args->weight);
    return MST_FOR_DTYPE(args->weight_dtype, T, {
        return MST_FOR_DTYPE(args->moments, M, {
            return MST_LAUNCH(cuda, (adamw<T, M>), blocks, THREADS, 0, args->count, args->gradient,
                              static_cast<M *>(args->m), static_cast<M *>(args->v), args->master,
                              static_cast<T *>(args->weight), wide, args->rounding_key, (unsigned)args->first,
                              s);
        });
    });
}

/* ---------------------------------------------------------------- casts */

template <class S, class R> MST_KERNEL(THREADS) cast(size_t count, const S *source, R *result, bool wide) {
    constexpr int N = sizeof(S) + sizeof(R) > 4 ? 4 : 8;
    size_t i = ((size_t)blockIdx.x * THREADS + threadIdx.x) * N;
    if (i >= count) return;
    float x[N];
    load(source + i, count - i, wide, x);
    store(result + i, count - i, wide, x);
}

mst_status mst_cast_cuda(mst_queue *queue, const mst_cast_args *args) {
    mst_cuda *cuda;
    unsigned blocks;
    MST_RETURN_IF(mst_cuda_check_dtype("cast", args->source_dtype));
    MST_RETURN_IF(mst_cuda_check_dtype("cast", args->result_dtype));
    MST_RETURN_IF(mst_cuda_of(queue, &cuda));
    size_t each = args->source_dtype == MST_BF16 && args->result_dtype == MST_BF16 ? 8 : 4;
    MST_RETURN_IF(mst_grid("cast", args->count, each * THREADS, &blocks));
    if (blocks == 0) return MST_OK;
    bool wide = mst_is_wide(args->source) && mst_is_wide(args->result);
    return MST_FOR_DTYPE(args->source_dtype, S, {
        return MST_FOR_DTYPE(args->result_dtype, R, {
            return MST_LAUNCH(cuda, (cast<S, R>), blocks, THREADS, 0, args->count,
                              static_cast<const S *>(args->source), static_cast<R *>(args->result), wide);
        });
    });
}

/* ---------------------------------------------------------------- initial values */

/* The function that the CPU calls, compiled for the GPU: the same bits, as it has only +, -, *, / and roots in fp64. */
MST_KERNEL(THREADS)
random_normal(size_t count, uint64_t seed, uint64_t stream, uint64_t first, double mean, double deviation,
              double limit, float *result) {
    size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= count) return;
    double z = mst_normal_deviate(seed, MST_RANDOM_INIT, stream, first + i, limit);
    result[i] = (float)(mean + deviation * z);
}

mst_status mst_random_normal_cuda(mst_queue *queue, const mst_random_normal_args *args) {
    mst_cuda *cuda;
    unsigned blocks;
    MST_RETURN_IF(mst_cuda_of(queue, &cuda));
    MST_RETURN_IF(mst_grid("random_normal", args->count, THREADS, &blocks));
    if (blocks == 0) return MST_OK;
    return MST_LAUNCH(cuda, random_normal, blocks, THREADS, 0, args->count, args->seed, args->stream,
                      args->first, args->mean, args->deviation, args->limit, args->result);
}

/* ---------------------------------------------------------------- digests */

/* Hashed by the host, from a pinned copy: digests are taken of checkpoints and at a run's end, not in a step. */
mst_status mst_block_digest_cuda(mst_queue *queue, const mst_block_digest_args *args) {
    enum { BLOCKS = 1024 };
    size_t block = MST_BLOCK * mst_dtype_size(args->dtype), bytes = args->count * mst_dtype_size(args->dtype);
    mst_cuda *cuda;
    void *copy;
    MST_RETURN_IF(mst_cuda_of(queue, &cuda));
    for (size_t first = 0; first < bytes; first += BLOCKS * block) {
        size_t part = bytes - first < BLOCKS * block ? bytes - first : BLOCKS * block;
        MST_RETURN_IF(mst_cuda_staging(cuda, part, &copy));
        MST_RETURN_IF(mst_cuda_copy(cuda, copy, static_cast<const char *>(args->data) + first, part));
        MST_RETURN_IF(mst_cuda_sync(cuda));
        for (size_t at = 0; at < part; at += block) {
            size_t size = part - at < block ? part - at : block, b = (first + at) / block;
            MST_RETURN_IF(mst_digest_of(static_cast<char *>(copy) + at, size, &args->digest[b]));
            if (args->checksum) args->checksum[b] = mst_checksum_of(static_cast<char *>(copy) + at, size);
        }
    }
    return MST_OK;
}
