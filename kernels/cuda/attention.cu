/* Attention: checks, the choice between cuDNN's kernels, ours for tensor cores (bf16) and scalar arithmetic (fp32), and the backward pass's dot
 * products of out and dout. */
#include "attention.cuh"
#include "cudnn/face.h"

enum { THREADS = 256, HEAD_MAX = 128 };

mst_status mst_attention_check(const char *name, const mst_attention_args *args) {
    size_t q_cols = args->heads * args->head_dim, kv_cols = args->kv_heads * args->head_dim;
    MST_RETURN_IF(mst_cuda_check_dtype(name, args->dtype));
    if (args->kv_heads > 0 ? args->heads % args->kv_heads != 0 : args->heads != 0)
        return mst_error(
            MST_EINVAL,
            "%s: %zu query heads cannot share %zu key/value heads; heads must be a multiple of kv_heads",
            name, args->heads, args->kv_heads);
    if (args->ldq < q_cols)
        return mst_error(MST_EINVAL, "%s: ldq %zu is less than heads * head_dim = %zu", name, args->ldq,
                         q_cols);
    if (args->ldk < kv_cols || args->ldv < kv_cols)
        return mst_error(MST_EINVAL, "%s: ldk %zu or ldv %zu is less than kv_heads * head_dim = %zu", name,
                         args->ldk, args->ldv, kv_cols);
    if (args->starts && args->past != 0)
        return mst_error(MST_EINVAL,
                         "%s: starts of documents and a past of %zu; only one of them is possible", name,
                         args->past);
    if (args->head_dim > HEAD_MAX)
        return mst_error(MST_EUNSUPPORTED, "%s: heads of %zu elements; at most %d on device cuda", name,
                         args->head_dim, (int)HEAD_MAX);
    if (args->seq_len > (1u << 30) || args->past > (1u << 30))
        return mst_error(MST_EUNSUPPORTED, "%s: sequences of more than 2^30 tokens", name);
    return MST_OK;
}

attention_shape mst_attention_shape_of(const mst_attention_args *args) {
    size_t ldo = args->heads * args->head_dim;
    bool wide = args->head_dim % 8 == 0 && (args->ldq | args->ldk | args->ldv | ldo) % 8 == 0 &&
                mst_is_wide(args->q) && mst_is_wide(args->k) && mst_is_wide(args->v) &&
                mst_is_wide(args->out) && mst_is_wide(args->dout);
    return {args->seq_len,
            args->past,
            args->heads,
            args->kv_heads,
            args->ldq,
            args->ldk,
            args->ldv,
            ldo,
            args->starts,
            (unsigned)args->head_dim,
            (float)args->scale,
            (float)(args->scale * 1.44269504088896340736),
            wide};
}

mst_status mst_attention_grid(const char *name, size_t tiles, size_t heads, dim3 *grid_out) {
    unsigned blocks;
    MST_RETURN_IF(mst_grid(name, heads, 1, &blocks));
    if (tiles > 65535)
        return mst_error(MST_EUNSUPPORTED, "%s: %zu tiles of tokens; at most 65535", name, tiles);
    *grid_out = dim3(blocks, (unsigned)tiles);
    return MST_OK;
}

/* work = dout . out of every token and head: a warp each. */
template <class T>
MST_KERNEL(THREADS)
out_dots(size_t vectors, attention_shape s, const T *out, const T *dout, float *work) {
    size_t v = (size_t)blockIdx.x * (THREADS / 32) + threadIdx.x / 32;
    if (v >= vectors) return;
    size_t token = v % s.seq_len, head = v / s.seq_len % s.heads, sequence = v / s.seq_len / s.heads;
    size_t at = (sequence * s.seq_len + token) * s.ldo + head * s.head_dim;
    float sum = 0.0f;
    for (unsigned d = threadIdx.x % 32; d < s.head_dim; d += 32)
        sum = fmaf(to_f32(out[at + d]), to_f32(dout[at + d]), sum);
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) work[v] = sum;
}

static mst_status fill_work(mst_cuda *cuda, const mst_attention_args *a) {
    size_t vectors = a->sequences * a->heads * a->seq_len;
    unsigned blocks;
    const attention_shape s = mst_attention_shape_of(a);
    MST_RETURN_IF(mst_grid("attention_backward", vectors, THREADS / 32, &blocks));
    return MST_FOR_DTYPE(a->dtype, T, {
        return MST_LAUNCH(cuda, out_dots<T>, blocks, THREADS, 0, vectors, s, static_cast<const T *>(a->out),
                          static_cast<const T *>(a->dout), static_cast<float *>(a->work));
    });
}

mst_status mst_attention_forward_cuda(mst_queue *queue, const mst_attention_args *args) {
    mst_cuda *cuda;
    bool served;
    MST_RETURN_IF(mst_attention_check("attention_forward", args));
    MST_RETURN_IF(mst_cuda_of(queue, &cuda));
    if (args->sequences * args->heads * args->seq_len == 0) return MST_OK;
    MST_RETURN_IF(mst_cudnn_attention(cuda, args, false, &served));
    if (served) return MST_OK;
    return args->dtype == MST_BF16 ? mst_attention_forward_bf16(cuda, args)
                                   : mst_attention_forward_f32(cuda, args);
}

mst_status mst_attention_backward_cuda(mst_queue *queue, const mst_attention_args *args) {
    mst_cuda *cuda;
    bool served;
    MST_RETURN_IF(mst_attention_check("attention_backward", args));
    if (args->past != 0)
        return mst_error(MST_EINVAL, "attention_backward: past is %zu; only the forward pass has kept keys",
                         args->past);
    MST_RETURN_IF(mst_cuda_of(queue, &cuda));
    if (args->sequences * args->heads * args->seq_len == 0) return MST_OK;
    MST_RETURN_IF(mst_cudnn_attention(cuda, args, true, &served));
    if (served) return MST_OK;
    MST_RETURN_IF(fill_work(cuda, args));
    return args->dtype == MST_BF16 ? mst_attention_backward_bf16(cuda, args)
                                   : mst_attention_backward_f32(cuda, args);
}
