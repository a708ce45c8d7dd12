/* The ordered sum with its norm partials in one pass over memory: the tree over lanes, to the last bit. */
#include "device.cuh"

enum { THREADS = 256, SOURCES = 256, DEPTH = 12, N = 4 };

/* What to do: add source after source to a stack, and after source s join its topmost two values merges[s] times. */
struct forest {
    const void *source[SOURCES];
    uint8_t merges[SOURCES];
    unsigned sources;
};

/* The levels as a binary counter: fills `merges`; says how deep the stack gets and how many values remain. */
static void plan(const mst_ordered_sum_args *args, forest *f, size_t *depth_out, size_t *left_out) {
    unsigned level[SOURCES];
    size_t depth = 0;
    *depth_out = 0;
    for (size_t s = 0; s < args->sources; s++) {
        level[depth++] = args->level[s];
        if (depth > *depth_out) *depth_out = depth;
        f->source[s] = args->source[s];
        f->merges[s] = 0;
        for (; depth > 1 && level[depth - 1] == level[depth - 2]; depth--, f->merges[s]++) level[depth - 2]++;
    }
    f->sources = (unsigned)args->sources;
    *left_out = depth;
}

static mst_status check(const mst_ordered_sum_args *args) {
    if (args->sources < 1 || args->sources > SOURCES)
        return mst_error(MST_EINVAL, "ordered_sum: %zu sources; from 1 to %d are possible", args->sources,
                         (int)SOURCES);
    if (args->source_dtype == MST_F64 || args->wire == MST_F64 || args->result_dtype == MST_F64)
        return mst_error(MST_EINVAL, "ordered_sum: f64; only f32 and bf16 are possible");
    if (args->result_dtype != MST_F32 && (args->wire != MST_BF16 || args->accumulate))
        return mst_error(MST_EINVAL,
                         "ordered_sum: a result of bf16 needs a wire of bf16 and no accumulation");
    return MST_OK;
}

/* The root of N elements. The stack lies in registers: its top is always element 0, so that no index is a variable. */
template <class S, class W>
MST_DEVICE void root_of(const forest &f, size_t i, size_t left, bool wide, float (&root)[N]) {
    float stack[DEPTH][N];
    MST_UNROLL for (int d = 0; d < DEPTH; d++) MST_UNROLL for (int k = 0; k < N; k++) stack[d][k] = 0.0f;
    for (unsigned s = 0; s < f.sources; s++) {
        MST_UNROLL for (int d = DEPTH - 1; d > 0; d--) MST_UNROLL for (int k = 0; k < N; k++) stack[d][k] =
            stack[d - 1][k];
        load(static_cast<const S *>(f.source[s]) + i, left, wide, stack[0]);
        MST_UNROLL for (int k = 0; k < N; k++) stack[0][k] = rounded_to<W>(stack[0][k]);
        for (unsigned merge = 0; merge < f.merges[s]; merge++) {
            MST_UNROLL for (int k = 0; k < N; k++) stack[0][k] = rounded_to<W>(stack[1][k] + stack[0][k]);
            MST_UNROLL for (int d = 1; d + 1 < DEPTH; d++) MST_UNROLL for (int k = 0; k < N; k++)
                stack[d][k] = stack[d + 1][k];
        }
    }
    MST_UNROLL for (int k = 0; k < N; k++) root[k] = stack[0][k];
}

/* One block of threads for one block of elements: its squares are added in fp64 in a fixed tree. */
template <class S, class W, class R>
MST_KERNEL(THREADS)
ordered_sum(size_t count, forest f, R *result, bool accumulate, bool wide, double *block_norm2) {
    MST_SHARED(double, shared, THREADS / 32);
    double squares = 0.0;
    for (size_t part = 0; part < MST_BLOCK; part += THREADS * N) {
        size_t i = (size_t)blockIdx.x * MST_BLOCK + part + threadIdx.x * N;
        if (i >= count) break;
        float root[N], before[N];
        root_of<S, W>(f, i, count - i, wide, root);
        if (accumulate) {
            load(result + i, count - i, wide, before);
            MST_UNROLL for (int k = 0; k < N; k++) root[k] = before[k] + root[k];
        }
        store(result + i, count - i, wide, root);
        MST_UNROLL for (int k = 0; k < N; k++) {
            double value = (size_t)k < count - i ? rounded_to<R>(root[k]) : 0.0;
            squares += value * value;
        }
    }
    if (!block_norm2) return;
    squares = team_sum<THREADS / 32>(squares, shared);
    if (threadIdx.x == 0) block_norm2[blockIdx.x] = squares;
}

template <class S, class W, class R>
static mst_status start(mst_cuda *cuda, const mst_ordered_sum_args *args, const forest &f, unsigned blocks) {
    bool wide = mst_is_wide(args->result);
    for (size_t s = 0; s < args->sources; s++) wide = wide && mst_is_wide(args->source[s]);
    return MST_LAUNCH(cuda, (ordered_sum<S, W, R>), blocks, THREADS, 0, args->count, f,
                      static_cast<R *>(args->result), args->accumulate, wide, args->block_norm2);
}

mst_status mst_ordered_sum_cuda(mst_queue *queue, const mst_ordered_sum_args *args) {
    mst_cuda *cuda;
    unsigned blocks;
    forest f;
    size_t depth, left;
    MST_RETURN_IF(check(args));
    plan(args, &f, &depth, &left);
    if (left != 1)
        return mst_error(
            MST_EINVAL,
            "ordered_sum: the levels of %zu sources do not combine to one value; give whole subtrees in "
            "lane order",
            args->sources);
    if (depth >= DEPTH)
        return mst_error(MST_EUNSUPPORTED,
                         "ordered_sum: %zu sums wait for their partners at once; at most %d on device cuda",
                         depth, DEPTH - 1);
    MST_RETURN_IF(mst_cuda_of(queue, &cuda));
    MST_RETURN_IF(mst_grid("ordered_sum", args->count, MST_BLOCK, &blocks));
    if (blocks == 0) return MST_OK;
    return MST_FOR_DTYPE(args->source_dtype, S, {
        if (args->wire == MST_F32) return start<S, float, float>(cuda, args, f, blocks);
        if (args->result_dtype == MST_F32) return start<S, bf16, float>(cuda, args, f, blocks);
        return start<S, bf16, bf16>(cuda, args, f, blocks);
    });
}
