/* Casts, initial values, digests: what happens to flat ranges. */
#include "../base/normal.h"
#include "device.cuh"

enum { THREADS = 256 };

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
