/* Rotary position embedding, in place. */
#include "chunk.h"
#include "cpu.h"

static mst_rope_fn mst_rope_cpu;

enum { TILE_ELEMENTS = 16384, CHUNK = 16 };

typedef struct rope_job {
    const mst_rope_args *args;
    size_t tile_rows;
} rope_job;

/** Turns part of a head: the pairs (i, i + half) by the angle of i, or back for direction -1. */
MST_INLINE void rope_chunk(void *head, void *upper, const float *cosine, const float *sine, float direction,
                           size_t i, size_t width, mst_dtype dtype) {
    float a[CHUNK], b[CHUNK];
    load_chunk(a, head, i, width, dtype);
    load_chunk(b, upper, i, width, dtype);
#pragma omp simd
    for (size_t k = 0; k < width; k++) {
        float c = cosine[i + k], s = direction * sine[i + k], turned = a[k] * c - b[k] * s;
        b[k] = b[k] * c + a[k] * s;
        a[k] = turned;
    }
    store_chunk(head, i, a, width, dtype);
    store_chunk(upper, i, b, width, dtype);
}

MST_INLINE void rope_head(void *head, const float *cosine, const float *sine, float direction, size_t half,
                          mst_dtype dtype) {
    void *upper = element_mut(head, half, dtype);
    size_t i = 0;
    for (; i + CHUNK <= half; i += CHUNK) rope_chunk(head, upper, cosine, sine, direction, i, CHUNK, dtype);
    rope_chunk(head, upper, cosine, sine, direction, i, half - i, dtype);
}

MST_INLINE void rope_rows(const mst_rope_args *a, size_t begin, size_t end, mst_dtype dtype) {
    size_t half = a->head_dim / 2;
    float direction = a->inverse ? -1.0f : 1.0f;
    const int32_t *starts = a->starts;
    for (size_t r = begin; r < end; r++) {
        size_t angles = position_of(a->first, a->seq_len, starts, r) * half;
        for (size_t h = 0; h < a->heads; h++)
            rope_head(element_mut(a->x, r * a->ld + h * a->head_dim, dtype), a->cosine + angles,
                      a->sine + angles, direction, half, dtype);
    }
}

static mst_status rope_task(void *context, size_t task, int thread) {
    const rope_job *job = context;
    (void)thread;
    size_t begin = task * job->tile_rows, end = tile_end(job->args->rows, job->tile_rows, task);
    if (job->args->dtype == MST_BF16)
        rope_rows(job->args, begin, end, MST_BF16);
    else
        rope_rows(job->args, begin, end, MST_F32);
    return MST_OK;
}

static mst_status mst_rope_cpu(mst_queue *queue, const mst_rope_args *args) {
    mst_status status = MST_OK;
    size_t width = args->heads * args->head_dim;
    MST_TRY(check_dtype("rope", args->dtype));
    MST_CHECK(args->head_dim % 2 == 0, MST_EINVAL, "rope: head_dim %zu is odd", args->head_dim);
    if (args->rows == 0 || width == 0) goto done;
    MST_CHECK(args->seq_len > 0, MST_EINVAL, "rope: seq_len is 0");
    MST_CHECK(args->ld >= width, MST_EINVAL, "rope: ld %zu is below heads * head_dim = %zu", args->ld, width);
    rope_job job = {.args = args, .tile_rows = tile_of_rows(width, TILE_ELEMENTS)};
    MST_TRY(mst_queue_for(queue, tiles_of(args->rows, job.tile_rows), rope_task, &job));
done:
    return status;
}

void MST_AT_LEVEL(mst_cpu_fill_rope)(mst_kernels *table) {
    table->rope = mst_rope_cpu;
}
