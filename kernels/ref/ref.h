/*
 * The specification bodies: what every operation of muster/kernels.h means. Plain scalar C,
 * one thread, arithmetic in fp64 whatever the dtype; a result is rounded once, when it is stored.
 * The two exceptions are defined in fp32 to the last bit: the "+=" of embedding_backward (rows added
 * one by one) and the ordered sum.
 *
 * All bodies take F32, BF16 and F64 (F64 where the operation has a dtype). They ignore the queue, which may
 * be NULL, and check every stated rule: MST_EINVAL otherwise.
 */
#ifndef MUSTER_REF_H
#define MUSTER_REF_H

#include "muster/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

mst_matmul_fn mst_matmul_ref;
mst_rmsnorm_forward_fn mst_rmsnorm_forward_ref;
mst_rmsnorm_backward_fn mst_rmsnorm_backward_ref;
mst_layernorm_forward_fn mst_layernorm_forward_ref;
mst_layernorm_backward_fn mst_layernorm_backward_ref;
mst_rope_fn mst_rope_ref;
mst_swiglu_forward_fn mst_swiglu_forward_ref;
mst_swiglu_backward_fn mst_swiglu_backward_ref;
mst_gelu_forward_fn mst_gelu_forward_ref;
mst_gelu_backward_fn mst_gelu_backward_ref;
mst_embedding_forward_fn mst_embedding_forward_ref;
mst_embedding_backward_fn mst_embedding_backward_ref;
mst_attention_forward_fn mst_attention_forward_ref;
mst_attention_backward_fn mst_attention_backward_ref;
mst_cross_entropy_fn mst_cross_entropy_ref;
mst_bias_grad_fn mst_bias_grad_ref;
mst_ordered_sum_fn mst_ordered_sum_ref;
mst_adamw_fn mst_adamw_ref;
mst_cast_fn mst_cast_ref;
mst_random_normal_fn mst_random_normal_ref;
mst_block_digest_fn mst_block_digest_ref;

/** Sets the name "ref", the class name "ref" and every slot. Not collective. */
void mst_kernels_fill_ref(mst_kernels *table);

#ifdef __cplusplus
}
#endif
#endif
