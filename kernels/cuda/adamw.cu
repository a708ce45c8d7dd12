/* AdamW in one pass over memory, by one launch for all parts of a unit. The operations are the CPU body's, in its order. */
#include "../base/rounding.h"
#include "device.cuh"

enum { THREADS = 256, N = 4, PARTS = 64 };

/* The scalars of a step, each rounded to fp32 once. */
struct adamw_scalars {
    float gradient_scale, beta1, beta2, rest1, rest2; /* rest = 1 - beta */
    float rate;                                       /* lr / correction1 */
    float correction2_sqrt, eps;
};

/* A part, and the first of the blocks of threads that work on it. */
struct adamw_part {
    size_t offset, count;
    float decay; /* 1 - lr * weight_decay */
    unsigned key, first;
    unsigned first_block;
};

/* The parts of a launch, in the order of their blocks. They travel with it: a kernel takes up to 4 KiB of parameters. */
struct adamw_parts {
    adamw_part part[PARTS];
};

/* The last part that begins with a block or before it: found in six steps, whatever the parts. */
MST_DEVICE const adamw_part &part_of(const adamw_parts &parts, unsigned block) {
    unsigned p = 0;
    MST_UNROLL for (unsigned step = PARTS / 2; step > 0; step /= 2) {
        if (parts.part[p + step].first_block <= block) p += step;
    }
    return parts.part[p];
}

MST_DEVICE float moment_at_odds(float x, unsigned odds, const float *) {
    (void)odds;
    return x;
}
MST_DEVICE float moment_at_odds(float x, unsigned odds, const bf16 *) {
    return to_f32(mst_bf16_at_odds(x, odds));
}

/* 16 bytes of each fp32 array by every thread. A block works on one part. M is the type of the moments. */
template <class T, class M>
MST_KERNEL(THREADS)
adamw(adamw_parts parts, const float *gradient, M *m_all, M *v_all, float *master_all, T *weight,
      bool aligned, adamw_scalars s) {
    const adamw_part part = part_of(parts, blockIdx.x);
    const size_t at = ((size_t)(blockIdx.x - part.first_block) * THREADS + threadIdx.x) * N; /* in the part */
    if (at >= part.count) return;
    const size_t i = part.offset + at;
    /* No more than matter, in 32 bits: registers are short, and so nothing is spilled. */
    const unsigned left = part.count - at < N ? (unsigned)(part.count - at) : (unsigned)N;
    const bool wide = aligned && part.offset % N == 0;
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
        master[k] = master[k] * part.decay - s.rate * m[k] / denominator;
        unsigned bits = mst_rounding_bits(part.key, part.first + (unsigned)at + (unsigned)k);
        m[k] = moment_at_odds(m[k], bits & 0xffffu, m_all);
        v[k] = moment_at_odds(v[k], bits >> 16, v_all);
    }
    store(m_all + i, left, wide, m);
    store(v_all + i, left, wide, v);
    store(master_all + i, left, wide, master);
    store(weight + i, left, wide, master);
}

/* As many parts as a launch takes, from number *next on, and the blocks that they need. */
static mst_status plan(const mst_adamw_args *args, size_t *next, adamw_parts *parts, unsigned *blocks_out) {
    size_t used = 0, blocks = 0;
    for (; *next < args->part_count && used < PARTS; ++*next) {
        const mst_adamw_part *part = &args->parts[*next];
        if (part->count == 0) continue;
        const float decay = (float)(1.0 - args->lr * part->weight_decay);
        parts->part[used++] = {part->offset,       part->count,           decay,
                               part->rounding_key, (unsigned)part->first, (unsigned)blocks};
        blocks += part->count / (N * THREADS) + (part->count % (N * THREADS) != 0);
    }
    for (; used < PARTS; used++) parts->part[used] = {0, 0, 0.0f, 0, 0, ~0u}; /* no block is theirs */
    return mst_grid("adamw", blocks * N * THREADS, N * THREADS, blocks_out);
}

template <class T, class M>
static mst_status update(mst_cuda *cuda, const mst_adamw_args *args, const adamw_scalars &s) {
    const bool aligned = mst_is_wide(args->gradient) && mst_is_wide(args->m) && mst_is_wide(args->v) &&
                         mst_is_wide(args->master) && mst_is_wide(args->weight);
    for (size_t next = 0; next < args->part_count;) {
        adamw_parts parts;
        unsigned blocks;
        MST_RETURN_IF(plan(args, &next, &parts, &blocks));
        if (blocks == 0) continue;
        MST_RETURN_IF(MST_LAUNCH(cuda, (adamw<T, M>), blocks, THREADS, 0, parts, args->gradient,
                                 static_cast<M *>(args->m), static_cast<M *>(args->v), args->master,
                                 static_cast<T *>(args->weight), aligned, s));
    }
    return MST_OK;
}

mst_status mst_adamw_cuda(mst_queue *queue, const mst_adamw_args *args) {
    mst_cuda *cuda;
    MST_RETURN_IF(mst_cuda_check_dtype("adamw", args->weight_dtype));
    MST_RETURN_IF(mst_cuda_check_dtype("adamw", args->moments));
    MST_RETURN_IF(mst_cuda_of(queue, &cuda));
    adamw_scalars s = {(float)args->gradient_scale,
                       (float)args->beta1,
                       (float)args->beta2,
                       (float)(1.0 - args->beta1),
                       (float)(1.0 - args->beta2),
                       (float)(args->lr / args->correction1),
                       (float)args->correction2_sqrt,
                       (float)args->eps};
    return MST_FOR_DTYPE(args->weight_dtype, T, {
        return MST_FOR_DTYPE(args->moments, M, { return update<T, M>(cuda, args, s); });
    });
}
