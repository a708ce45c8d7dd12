#include "cost.h"

/*
 * Operations of one element in 32-bit arithmetic, as kernels/cpu/cpu_math.h spells them: an fma is two, a division one.
 * exp: reduction 7, polynomial 8, result 5; for bf16 results 3, 6, and 3. The logistic function: exp, an addition, a division;
 * its derivative two products more.
 */
enum { EXP = 20, EXP_SHORT = 12 };

static double logistic(mst_dtype dtype) {
    return (dtype == MST_BF16 ? EXP_SHORT : EXP) + 2;
}

static double size_of(mst_dtype dtype) {
    return (double)mst_dtype_size(dtype);
}

bench_cost cost_matmul(const mst_matmul_args *a) {
    const double m = (double)a->m, n = (double)a->n, k = (double)a->k;
    return (bench_cost){.bytes = (m * k + k * n) * size_of(a->dtype) +
                                 m * n * size_of(a->c_dtype) * (a->accumulate ? 2 : 1),
                        .flops = 2 * m * n * k,
                        .way = a->accumulate ? BENCH_IN_PLACE : BENCH_ELSEWHERE};
}

/* ---- norms: statistics are small and not counted ---- */

static bench_cost norm(const mst_norm_args *a, double flops) {
    const double count = (double)a->rows * (double)a->groups * (double)a->cols;
    const int tensors = 1 + (a->delta != NULL) + (a->sum != NULL) + (a->y != NULL);
    if (a->y == NULL) flops = 0;
    return (bench_cost){.bytes = count * tensors * size_of(a->dtype),
                        .flops = count * (flops + (a->delta != NULL)),
                        .way = a->y == NULL && (a->sum == a->x || a->sum == a->delta) ? BENCH_IN_PLACE
                                                                                      : BENCH_ELSEWHERE};
}

static bench_cost norm_grad(const mst_norm_grad_args *a, double flops) {
    const double count = (double)a->rows * (double)a->groups * (double)a->cols;
    const int tensors = 3 + (a->dresidual != NULL);
    return (bench_cost){.bytes = count * tensors * size_of(a->dtype),
                        .flops = count * (flops + (a->dresidual != NULL)),
                        .way = a->dx == a->dresidual || a->dx == a->dy || a->dx == a->x ? BENCH_IN_PLACE
                                                                                        : BENCH_ELSEWHERE};
}

bench_cost cost_rmsnorm(const mst_norm_args *a) {
    return norm(a, 4); /* square and sum; scale, weight */
}
bench_cost cost_layernorm(const mst_norm_args *a) {
    return norm(a, 8); /* mean; difference, square and sum; difference, scale, weight, bias */
}
bench_cost cost_rmsnorm_grad(const mst_norm_grad_args *a) {
    return norm_grad(a, 11); /* dy w, its product with x and sum; the gradient; the weight's gradient */
}
bench_cost cost_layernorm_grad(const mst_norm_grad_args *a) {
    return norm_grad(a, 14); /* the same with a second sum, and the bias's gradient */
}

/* ---- element by element ---- */

static bench_cost elements(double count, int tensors, mst_dtype dtype, double flops, bench_way way) {
    return (bench_cost){.bytes = count * tensors * size_of(dtype), .flops = count * flops, .way = way};
}

bench_cost cost_rope(const mst_rope_args *a) {
    return elements((double)a->rows * (double)a->heads * (double)a->head_dim, 2, a->dtype, 3, BENCH_IN_PLACE);
}
bench_cost cost_swiglu(const mst_swiglu_args *a) {
    return elements((double)a->rows * (double)a->cols, 3, a->dtype, logistic(a->dtype) + 2,
                    a->y == a->gate || a->y == a->up ? BENCH_IN_PLACE : BENCH_ELSEWHERE);
}
static bool is_among(const void *written, const mst_swiglu_args *a) {
    return written == a->gate || written == a->up || written == a->dy;
}
bench_cost cost_swiglu_grad(const mst_swiglu_args *a) {
    return elements((double)a->rows * (double)a->cols, 5, a->dtype, logistic(a->dtype) + 8,
                    is_among(a->dgate, a) && is_among(a->dup, a) ? BENCH_IN_PLACE : BENCH_ELSEWHERE);
}
bench_cost cost_gelu(const mst_gelu_args *a) {
    return elements((double)a->count, 2, a->dtype, logistic(a->dtype) + 5,
                    a->y == a->x ? BENCH_IN_PLACE : BENCH_ELSEWHERE);
}
bench_cost cost_gelu_grad(const mst_gelu_args *a) {
    return elements((double)a->count, 3, a->dtype, logistic(a->dtype) + 12,
                    a->dx == a->x || a->dx == a->dy ? BENCH_IN_PLACE : BENCH_ELSEWHERE);
}
bench_cost cost_bias_grad(const mst_bias_grad_args *a) {
    return elements((double)a->rows * (double)a->cols, 1, a->dtype, 1, BENCH_ONLY_READS);
}

bench_cost cost_cast(const mst_cast_args *a) {
    return (bench_cost){.bytes = (double)a->count * (size_of(a->source_dtype) + size_of(a->result_dtype)),
                        .way = BENCH_ELSEWHERE};
}

/* ---- the embedding: what a token touches, however often it occurs ---- */

bench_cost cost_embedding(const mst_embedding_args *a) {
    const double count = (double)a->rows * (double)a->cols;
    return elements(count, a->positions != NULL ? 3 : 2, a->dtype, a->positions != NULL, BENCH_ELSEWHERE);
}

bench_cost cost_embedding_grad(const mst_embedding_args *a) {
    const double count = (double)a->rows * (double)a->cols;
    const int tables = 1 + (a->dpositions != NULL);
    return (bench_cost){.bytes = count * (size_of(a->dtype) + 2.0 * tables * sizeof(float)),
                        .flops = count * tables};
}

/* ---- attention: the causal half ---- */

static double pairs(const mst_attention_args *a) { /* of a query and a key that it sees, times head_dim */
    const double t = (double)a->seq_len, past = (double)a->past;
    return (double)a->sequences * (double)a->heads * (double)a->head_dim * (t * (t + 1) / 2 + t * past);
}

static double attention_elements(const mst_attention_args *a) { /* of q and out; of k and v */
    const double tokens = (double)a->sequences * (double)a->seq_len;
    return 2 * tokens * (double)a->head_dim * (double)(a->heads + a->kv_heads);
}

bench_cost cost_attention(const mst_attention_args *a) { /* two products */
    return (bench_cost){
        .bytes = attention_elements(a) * size_of(a->dtype), .flops = 4 * pairs(a), .way = BENCH_ELSEWHERE};
}

/* Five products: the scores once more, since memory is linear in the length; then dv, dp, dq, dk. */
bench_cost cost_attention_grad(const mst_attention_args *a) {
    return (bench_cost){.bytes = 2 * attention_elements(a) * size_of(a->dtype),
                        .flops = 10 * pairs(a),
                        .way = BENCH_ELSEWHERE};
}

/* Maximum, exp, sum; scale and probability. */
bench_cost cost_cross_entropy(const mst_cross_entropy_args *a) {
    const double count = (double)a->rows * (double)a->vocab;
    const double gradient = a->dlogits != NULL ? size_of(a->dtype) : 0;
    return (bench_cost){.bytes = count * (sizeof(float) + gradient),
                        .flops = count * (EXP + 5),
                        .way = a->dlogits == NULL        ? BENCH_ONLY_READS
                               : a->dlogits == a->logits ? BENCH_IN_PLACE
                                                         : BENCH_ELSEWHERE};
}

/* ---- the update ---- */

bench_cost cost_ordered_sum(const mst_ordered_sum_args *a) {
    const double count = (double)a->count, sources = (double)a->sources;
    /* One source that is the result already: only its norm is wanted. */
    const bool stands = a->sources == 1 && a->source[0] == a->result && !a->accumulate;
    const double writes = stands ? 0 : (a->accumulate ? 2 : 1) * size_of(a->result_dtype);
    return (bench_cost){.bytes = count * (sources * size_of(a->source_dtype) + writes),
                        .flops = count * (sources + 1),
                        .way = stands          ? BENCH_ONLY_READS
                               : a->accumulate ? BENCH_IN_PLACE
                                               : BENCH_ELSEWHERE};
}

/* Gradient, both moments and the master are read, the latter three written, and the copy that the model reads. */
bench_cost cost_adamw(const mst_adamw_args *a) {
    double count = 0;
    for (size_t p = 0; p < a->part_count; p++) count += (double)a->parts[p].count;
    return (bench_cost){.bytes =
                            count * (3 * sizeof(float) + 4 * size_of(a->moments) + size_of(a->weight_dtype)),
                        .flops = count * 16};
}

/* ---- outside of a step ---- */

bench_cost cost_random_normal(const mst_random_normal_args *a) {
    return (bench_cost){.bytes = (double)a->count * sizeof(float), .way = BENCH_ELSEWHERE};
}
bench_cost cost_block_digest(const mst_block_digest_args *a) {
    return (bench_cost){.bytes = (double)a->count * size_of(a->dtype), .way = BENCH_ONLY_READS};
}
