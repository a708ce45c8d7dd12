/* Matrix products by hand, for shapes that the library refuses, and what stands around products. */
#include "device.cuh"

enum { THREADS = 256 };
constexpr size_t TILE = 16;

/* ---------------------------------------------------------------- c = bias */

template <class T, class C>
MST_KERNEL(THREADS)
fill_rows(size_t m, size_t n, const T *bias, C *c, size_t ldc) {
    size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < m * n) set(c[i / n * ldc + i % n], bias ? to_f32(bias[i % n]) : 0.0f);
}

mst_status mst_cuda_fill_rows(mst_cuda *cuda, const mst_matmul_args *args) {
    unsigned blocks;
    MST_RETURN_IF(mst_grid("matmul", args->m * args->n, THREADS, &blocks));
    return MST_FOR_DTYPE(args->dtype, T, {
        return MST_FOR_DTYPE(args->c_dtype, C, {
            return MST_LAUNCH(cuda, (fill_rows<T, C>), blocks, THREADS, 0, args->m, args->n,
                              static_cast<const T *>(args->bias), static_cast<C *>(args->c), args->ldc);
        });
    });
}

/* ---------------------------------------------------------------- the product */

/* Element (i, l) of an operand stands at i * row + l * col. */
struct plain_shape {
    size_t m, n, k, a_row, a_col, b_row, b_col, ldc;
    bool accumulate;
    float scale;
};

/* An element of c by a thread; k in tiles, in order. */
template <class T, class C>
MST_KERNEL(THREADS)
plain_product(plain_shape s, const T *a, const T *b, const T *bias, C *c) {
    MST_SHARED(float, a_tile, TILE *(TILE + 1));
    MST_SHARED(float, b_tile, TILE *(TILE + 1));
    size_t x = threadIdx.x % TILE, y = threadIdx.x / TILE;
    size_t i = (size_t)blockIdx.x * TILE + y, j = (size_t)blockIdx.y * TILE + x;
    float sum = 0.0f;
    for (size_t first = 0; first < s.k; first += TILE) {
        a_tile[y * (TILE + 1) + x] =
            i < s.m && first + x < s.k ? to_f32(a[i * s.a_row + (first + x) * s.a_col]) : 0.0f;
        b_tile[y * (TILE + 1) + x] =
            j < s.n && first + y < s.k ? to_f32(b[(first + y) * s.b_row + j * s.b_col]) : 0.0f;
        __syncthreads();
        size_t count =
            s.k - first < TILE ? s.k - first : TILE; /* no zeros beyond k: they would meet infinities */
        for (size_t l = 0; l < count; l++)
            sum = fmaf(a_tile[y * (TILE + 1) + l], b_tile[l * (TILE + 1) + x], sum);
        __syncthreads();
    }
    if (i >= s.m || j >= s.n) return;
    sum *= s.scale;
    C *at = c + i * s.ldc + j;
    set(*at, s.accumulate ? to_f32(*at) + sum : bias ? sum + to_f32(bias[j]) : sum);
}

mst_status mst_cuda_plain_product(mst_cuda *cuda, const mst_matmul_args *args) {
    unsigned rows, cols;
    MST_RETURN_IF(mst_grid("matmul", args->m, TILE, &rows));
    MST_RETURN_IF(mst_grid("matmul", args->n, TILE, &cols));
    if (cols > 65535)
        return mst_error(MST_EUNSUPPORTED, "matmul: %zu columns; at most 1048560 by this kernel", args->n);
    plain_shape s = {args->m,
                     args->n,
                     args->k,
                     args->a_transposed ? 1 : args->lda,
                     args->a_transposed ? args->lda : 1,
                     args->b_transposed ? 1 : args->ldb,
                     args->b_transposed ? args->ldb : 1,
                     args->ldc,
                     args->accumulate,
                     args->scale != 0 ? static_cast<float>(args->scale) : 1.0f};
    return MST_FOR_DTYPE(args->dtype, T, {
        return MST_FOR_DTYPE(args->c_dtype, C, {
            return MST_LAUNCH(cuda, (plain_product<T, C>), dim3(rows, cols), THREADS, 0, s,
                              static_cast<const T *>(args->a), static_cast<const T *>(args->b),
                              static_cast<const T *>(args->bias), static_cast<C *>(args->c));
        });
    });
}
