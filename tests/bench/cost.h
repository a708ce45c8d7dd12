/*
 * What a kernel call has to do at least, counted from its arguments: bytes that must be read and written, each once, and
 * floating-point operations. docs/performance.md states the rules. Private to tests/bench.
 */
#ifndef BENCH_COST_H
#define BENCH_COST_H

#include "muster/kernels.h"

/* How a call meets memory. What is written without having been read is read first by a plain store, so bandwidths differ. */
typedef enum bench_way { BENCH_IN_PLACE, BENCH_ELSEWHERE, BENCH_ONLY_READS, BENCH_WAYS } bench_way;

typedef struct bench_cost {
    double bytes, flops;
    bench_way way;
} bench_cost;

/* Every slot of the kernel table with its arguments' type and the function that counts them. */
#define BENCH_SLOTS(X)                                                                                       \
    X(matmul, mst_matmul_args, cost_matmul)                                                                  \
    X(rmsnorm_forward, mst_norm_args, cost_rmsnorm)                                                          \
    X(rmsnorm_backward, mst_norm_grad_args, cost_rmsnorm_grad)                                               \
    X(layernorm_forward, mst_norm_args, cost_layernorm)                                                      \
    X(layernorm_backward, mst_norm_grad_args, cost_layernorm_grad)                                           \
    X(rope, mst_rope_args, cost_rope)                                                                        \
    X(swiglu_forward, mst_swiglu_args, cost_swiglu)                                                          \
    X(swiglu_backward, mst_swiglu_args, cost_swiglu_grad)                                                    \
    X(gelu_forward, mst_gelu_args, cost_gelu)                                                                \
    X(gelu_backward, mst_gelu_args, cost_gelu_grad)                                                          \
    X(embedding_forward, mst_embedding_args, cost_embedding)                                                 \
    X(embedding_backward, mst_embedding_args, cost_embedding_grad)                                           \
    X(attention_forward, mst_attention_args, cost_attention)                                                 \
    X(attention_backward, mst_attention_args, cost_attention_grad)                                           \
    X(cross_entropy, mst_cross_entropy_args, cost_cross_entropy)                                             \
    X(bias_grad, mst_bias_grad_args, cost_bias_grad)                                                         \
    X(ordered_sum, mst_ordered_sum_args, cost_ordered_sum)                                                   \
    X(adamw, mst_adamw_args, cost_adamw)                                                                     \
    X(cast, mst_cast_args, cost_cast)                                                                        \
    X(random_normal, mst_random_normal_args, cost_random_normal)                                             \
    X(block_digest, mst_block_digest_args, cost_block_digest)

#define BENCH_DECLARE(slot, args_type, count) bench_cost count(const args_type *args);
BENCH_SLOTS(BENCH_DECLARE)
#undef BENCH_DECLARE

#endif
