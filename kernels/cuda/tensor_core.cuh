/*
 * Tiles in shared memory, and products on tensor cores: mma.sync m16n8k16 with bf16 operands and fp32 sums, behind
 * wrappers that have a body on the CPU. Private to this folder.
 *
 * Registers of a lane, with g = lane / 4 and t = lane % 4 (PTX ISA, "Matrix Fragments for mma.m16n8k16"):
 *   a: (g, 2t), (g + 8, 2t), (g, 2t + 8), (g + 8, 2t + 8), two neighbours in k each;
 *   b: (k 2t, n g), (k 2t + 8, n g), two neighbours in k each;  c: (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1).
 */
#ifndef MST_TENSOR_CORE_CUH
#define MST_TENSOR_CORE_CUH

#include "device.cuh"

/* Two values rounded to bf16 in one register, `low` in the lower half. */
MST_DEVICE unsigned pack_bf16(float low, float high) {
#ifdef MST_CUDA_EMULATED
    return (unsigned)to_bf16(low) | (unsigned)to_bf16(high) << 16;
#else
    unsigned packed;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
#endif
}

#ifdef MST_CUDA_EMULATED
struct mma_operands {
    unsigned a[4], b[2];
};
MST_DEVICE float half_of(unsigned packed, unsigned which) {
    return to_f32((bf16)(packed >> 16 * which));
}
#endif

/* c[16, 8] += a[16, 16] b[16, 8]; all lanes of the warp call it. */
MST_DEVICE void mma(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
#ifdef MST_CUDA_EMULATED
    mma_operands own = {{a[0], a[1], a[2], a[3]}, {b0, b1}}, all[32];
    emulation::gather(0xffffffffu, own, __LINE__);
    for (unsigned l = 0; l < 32; l++)
        memcpy(&all[l], emulation::m.warps[threadIdx.x / 32].out[l], sizeof own);
    unsigned g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    for (unsigned i = 0; i < 4; i++) {
        unsigned row = g + i / 2 * 8, col = 2 * t + i % 2;
        float sum = 0.0f;
        for (unsigned k = 0; k < 16; k++) {
            unsigned lane_a = row % 8 * 4 + k % 8 / 2, lane_b = col * 4 + k % 8 / 2;
            float x = half_of(all[lane_a].a[row / 8 + k / 8 * 2], k % 2),
                  y = half_of(all[lane_b].b[k / 8], k % 2);
            sum = fmaf(x, y, sum);
        }
        c[i] += sum;
    }
#else
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, "
        "%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}

/* Four 8 x 8 matrices of shared memory into registers: lane l gives the address of row l % 8 of matrix l / 8, and gets
 * elements (g, 2t) and (g, 2t + 1) of each; with TRANSPOSED elements (2t, g) and (2t + 1, g). */
template <bool TRANSPOSED> MST_DEVICE void load_matrices(unsigned (&x)[4], const bf16 *row) {
#ifdef MST_CUDA_EMULATED
    const bf16 *rows[32];
    emulation::gather(0xffffffffu, row, __LINE__);
    for (unsigned l = 0; l < 32; l++)
        memcpy(&rows[l], emulation::m.warps[threadIdx.x / 32].out[l], sizeof row);
    unsigned g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    if ((uintptr_t)row % 16 != 0) emulation::fail("ldmatrix of a row that is not on 16 bytes");
    for (unsigned i = 0; i < 4; i++) {
        bf16 low = TRANSPOSED ? rows[8 * i + 2 * t][g] : rows[8 * i + g][2 * t];
        bf16 high = TRANSPOSED ? rows[8 * i + 2 * t + 1][g] : rows[8 * i + g][2 * t + 1];
        x[i] = (unsigned)low | (unsigned)high << 16;
    }
#else
    unsigned address = (unsigned)__cvta_generic_to_shared(row);
    if (TRANSPOSED)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                     : "r"(address)
                     : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                     : "r"(address)
                     : "memory");
#endif
}

/* ---------------------------------------------------------------- copies that run while others work */

/* 16 bytes from device to shared memory, 0 instead where `valid` is false. Ended by async_wait and a barrier. */
MST_DEVICE void async_copy(bf16 *to, const bf16 *from, bool valid) {
#ifdef MST_CUDA_EMULATED
    if ((uintptr_t)to % 16 != 0 || (valid && (uintptr_t)from % 16 != 0))
        emulation::fail("cp.async that is not on 16 bytes");
    emulation::copy_begin(to, from, 16, valid ? 16 : 0);
#else
    unsigned address = (unsigned)__cvta_generic_to_shared(to);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from),
                 "r"(valid ? 16 : 0)
                 : "memory");
#endif
}

/* Ends a group of copies. */
MST_DEVICE void async_commit() {
#ifdef MST_CUDA_EMULATED
    emulation::m.current->group++;
#else
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

/* Waits for this thread's groups but the newest PENDING. */
template <int PENDING> MST_DEVICE void async_wait() {
#ifdef MST_CUDA_EMULATED
    emulation::copy_wait(PENDING);
#else
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
#endif
}

/* ---------------------------------------------------------------- tiles */

/* Rows of a tile stand D + 8 elements apart: eight rows that follow each other lie in different banks. */
template <int D> constexpr int STRIDE = D + 8;

/* Bytes of a tile of ROWS rows. */
template <int ROWS, int D> constexpr size_t TILE_BYTES = (size_t)ROWS *STRIDE<D> * sizeof(bf16);

/* Rows `first` to first + ROWS of a matrix with `rows` rows of `cols` elements into a tile; what lies outside is 0. With
 * `wide` as asynchronous copies, otherwise element by element. The caller commits and waits in either case. */
template <int ROWS, int D, int THREADS>
MST_DEVICE void load_tile(bf16 *tile, const bf16 *matrix, size_t ld, long long first, long long rows,
                          unsigned cols, bool wide) {
    if (wide) {
        for (unsigned i = threadIdx.x; i < ROWS * D / 8; i += THREADS) {
            unsigned r = i / (D / 8), c = i % (D / 8) * 8;
            bool valid = first + r >= 0 && first + r < rows && c < cols;
            async_copy(tile + r * STRIDE<D> + c, valid ? matrix + (size_t)(first + r) * ld + c : matrix,
                       valid);
        }
    } else {
        for (unsigned i = threadIdx.x; i < ROWS * D; i += THREADS) {
            unsigned r = i / D, c = i % D;
            bool valid = first + r >= 0 && first + r < rows && c < cols;
            tile[r * STRIDE<D> + c] = valid ? matrix[(size_t)(first + r) * ld + c] : (bf16)0;
        }
    }
}

/* The a operand: rows row to row + 16, columns k to k + 16 of a tile. */
template <int D> MST_DEVICE void load_a(unsigned (&a)[4], const bf16 *tile, unsigned row, unsigned k) {
    unsigned lane = threadIdx.x % 32;
    load_matrices<false>(a, tile + (row + lane % 16) * STRIDE<D> + k + lane / 16 * 8);
}

/* Two b operands of c = a tile^T: n is the tile's row. b[0], b[1] for n to n + 8, b[2], b[3] for n + 8 to n + 16. */
template <int D> MST_DEVICE void load_b_rows(unsigned (&b)[4], const bf16 *tile, unsigned n, unsigned k) {
    unsigned lane = threadIdx.x % 32;
    load_matrices<false>(b, tile + (n + lane % 8 + lane / 16 * 8) * STRIDE<D> + k + lane / 8 % 2 * 8);
}

/* Two b operands of c = a tile: k is the tile's row, n its column. */
template <int D> MST_DEVICE void load_b_cols(unsigned (&b)[4], const bf16 *tile, unsigned k, unsigned n) {
    unsigned lane = threadIdx.x % 32;
    load_matrices<true>(b, tile + (k + lane % 16) * STRIDE<D> + n + lane / 16 * 8);
}

/* c[16, N] = rows row to row + 16 of `left` times the N rows of `right` from `first` on, over D columns. */
template <int N, int D>
MST_DEVICE void multiply_rows(float (&c)[N / 8][4], const bf16 *left, unsigned row, const bf16 *right) {
    MST_UNROLL for (int n = 0; n < N / 8; n++) MST_UNROLL for (int i = 0; i < 4; i++) c[n][i] = 0.0f;
    MST_UNROLL for (int k = 0; k < D; k += 16) {
        unsigned a[4];
        load_a<D>(a, left, row, k);
        MST_UNROLL for (int n = 0; n < N; n += 16) {
            unsigned b[4];
            load_b_rows<D>(b, right, n, k);
            mma(c[n / 8], a, b[0], b[1]);
            mma(c[n / 8 + 1], a, b[2], b[3]);
        }
    }
}

/* out[16, D] += x[16, K], rounded to bf16, times the K rows of `tile`. */
template <int K, int D>
MST_DEVICE void add_product(float (&out)[D / 8][4], const float (&x)[K / 8][4], const bf16 *tile) {
    MST_UNROLL for (int k = 0; k < K; k += 16) {
        const float(&low)[4] = x[k / 8], (&high)[4] = x[k / 8 + 1];
        unsigned a[4] = {pack_bf16(low[0], low[1]), pack_bf16(low[2], low[3]), pack_bf16(high[0], high[1]),
                         pack_bf16(high[2], high[3])};
        MST_UNROLL for (int n = 0; n < D; n += 16) {
            unsigned b[4];
            load_b_cols<D>(b, tile, k, n);
            mma(out[n / 8], a, b[0], b[1]);
            mma(out[n / 8 + 1], a, b[2], b[3]);
        }
    }
}

#endif
