#include "moments.h"

#include <string.h>

#include "pieces.h"

enum { CHUNK = 2 << 20 }; /* elements that a thread copies at a time: 8 MiB */

bool ckpt_is_narrow(const mst_layout *layout, const mst_shard *shards) {
    bool narrow = false;
    for (size_t u = 0; u < layout->unit_count; u++) narrow = narrow || shards[u].moments != MST_F32;
    return narrow;
}

typedef struct copy_job {
    const void *from;
    mst_dtype dtype;
    float *to;
    size_t count;
} copy_job;

static mst_status copy_chunk(void *context, size_t task, int thread) {
    const copy_job *job = context;
    const size_t first = task * CHUNK, left = job->count - first, count = left < CHUNK ? left : CHUNK;
    (void)thread;
    if (job->dtype == MST_F32) {
        memcpy(job->to + first, (const float *)job->from + first, count * sizeof *job->to);
        return MST_OK;
    }
    const mst_bf16 *from = (const mst_bf16 *)job->from + first;
    for (size_t i = 0; i < count; i++) job->to[first + i] = mst_bf16_to_f32(from[i]);
    return MST_OK;
}

/* In place: the bf16 stand in the upper half of the memory, and no value is written where one has not been read. */
static void widen_in_place(float *values, size_t count) {
    const char *from = (const char *)values + count * sizeof(mst_bf16);
    for (size_t i = 0; i < count; i++) {
        mst_bf16 value;
        memcpy(&value, from + i * sizeof value, sizeof value);
        values[i] = mst_bf16_to_f32(value);
    }
}

mst_status ckpt_widen(const mst_checkpoint_context *context, const mst_shard *shard, mst_tensor_kind kind,
                      float *to) {
    mst_status status = MST_OK;
    const mst_dtype dtype = ckpt_shard_dtype(shard, kind);
    copy_job job = {
        .from = ckpt_shard_data(shard, kind), .dtype = dtype, .to = to, .count = shard->blocks * MST_BLOCK};
    if (!mst_memory_is_apart())
        return mst_queue_for(context->queue, (job.count + CHUNK - 1) / CHUNK, copy_chunk, &job);
    char *place = dtype == MST_F32 ? (char *)to : (char *)to + job.count * sizeof(mst_bf16);
    MST_TRY(mst_memory_copy(context->queue, place, job.from, job.count * mst_dtype_size(dtype)));
    if (dtype != MST_F32) widen_in_place(to, job.count);
done:
    return status;
}

mst_status ckpt_narrow(const mst_checkpoint_context *context, float *from, const mst_shard *shard,
                       mst_tensor_kind kind) {
    const mst_dtype dtype = ckpt_shard_dtype(shard, kind);
    const size_t count = shard->blocks * MST_BLOCK;
    char *narrow = (char *)from;
    for (size_t i = 0; dtype != MST_F32 && i < count; i++) {
        const mst_bf16 value = mst_bf16_from_f32(from[i]);
        memcpy(narrow + i * sizeof value, &value, sizeof value);
    }
    return mst_memory_copy(context->queue, ckpt_shard_data(shard, kind), from, count * mst_dtype_size(dtype));
}
