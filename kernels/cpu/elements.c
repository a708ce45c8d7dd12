/* Operations on flat arrays: casts, initial values, digests. */
#include "cpu.h"
#include "muster/random.h"

static mst_cast_fn mst_cast_cpu;
static mst_random_normal_fn mst_random_normal_cpu;
static mst_block_digest_fn mst_block_digest_cpu;

enum { TILE = 16384, TILE_NORMALS = 4096, TASK_BLOCKS = 8 };

/* ---------------------------------------------------------------- cast */

MST_INLINE void cast_elements(void *result, const void *source, size_t n, mst_dtype result_dtype,
                              mst_dtype source_dtype) {
#pragma omp simd
    for (size_t i = 0; i < n; i++) store(result, i, result_dtype, load(source, i, source_dtype));
}

static mst_status cast_task(void *context, size_t task, int thread) {
    const mst_cast_args *a = context;
    (void)thread;
    size_t begin = task * TILE, n = tile_end(a->count, TILE, task) - begin;
    const void *source = element(a->source, begin, a->source_dtype);
    void *result = element_mut(a->result, begin, a->result_dtype);
    if (a->source_dtype == a->result_dtype)
        memcpy(result, source, n * mst_dtype_size(a->source_dtype));
    else if (a->result_dtype == MST_BF16)
        cast_elements(result, source, n, MST_BF16, MST_F32);
    else
        cast_elements(result, source, n, MST_F32, MST_BF16);
    return MST_OK;
}

static mst_status mst_cast_cpu(mst_queue *queue, const mst_cast_args *args) {
    mst_status status = MST_OK;
    mst_cast_args job = *args;
    MST_TRY(check_dtype("cast", args->source_dtype));
    MST_TRY(check_dtype("cast", args->result_dtype));
    MST_TRY(mst_queue_for(queue, tiles_of(args->count, TILE), cast_task, &job));
done:
    return status;
}

/* ---------------------------------------------------------------- random_normal */

static mst_status random_normal_task(void *context, size_t task, int thread) {
    const mst_random_normal_args *a = context;
    (void)thread;
    size_t end = tile_end(a->count, TILE_NORMALS, task);
    for (size_t i = task * TILE_NORMALS; i < end; i++) {
        double z = mst_random_normal(a->seed, MST_RANDOM_INIT, a->stream, a->first + i, a->limit);
        a->result[i] = (float)(a->mean + a->deviation * z);
    }
    return MST_OK;
}

static mst_status mst_random_normal_cpu(mst_queue *queue, const mst_random_normal_args *args) {
    mst_random_normal_args job = *args;
    return mst_queue_for(queue, tiles_of(args->count, TILE_NORMALS), random_normal_task, &job);
}

/* ---------------------------------------------------------------- block_digest */

static mst_status block_digest_task(void *context, size_t task, int thread) {
    const mst_block_digest_args *a = context;
    (void)thread;
    mst_status status = MST_OK;
    size_t last = tile_end(tiles_of(a->count, MST_BLOCK), TASK_BLOCKS, task);
    for (size_t block = task * TASK_BLOCKS; block < last; block++) {
        size_t begin = block * MST_BLOCK, n = tile_end(a->count, MST_BLOCK, block) - begin;
        const void *data = element(a->data, begin, a->dtype);
        MST_TRY(mst_digest_of(data, n * mst_dtype_size(a->dtype), &a->digest[block]));
        if (a->checksum != NULL) a->checksum[block] = mst_checksum_of(data, n * mst_dtype_size(a->dtype));
    }
done:
    return status;
}

/* Bytes are bytes: any dtype will do. */
static mst_status mst_block_digest_cpu(mst_queue *queue, const mst_block_digest_args *args) {
    mst_block_digest_args job = *args;
    return mst_queue_for(queue, tiles_of(args->count, (size_t)MST_BLOCK * TASK_BLOCKS), block_digest_task,
                         &job);
}

void MST_AT_LEVEL(mst_cpu_fill_elements)(mst_kernels *table) {
    table->cast = mst_cast_cpu;
    table->random_normal = mst_random_normal_cpu;
    table->block_digest = mst_block_digest_cpu;
}
