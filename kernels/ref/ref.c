/* The table of specification bodies. */
#include "ref.h"

void mst_kernels_fill_ref(mst_kernels *table) {
    *table = (mst_kernels){
        .name = "ref",
        .class_name = "ref",
        .matmul = mst_matmul_ref,
        .rmsnorm_forward = mst_rmsnorm_forward_ref,
        .rmsnorm_backward = mst_rmsnorm_backward_ref,
        .layernorm_forward = mst_layernorm_forward_ref,
        .layernorm_backward = mst_layernorm_backward_ref,
        .rope = mst_rope_ref,
        .swiglu_forward = mst_swiglu_forward_ref,
        .swiglu_backward = mst_swiglu_backward_ref,
        .gelu_forward = mst_gelu_forward_ref,
        .gelu_backward = mst_gelu_backward_ref,
        .embedding_forward = mst_embedding_forward_ref,
        .embedding_backward = mst_embedding_backward_ref,
        .attention_forward = mst_attention_forward_ref,
        .attention_backward = mst_attention_backward_ref,
        .cross_entropy = mst_cross_entropy_ref,
        .bias_grad = mst_bias_grad_ref,
        .ordered_sum = mst_ordered_sum_ref,
        .adamw = mst_adamw_ref,
        .cast = mst_cast_ref,
        .random_normal = mst_random_normal_ref,
        .block_digest = mst_block_digest_ref,
    };
}
