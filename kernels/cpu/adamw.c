/* AdamW in one pass over memory, all parts in one loop. No fused products: these bits are the same at every level. */
#include "../base/rounding.h"
#include "cpu.h"
#include "stream.h"

static mst_adamw_fn mst_adamw_cpu;

/* Elements of the arrays that a task is for: it updates what parts have of them; elements whose weights are written together. */
enum { TILE = 16384, PIECE = 512 };

/* The scalars of a step, each rounded to fp32 once. */
typedef struct adamw_job {
    const mst_adamw_args *args;
    float gradient_scale, beta1, beta2, rest1, rest2; /* rest = 1 - beta */
    float rate;                                       /* lr / correction1 */
    float correction2_sqrt, eps;
} adamw_job;

MST_INLINE void store_moment(void *moment, size_t i, mst_dtype dtype, float value, uint32_t odds) {
    if (dtype == MST_BF16)
        ((mst_bf16 *)moment)[i] = mst_bf16_at_odds(value, odds);
    else
        ((float *)moment)[i] = value;
}

/* Elements begin to end - 1 of the arrays, whose weights go to `weight`. */
MST_INLINE void adamw_elements(const adamw_job *job, const mst_adamw_part *part, size_t begin, size_t end,
                               void *weight, mst_dtype weight_dtype, mst_dtype moments) {
    const adamw_job s = *job;
    const float decay = (float)(1.0 - s.args->lr * part->weight_decay);
    const float *gradient = s.args->gradient;
    void *m_all = s.args->m, *v_all = s.args->v;
    float *master = s.args->master;
    const uint32_t key = part->rounding_key, first = (uint32_t)(part->first - part->offset);
#pragma omp simd
    for (size_t i = begin; i < end; i++) {
        float g = gradient[i] * s.gradient_scale;
        float m = s.beta1 * load(m_all, i, moments) + s.rest1 * g;
        float v = s.beta2 * load(v_all, i, moments) + s.rest2 * g * g;
        float denominator = __builtin_sqrtf(v) / s.correction2_sqrt + s.eps;
        float value = master[i] * decay - s.rate * m / denominator;
        uint32_t bits = moments == MST_BF16 ? mst_rounding_bits(key, first + (uint32_t)i) : 0;
        store_moment(m_all, i, moments, m, bits & 0xffffu);
        store_moment(v_all, i, moments, v, bits >> 16);
        master[i] = value;
        store(weight, i - begin, weight_dtype, value);
    }
}

/* The model reads its weights when the pass over all parameters is done: they go past the caches. */
MST_INLINE void adamw_range(const adamw_job *job, const mst_adamw_part *part, mst_dtype weight_dtype,
                            mst_dtype moments) {
    float piece[PIECE]; /* room for either type */
    void *weight = job->args->weight;
    const size_t end = part->offset + part->count;
    size_t i = part->offset, line = i + elements_to_line(element(weight, i, weight_dtype), weight_dtype);
    if (line > end) line = end;
    adamw_elements(job, part, i, line, element_mut(weight, i, weight_dtype), weight_dtype, moments);
    for (i = line; i + PIECE <= end; i += PIECE) {
        adamw_elements(job, part, i, i + PIECE, piece, weight_dtype, moments);
        stream(element_mut(weight, i, weight_dtype), piece, PIECE * mst_dtype_size(weight_dtype));
    }
    adamw_elements(job, part, i, end, element_mut(weight, i, weight_dtype), weight_dtype, moments);
}

static void adamw_part(const adamw_job *job, const mst_adamw_part *part) {
    const bool narrow_weight = job->args->weight_dtype == MST_BF16, narrow = job->args->moments == MST_BF16;
    if (narrow_weight && narrow)
        adamw_range(job, part, MST_BF16, MST_BF16);
    else if (narrow_weight)
        adamw_range(job, part, MST_BF16, MST_F32);
    else if (narrow)
        adamw_range(job, part, MST_F32, MST_BF16);
    else
        adamw_range(job, part, MST_F32, MST_F32);
}

static mst_status adamw_task(void *context, size_t task, int thread) {
    const adamw_job *job = context;
    (void)thread;
    for (size_t p = 0; p < job->args->part_count; p++) {
        const mst_adamw_part own =
            mst_adamw_part_within(&job->args->parts[p], task * TILE, (task + 1) * TILE);
        if (own.count > 0) adamw_part(job, &own);
    }
    stream_end();
    return MST_OK;
}

static mst_status mst_adamw_cpu(mst_queue *queue, const mst_adamw_args *args) {
    mst_status status = MST_OK;
    MST_TRY(check_dtype("adamw", args->weight_dtype));
    MST_TRY(check_dtype("adamw", args->moments));
    adamw_job job = {
        .args = args,
        .gradient_scale = (float)args->gradient_scale,
        .beta1 = (float)args->beta1,
        .beta2 = (float)args->beta2,
        .rest1 = (float)(1.0 - args->beta1),
        .rest2 = (float)(1.0 - args->beta2),
        .rate = (float)(args->lr / args->correction1),
        .correction2_sqrt = (float)args->correction2_sqrt,
        .eps = (float)args->eps,
    };
    MST_TRY(mst_queue_for(queue, tiles_of(mst_adamw_extent(args), TILE), adamw_task, &job));
done:
    return status;
}

void MST_AT_LEVEL(mst_cpu_fill_adamw)(mst_kernels *table) {
    table->adamw = mst_adamw_cpu;
}
