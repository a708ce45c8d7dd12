/* Embedding and cross-entropy: work by rows of tokens. */
#include "device.cuh"

enum { THREADS = 256 };

/* The rows of a table that rows of tokens are looked up in: by their tokens, or by their positions. */
struct row_keys {
    const int32_t *tokens; /* NULL: positions */
    const int32_t *starts; /* NULL: a sequence is one document */
    size_t seq_len, first;
};

MST_DEVICE size_t key_of(const row_keys &keys, size_t row) {
    if (keys.tokens) return (size_t)keys.tokens[row];
    return keys.first + row % keys.seq_len - (keys.starts ? (size_t)keys.starts[row] : 0);
}

static row_keys positions_of(const mst_embedding_args *a) {
    return {NULL, a->starts, a->seq_len, a->first};
}

/* ---------------------------------------------------------------- embedding, forward */

template <class T, int N>
MST_KERNEL(THREADS)
embedding_forward(size_t packs, size_t cols, row_keys at, const int32_t *tokens, const T *table,
                  const T *positions, T *y) {
    size_t pack = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (pack >= packs) return;
    size_t row = pack / (cols / N), c = pack % (cols / N) * N;
    float x[N], p[N];
    load(table + (size_t)tokens[row] * cols + c, N, N > 1, x);
    if (positions) {
        load(positions + key_of(at, row) * cols + c, N, N > 1, p);
        MST_UNROLL for (int k = 0; k < N; k++) x[k] += p[k];
    }
    store(y + row * cols + c, N, N > 1, x);
}

static mst_status check_embedding(const char *name, const mst_embedding_args *args, bool positions) {
    if (positions && args->rows > 0 && args->seq_len == 0)
        return mst_error(MST_EINVAL, "%s: %zu rows but seq_len 0", name, args->rows);
    return mst_cuda_check_dtype(name, args->dtype);
}

template <class T, int N> static mst_status start_embedding(mst_cuda *cuda, const mst_embedding_args *a) {
    size_t packs = a->rows * (a->cols / N);
    unsigned blocks;
    MST_RETURN_IF(mst_grid("embedding_forward", packs, THREADS, &blocks));
    if (blocks == 0) return MST_OK;
    return MST_LAUNCH(cuda, (embedding_forward<T, N>), blocks, THREADS, 0, packs, a->cols, positions_of(a),
                      a->tokens, static_cast<const T *>(a->table), static_cast<const T *>(a->positions),
                      static_cast<T *>(a->y));
}

mst_status mst_embedding_forward_cuda(mst_queue *queue, const mst_embedding_args *args) {
    mst_cuda *cuda;
    MST_RETURN_IF(check_embedding("embedding_forward", args, args->positions != NULL));
    MST_RETURN_IF(mst_cuda_of(queue, &cuda));
    return MST_FOR_DTYPE(args->dtype, T, {
        constexpr int N = WIDTH<T>;
        bool wide = args->cols % N == 0 && mst_is_wide(args->table) && mst_is_wide(args->positions) &&
                    mst_is_wide(args->y);
        return wide ? start_embedding<T, N>(cuda, args) : start_embedding<T, 1>(cuda, args);
    });
}

/* ---------------------------------------------------------------- embedding, backward */

/*
 * One block for each row of tokens; the block of a key's first row adds all its rows, in order. Which rows these are
 * is found 256 rows at a time: rows^2 comparisons in all, which cost less than sorting up to 100,000 rows or so.
 */
template <class T>
MST_KERNEL(THREADS)
embedding_table(size_t rows, size_t cols, row_keys keys, const T *dy, float *dtable) {
    MST_SHARED(unsigned, hits, THREADS / 32);
    unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    size_t own = blockIdx.x;
    size_t key = key_of(keys, own);
    for (size_t first = 0; first < rows; first += THREADS) {
        size_t r = first + threadIdx.x;
        unsigned votes = __ballot_sync(0xffffffffu, r < rows && key_of(keys, r) == key);
        __syncthreads(); /* the hits before have been used */
        if (lane == 0) hits[warp] = votes;
        __syncthreads();
        for (unsigned w = 0; w < THREADS / 32; w++) {
            for (unsigned left = hits[w]; left != 0; left &= left - 1) {
                size_t row = first + w * 32 + (unsigned)__ffs(left) - 1;
                if (row < own) return; /* another block's: all threads see it */
                for (size_t c = threadIdx.x; c < cols; c += THREADS)
                    dtable[key * cols + c] += to_f32(dy[row * cols + c]);
            }
        }
    }
}

/* An element of a position's row: the rows that stand there, in order. Where documents begin anew these are not known without
 * looking, so that embedding_table does it. */
template <class T>
MST_KERNEL(THREADS)
embedding_positions(size_t rows, size_t cols, size_t seq_len, size_t first, const T *dy, float *dpositions) {
    size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    size_t t = i / cols, c = i % cols;
    if (t >= seq_len) return;
    float *at = dpositions + (first + t) * cols + c, sum = *at;
    for (size_t row = t; row < rows; row += seq_len) sum += to_f32(dy[row * cols + c]);
    *at = sum;
}

mst_status mst_embedding_backward_cuda(mst_queue *queue, const mst_embedding_args *args) {
    mst_cuda *cuda;
    unsigned rows, blocks;
    MST_RETURN_IF(check_embedding("embedding_backward", args, args->dpositions != NULL));
    MST_RETURN_IF(mst_cuda_of(queue, &cuda));
    MST_RETURN_IF(mst_grid("embedding_backward", args->rows, 1, &rows));
    if (rows == 0 || args->cols == 0) return MST_OK;
    return MST_FOR_DTYPE(args->dtype, T, {
        const T *dy = static_cast<const T *>(args->dy);
        row_keys tokens = {args->tokens, NULL, 0, 0};
        MST_RETURN_IF(MST_LAUNCH(cuda, embedding_table<T>, rows, THREADS, 0, args->rows, args->cols, tokens,
                                 dy, static_cast<float *>(args->dtable)));
        if (!args->dpositions) return MST_OK;
        if (args->starts)
            return MST_LAUNCH(cuda, embedding_table<T>, rows, THREADS, 0, args->rows, args->cols,
                              positions_of(args), dy, static_cast<float *>(args->dpositions));
        MST_RETURN_IF(mst_grid("embedding_backward", args->seq_len * args->cols, THREADS, &blocks));
        return MST_LAUNCH(cuda, embedding_positions<T>, blocks, THREADS, 0, args->rows, args->cols,
                          args->seq_len, args->first, dy, static_cast<float *>(args->dpositions));
    });
}

/* ---------------------------------------------------------------- cross-entropy */

/* A sum of exp(x - max). */
struct exp_sum {
    float max, sum;
};

/* sum exp(from - to), where an empty sum stays 0. */
MST_DEVICE float moved(exp_sum e, float to) {
    return e.sum == 0.0f ? 0.0f : e.sum * exp_flushed(e.max - to);
}

MST_DEVICE exp_sum joined(exp_sum a, exp_sum b) {
    float max = fmaxf(a.max, b.max);
    return {max, moved(a, max) + moved(b, max)};
}

MST_DEVICE void include(exp_sum &e, float x) {
    if (x == -INFINITY) return; /* a probability of 0 */
    if (x > e.max) e = {x, moved(e, x)};
    e.sum += exp_flushed(x - e.max);
}

/* The sum over the block, in every thread: lanes in a tree, warps in order. */
MST_DEVICE exp_sum block_join(exp_sum e, exp_sum *shared) {
    MST_UNROLL for (int step = 16; step > 0; step /= 2) {
        float max = __shfl_xor_sync(0xffffffffu, e.max, step),
              sum = __shfl_xor_sync(0xffffffffu, e.sum, step);
        exp_sum other = {max, sum};
        e = threadIdx.x & step ? joined(other, e) : joined(e, other); /* the same in both lanes */
    }
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = e;
    __syncthreads();
    e = shared[0];
    for (unsigned w = 1; w < THREADS / 32; w++) e = joined(e, shared[w]);
    return e;
}

/* A row by a block: one pass for the sum of exponentials, one that writes the gradient from what the cache still has.
 * dlogits may lie over the logits of its row, with smaller elements: so a chunk is read by all before it is written,
 * and what it writes lies nowhere behind it. */
template <class T>
MST_KERNEL(THREADS)
cross_entropy(size_t vocab, const float *logits_all, const int32_t *targets, float scale, float z,
              float *loss, float *zloss, T *dlogits_all, size_t ldd) {
    constexpr int N = 4;
    MST_SHARED(exp_sum, shared, THREADS / 32);
    size_t row = blockIdx.x;
    const float *logits = logits_all + row * vocab;
    int32_t target = targets[row];
    bool valid = target >= 0, wide = vocab % N == 0 && (uintptr_t)logits_all % 16 == 0;
    exp_sum e = {-INFINITY, 0.0f};
    for (size_t j = threadIdx.x * N; valid && j < vocab; j += THREADS * N) {
        float x[N];
        load(logits + j, vocab - j, wide, x);
        MST_UNROLL for (int k = 0; k < N; k++) if ((size_t)k < vocab - j) include(e, x[k]);
    }
    e = block_join(e, shared);
    float lse = valid ? e.max + logf(e.sum) : 0.0f;
    if (threadIdx.x == 0) {
        loss[row] = valid ? lse - logits[target] : 0.0f;
        zloss[row] = lse * lse;
    }
    if (!dlogits_all) return;
    T *dlogits = dlogits_all + row * ldd;
    float factor = 1.0f + 2.0f * z * lse;
    bool wide_out = ldd * sizeof(T) % 16 == 0 && (uintptr_t)dlogits_all % 16 == 0;
    for (size_t first = 0; first < vocab; first += THREADS * N) {
        size_t j = first + threadIdx.x * N, left = j < vocab ? vocab - j : 0;
        float x[N];
        load(logits + j, valid ? left : 0, wide, x);
        MST_UNROLL for (int k = 0; k < N; k++) {
            float p = valid ? exp_flushed(x[k] - lse) : 0.0f;
            x[k] = scale * (factor * p - (valid && j + k == (size_t)target ? 1.0f : 0.0f));
        }
        __syncthreads();
        store(dlogits + j, left, wide_out, x);
    }
}

static mst_status check_cross_entropy(const mst_cross_entropy_args *a) {
    if (a->dlogits && a->ldd < a->vocab)
        return mst_error(MST_EINVAL, "cross_entropy: ldd %zu is less than vocab %zu", a->ldd, a->vocab);
    if (a->dlogits && a->dlogits == a->logits &&
        a->ldd * mst_dtype_size(a->dtype) != a->vocab * sizeof(float))
        return mst_error(MST_EINVAL,
                         "cross_entropy: dlogits in place of logits needs rows of %zu bytes, not %zu",
                         a->vocab * sizeof(float), a->ldd * mst_dtype_size(a->dtype));
    return mst_cuda_check_dtype("cross_entropy", a->dtype);
}

mst_status mst_cross_entropy_cuda(mst_queue *queue, const mst_cross_entropy_args *a) {
    mst_cuda *cuda;
    unsigned rows;
    MST_RETURN_IF(check_cross_entropy(a));
    MST_RETURN_IF(mst_cuda_of(queue, &cuda));
    MST_RETURN_IF(mst_grid("cross_entropy", a->rows, 1, &rows));
    if (rows == 0) return MST_OK;
    return MST_FOR_DTYPE(a->dtype, T, {
        return MST_LAUNCH(cuda, cross_entropy<T>, rows, THREADS, 0, a->vocab,
                          static_cast<const float *>(a->logits), a->targets, (float)a->scale,
                          (float)a->z_coefficient, static_cast<float *>(a->loss),
                          static_cast<float *>(a->zloss), static_cast<T *>(a->dlogits), a->ldd);
    });
}
