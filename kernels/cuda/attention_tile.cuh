/*
 * Attention on tensor cores: blocks of four warps, each with 16 rows of the output; what forward and backward share.
 * Private to this folder.
 */
#ifndef MST_ATTENTION_TILE_CUH
#define MST_ATTENTION_TILE_CUH

#include "attention.cuh"

enum { ATTENTION_THREADS = 128, ATTENTION_ROWS = 64 };

/* Row of a lane's accumulator element i inside of its warp's 16, and the column inside of its 8. */
MST_DEVICE unsigned fragment_row(int i) {
    return threadIdx.x % 32 / 4 + (i / 2) * 8;
}
MST_DEVICE unsigned fragment_col(int i) {
    return threadIdx.x % 4 * 2 + i % 2;
}

/* ---------------------------------------------------------------- values that are not finite */

/*
 * A product over a tile that is partly masked multiplies what must not be seen by 0, which is NaN where the value is not
 * finite. So such values are taken out of the tile, and added to what may see them: weights are positive, so the value
 * itself; or NaN, where it has made the scores not finite as well.
 */
MST_DEVICE bool is_odd(bf16 x) {
    return (x & 0x7f80) == 0x7f80;
}

/* Sets them to 0; says whether there were any, to all threads of the block. `found` has an element for each warp. */
template <int ROWS, int D> MST_DEVICE bool take_odd(bf16 *tile, unsigned *found) {
    bool any = false;
    __syncthreads(); /* others may still read the tile */
    for (unsigned i = threadIdx.x; i < ROWS * D; i += ATTENTION_THREADS) {
        bf16 *at = tile + i / D * STRIDE<D> + i % D;
        if (!is_odd(*at)) continue;
        *at = 0;
        any = true;
    }
    unsigned votes = __ballot_sync(0xffffffffu, any);
    if (threadIdx.x % 32 == 0) found[threadIdx.x / 32] = votes;
    __syncthreads();
    return (found[0] | found[1] | found[2] | found[3]) != 0;
}

/* Rows of a matrix that meet a lane's two output rows, its upper and its lower one. */
struct row_range {
    size_t from[2], to[2];
};

/* Adds the values that were taken from rows of `matrix` to the output rows that see them. */
template <int D>
MST_DEVICE void add_odd(float (&out)[D / 8][4], const bf16 *matrix, size_t ld, const row_range &seen,
                        unsigned head_dim, bool as_nan) {
    for (int n = 0; n < D / 8; n++) {
        MST_UNROLL for (int i = 0; i < 4; i++) {
            unsigned d = 8 * n + fragment_col(i);
            for (size_t r = seen.from[i / 2]; d < head_dim && r < seen.to[i / 2]; r++) {
                bf16 x = matrix[r * ld + d];
                float value = to_f32(x), odd = as_nan ? value - value : value;
                /* n is not a constant here, and a variable index would move `out` out of the registers */
                if (is_odd(x)) MST_UNROLL for (int m = 0; m < D / 8; m++) out[m][i] += m == n ? odd : 0.0f;
            }
        }
    }
}

/* ---------------------------------------------------------------- documents */

/* The documents of a lane's two rows, whose warp's first one stands at token `row`: where they begin, or where they end.
 * Rows behind the sequence have that of its last token. */
MST_DEVICE void row_begins(const attention_shape &s, size_t sequence, size_t row, size_t (&begin)[2]) {
    MST_UNROLL for (int h = 0; h < 2; h++) {
        size_t token = row + fragment_row(2 * h);
        begin[h] = document_begin(s, sequence, token < s.seq_len ? token : s.seq_len - 1);
    }
}
MST_DEVICE void row_ends(const attention_shape &s, size_t sequence, size_t row, size_t (&end)[2]) {
    MST_UNROLL for (int h = 0; h < 2; h++) {
        size_t token = row + fragment_row(2 * h);
        end[h] = document_end(s, sequence, token < s.seq_len ? token : s.seq_len - 1);
    }
}

MST_DEVICE size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}
MST_DEVICE size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

/* ---------------------------------------------------------------- results */

/* Rows of a warp, times factor[0] and factor[1] for its upper and lower 8, to the rows `from` to `to` of `matrix`, which
 * begin at position `row` with the warp's first one. */
template <int D>
MST_DEVICE void store_rows(const float (&out)[D / 8][4], const float (&factor)[2], bf16 *matrix, size_t ld,
                           long long row, long long end, unsigned head_dim, bool wide) {
    MST_UNROLL for (int n = 0; n < D / 8; n++) MST_UNROLL for (int half = 0; half < 2; half++) {
        long long at = row + fragment_row(2 * half);
        unsigned d = 8 * n + fragment_col(0);
        if (at < 0 || at >= end) continue;
        float low = out[n][2 * half] * factor[half], high = out[n][2 * half + 1] * factor[half];
        bf16 *to = matrix + (size_t)at * ld + d;
        if (wide && d < head_dim) {
            *reinterpret_cast<unsigned *>(to) = pack_bf16(low, high);
        } else {
            if (d < head_dim) to[0] = to_bf16(low);
            if (d + 1 < head_dim) to[1] = to_bf16(high);
        }
    }
}

/* The largest or the sum over the four lanes that share a row. */
MST_DEVICE float quad_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
    return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}
MST_DEVICE float quad_sum(float x) {
    x += __shfl_xor_sync(0xffffffffu, x, 1);
    return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

/* Lets a kernel use `bytes` of dynamic shared memory. */
template <class K> static mst_status allow_shared(const mst_cuda *cuda, K *kernel, size_t bytes) {
    if (bytes > cuda->shared_limit)
        return mst_error(MST_EUNSUPPORTED,
                         "attention: a block needs %zu bytes of shared memory; this GPU has %zu", bytes,
                         cuda->shared_limit);
    return mst_cuda_result(
        "attention", cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes));
}

#endif
