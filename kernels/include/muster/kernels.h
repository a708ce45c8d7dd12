/*
 * The kernel table: every operation of training, once as a type. A body is declared by its type
 * (`mst_matmul_fn mst_matmul_ref;`), so a body with another signature does not compile.
 *
 * Bodies: _ref (plain scalar C in fp64 arithmetic, the specification), _cpu (fast), _cuda (NVIDIA GPUs).
 *
 * Rules for every operation
 *  - Not collective. Work is queued on `queue`; on the CPU it has ended on return, on a GPU after mst_queue_sync.
 *    Tensors, tokens and targets lie in DEVICE or PINNED memory; arrays of pointers, levels and parts, and digests, lie
 *    in HOST memory and are read or written before the call returns.
 *  - `dtype` names the type of activations and weights. ACC below means mst_dtype_acc(dtype):
 *    float, or double for F64. Fast bodies take F32 and BF16 and return MST_EUNSUPPORTED for
 *    F64; ref bodies take all three.
 *  - Outputs do not overlap inputs unless said. Pointers are aligned to their element only
 *    (fast paths may test for more).
 *  - "+=" outputs are added to, in ACC; others are overwritten.
 *  - Results depend on the arguments alone: never on the number of threads,
 *    on addresses, or on earlier calls.
 *  - Sizes of zero are allowed and do nothing. NaN and Inf propagate as IEEE says.
 *  - @retval MST_EINVAL for sizes that break a stated rule, MST_ENOMEM, MST_ELIBRARY
 *    with the library's own text.
 */
#ifndef MUSTER_KERNELS_H
#define MUSTER_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "muster/digest.h"
#include "muster/dtype.h"
#include "muster/queue.h"
#include "muster/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A block: consecutive elements of one tensor. Shards are whole blocks; norms and digests are per block. */
enum { MST_BLOCK = 4096 };

/* c[m, n] = op(a)[m, k] op(b)[k, n] + bias[n] (+ c), or scale op(a) op(b), row-major with leading dimensions. */
typedef struct mst_matmul_args {
    size_t m, n, k;
    mst_dtype dtype;   /* of a, b and bias */
    mst_dtype c_dtype; /* dtype or ACC */
    bool a_transposed; /* a is stored [k, m] */
    bool b_transposed; /* b is stored [n, k] */
    const void *a;
    size_t lda; /* elements from row to row as stored */
    const void *b;
    size_t ldb;
    const void *bias; /* [n] or NULL */
    void *c;
    size_t ldc;
    bool accumulate; /* c += instead of c =; then bias is NULL and c_dtype is ACC */
    /* Not 0: the product is multiplied by it before it is rounded to c_dtype; then bias is NULL, and nothing is accumulated. */
    double scale;
} mst_matmul_args;
/** Matrix product, accumulated in ACC. */
typedef mst_status mst_matmul_fn(mst_queue *queue, const mst_matmul_args *args);

/*
 * sum = x + delta; y = norm(sum) * weight (+ bias). A row is `groups` vectors of `cols` elements side by side, each
 * normalised by itself with the same weight: 1, or the heads of queries or keys.
 */
typedef struct mst_norm_args {
    size_t rows, groups, cols;
    size_t ldx, ldy; /* elements from row to row of x, delta and sum; of y; at least groups * cols */
    mst_dtype dtype;
    double eps;
    bool round_first; /* RMSNorm only: the normalised value is rounded to dtype before it is multiplied by the
                           weight, as in Hugging Face's Llama; the backward pass ignores the rounding */
    const void *x;    /* [rows, groups, cols] */
    const void *delta;  /* [rows, groups, cols] added to x first, or NULL */
    void *sum;          /* [rows, groups, cols] x + delta rounded to dtype, the norm's input; may be x;
                           NULL when delta is NULL */
    const void *weight; /* [cols] */
    const void *bias;   /* [cols], LayerNorm only, or NULL */
    void *y;            /* [rows, groups, cols]; NULL: only `sum` is wanted, the rest is not touched */
    void *mean;         /* ACC [rows, groups], LayerNorm only */
    void *rstd; /* ACC [rows, groups]: 1 / sqrt(variance + eps), for RMSNorm 1 / sqrt(mean square + eps) */
} mst_norm_args;
/** RMSNorm with the residual addition fused. Zhang and Sennrich 2019. */
typedef mst_status mst_rmsnorm_forward_fn(mst_queue *queue, const mst_norm_args *args);
/** LayerNorm with the residual addition fused. Ba et al. 2016. */
typedef mst_status mst_layernorm_forward_fn(mst_queue *queue, const mst_norm_args *args);

typedef struct mst_norm_grad_args {
    size_t rows, groups, cols;
    size_t ldx, ldd; /* elements from row to row of x; of dy, dresidual and dx */
    mst_dtype dtype;
    const void *x;      /* [rows, groups, cols] the norm's input (`sum` of the forward pass) */
    const void *weight; /* [cols] */
    const void *mean;   /* ACC [rows, groups], LayerNorm only */
    const void *rstd;   /* ACC [rows, groups] */
    const void *dy;     /* [rows, groups, cols] */
    const void
        *dresidual; /* [rows, groups, cols] gradient that reaches x past the norm, added to dx; or NULL */
    void *dx;       /* [rows, groups, cols]; may be dresidual or dy */
    void *dweight;  /* ACC [cols], += */
    void *dbias;    /* ACC [cols], +=; LayerNorm with bias only, else NULL */
} mst_norm_grad_args;
typedef mst_status mst_rmsnorm_backward_fn(mst_queue *queue, const mst_norm_grad_args *args);
typedef mst_status mst_layernorm_backward_fn(mst_queue *queue, const mst_norm_grad_args *args);

/* Rotary position embedding, in place, "rotate half" layout (Hugging Face Llama):
 * pairs (i, i + head_dim / 2). */
typedef struct mst_rope_args {
    size_t rows, heads, head_dim; /* head_dim even */
    size_t seq_len;               /* row r stands at position first + r % seq_len - starts[r] */
    size_t first;
    const int32_t *starts; /* [rows] as in mst_attention_args, or NULL: 0 for all */
    mst_dtype dtype;
    const float *cosine; /* fp32 [positions, head_dim / 2] */
    const float *sine;
    bool inverse; /* rotate back: the backward pass */
    void *x;      /* [rows, heads, head_dim] with ld elements from row to row */
    size_t ld;
} mst_rope_args;
typedef mst_status mst_rope_fn(mst_queue *queue, const mst_rope_args *args);

/* y = silu(gate) * up. Backward: dgate and dup from dy;
 * dgate may be gate, dup may be up. All [rows, cols] dense. */
typedef struct mst_swiglu_args {
    size_t rows, cols;
    mst_dtype dtype;
    const void *gate, *up;
    void *y;        /* forward only */
    const void *dy; /* backward only */
    void *dgate, *dup;
} mst_swiglu_args;
typedef mst_status mst_swiglu_forward_fn(mst_queue *queue, const mst_swiglu_args *args);
typedef mst_status mst_swiglu_backward_fn(mst_queue *queue, const mst_swiglu_args *args);

/* y = 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), the "gelu_new" of GPT-2. dx may be dy. */
typedef struct mst_gelu_args {
    size_t count;
    mst_dtype dtype;
    const void *x;
    void *y;        /* forward only */
    const void *dy; /* backward only */
    void *dx;
} mst_gelu_args;
typedef mst_status mst_gelu_forward_fn(mst_queue *queue, const mst_gelu_args *args);
typedef mst_status mst_gelu_backward_fn(mst_queue *queue, const mst_gelu_args *args);

/* y[r] = table[tokens[r]] (+ positions[first + r % seq_len - starts[r]]).
 * Tokens are valid indices (checked by the loader). */
typedef struct mst_embedding_args {
    size_t rows, cols, vocab, seq_len, first;
    mst_dtype dtype;
    const int32_t *tokens; /* [rows] */
    const int32_t *starts; /* [rows] as in mst_attention_args, or NULL: 0 for all */
    const void *table;     /* [vocab, cols] */
    const void *positions; /* [at least first + seq_len, cols] or NULL */
    void *y;               /* forward: [rows, cols] */
    const void *dy;        /* backward: [rows, cols] */
    void *dtable;          /* backward: ACC [vocab, cols], +=, rows added in order of r */
    void *dpositions;      /* backward: ACC like positions, += in order of r, or NULL */
} mst_embedding_args;
typedef mst_status mst_embedding_forward_fn(mst_queue *queue, const mst_embedding_args *args);
typedef mst_status mst_embedding_backward_fn(mst_queue *queue, const mst_embedding_args *args);

/*
 * Causal attention with grouped heads: query head h reads key/value head h / (heads / kv_heads);
 * token t of a sequence sees tokens 0 to t. Row r = sequence * seq_len + t. Memory besides the
 * arguments is linear in seq_len.
 *
 * With `past`, forward only: each sequence goes on from that many tokens whose keys and values are kept. Then k
 * and v have past + seq_len rows per sequence, q and out seq_len, and query t sees keys 0 to past + t: the same
 * bits as in a pass over all tokens at once.
 *
 * With `starts`, which excludes a past, a sequence holds several documents one behind the other, and a token sees only
 * tokens of its own: token t sees starts[t] to t. What those of other documents are does not matter, not even NaN.
 */
typedef struct mst_attention_args {
    size_t sequences, seq_len, heads, kv_heads, head_dim;
    size_t past; /* 0 in the backward pass */
    /* [rows] where in its sequence the document of a token begins: starts[t] <= t, t itself for a document's first token and
     * never falling within a sequence (checked by who makes it); or NULL: 0 for all. */
    const int32_t *starts;
    mst_dtype dtype;
    double scale;          /* of the scores, usually 1 / sqrt(head_dim) */
    const void *q, *k, *v; /* row r, head h at r * ld + h * head_dim */
    size_t ldq, ldk, ldv;  /* elements from row to row */
    void *out;             /* [rows, heads * head_dim] dense; input of the backward pass */
    void *lse; /* ACC [sequences, heads, seq_len]: log of the sum of exp(score); input of the backward pass */
    const void *dout;   /* backward: [rows, heads * head_dim] dense */
    void *dq, *dk, *dv; /* backward: strides as q, k, v */
    void *work;         /* backward: ACC [sequences, heads, seq_len], contents undefined before and after */
    /* Bytes that a body may take besides these for an algorithm of a library, whose memory is not linear in seq_len; 0: none.
     * What was chosen for a kind of arguments stays, on one queue. */
    size_t workspace;
} mst_attention_args;
/** softmax(scale q k^T + causal mask) v. Tiled with a running maximum: Dao et al. 2022. */
typedef mst_status mst_attention_forward_fn(mst_queue *queue, const mst_attention_args *args);
typedef mst_status mst_attention_backward_fn(mst_queue *queue, const mst_attention_args *args);

/*
 * Cross-entropy and z-loss of rows of logits, with their gradient. For a valid row with lse = log sum
 * exp(logits): loss = lse - logits[target], zloss = lse^2, and the gradient of scale * (loss + z_coefficient
 * * zloss): dlogits[j] = scale * ((1 + 2 z_coefficient lse) * exp(logits[j] - lse) - (j == target)). A row
 * whose target is negative is not valid: its losses are 0 and its gradient is 0.
 */
typedef struct mst_cross_entropy_args {
    size_t rows, vocab;
    mst_dtype dtype;        /* of dlogits */
    const void *logits;     /* ACC [rows, vocab] dense */
    const int32_t *targets; /* [rows], below vocab */
    double scale, z_coefficient;
    void *loss;    /* ACC [rows] */
    void *zloss;   /* ACC [rows] */
    void *dlogits; /* [rows, vocab] with ldd elements from row to row, or NULL. May be logits: then ldd is
                      such that rows start where the rows of logits do (vocab for dtype ACC, 2 vocab for BF16
                      over float logits). */
    size_t ldd;
} mst_cross_entropy_args;
typedef mst_status mst_cross_entropy_fn(mst_queue *queue, const mst_cross_entropy_args *args);

/* dbias[c] += sum over rows of dy[r, c]. */
typedef struct mst_bias_grad_args {
    size_t rows, cols;
    mst_dtype dtype;
    const void *dy; /* [rows, cols], ld elements from row to row */
    size_t ld;
    void *dbias; /* ACC [cols], += */
} mst_bias_grad_args;
typedef mst_status mst_bias_grad_fn(mst_queue *queue, const mst_bias_grad_args *args);

/*
 * The ordered sum: finishes (part of) the balanced binary tree over lanes.
 * Sources stand in lane order; source i is a whole subtree of 2^level[i] lanes. They are combined like a
 * binary counter: push the sources in order, and while the two topmost have the same level replace them by
 * left + right at level + 1. At the end one value must remain (MST_EINVAL otherwise). Every source and every
 * sum is rounded to `wire` (identity for F32). Sums are fp32.
 */
typedef struct mst_ordered_sum_args {
    size_t count;   /* elements */
    size_t sources; /* 1 to 256 */
    const void *const *source;
    const uint8_t *level;
    mst_dtype source_dtype; /* F32 or BF16 */
    mst_dtype wire;         /* F32 or BF16 */
    void *result;           /* [count]; may be source[0] when the dtypes agree */
    mst_dtype result_dtype; /* F32, or BF16 when wire is BF16 and accumulate is false */
    bool accumulate;        /* result += root instead of result = root: rounds added in order */
    double *block_norm2;    /* [ceil(count / MST_BLOCK)] sum of squares of the final result
                               per block in fp64, or NULL */
} mst_ordered_sum_args;
/** Ordered sum and norm partials in one pass. DESIGN: docs/ordered-sum.md. */
typedef mst_status mst_ordered_sum_fn(mst_queue *queue, const mst_ordered_sum_args *args);

/* A part of the arrays of an update: consecutive elements of one tensor. No two parts of an update overlap. */
typedef struct mst_adamw_part {
    size_t offset, count; /* elements of the arrays; 0 of them is allowed */
    double weight_decay;
    uint32_t rounding_key; /* BF16 moments only, as is `first`: the number of the part's first element */
    size_t first;
} mst_adamw_part;

/*
 * One AdamW step over parts of arrays in one pass; decay is decoupled (Loshchilov and Hutter 2019), in
 * PyTorch's order: g = gradient * gradient_scale; m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g g;
 * master = master * (1 - lr * weight_decay) - (lr / correction1) * m / (sqrt(v) / correction2_sqrt + eps);
 * weight = master. All arithmetic is fp32 on scalars rounded to fp32 once, each computed on the host in fp64.
 * Moments in BF16 are used in fp32 and then rounded stochastically: with the upper 16 bits of a value's fp32 one more, if the lower
 * 16 and 16 bits of a hash of (rounding_key, first + i), i counting in the part, have a sum of 2^16 at least. Other halves of the
 * hash are for m and v.
 */
typedef struct mst_adamw_args {
    const mst_adamw_part *parts; /* [part_count] in any order; what lies between them is left alone */
    size_t part_count;
    const float *gradient;
    void *m, *v; /* of type `moments`, F32 or BF16 */
    mst_dtype moments;
    float *master;
    void *weight; /* the copy that the model reads: master rounded to weight_dtype */
    mst_dtype weight_dtype;
    double gradient_scale; /* normalisation times clip coefficient */
    double lr, beta1, beta2, eps;
    double correction1;      /* 1 - beta1^t */
    double correction2_sqrt; /* sqrt(1 - beta2^t) */
} mst_adamw_args;
/** AdamW over all tensors of a unit at once: one loop on the CPU, one launch on a GPU (64 parts at a time). */
typedef mst_status mst_adamw_fn(mst_queue *queue, const mst_adamw_args *args);

/** What of a part lies in [begin, end) of the arrays; of count 0 where nothing does. Not collective. */
static inline mst_adamw_part mst_adamw_part_within(const mst_adamw_part *part, size_t begin, size_t end) {
    mst_adamw_part within = *part;
    const size_t part_end = part->offset + part->count;
    if (begin < part->offset) begin = part->offset;
    if (end > part_end) end = part_end;
    within.offset = begin;
    within.count = begin < end ? end - begin : 0;
    within.first += begin - part->offset;
    return within;
}

/** Elements of the arrays up to where the last part ends. Not collective. */
static inline size_t mst_adamw_extent(const mst_adamw_args *args) {
    size_t extent = 0;
    for (size_t p = 0; p < args->part_count; p++) {
        const mst_adamw_part *part = &args->parts[p];
        if (part->count > 0 && part->offset + part->count > extent) extent = part->offset + part->count;
    }
    return extent;
}

typedef struct mst_cast_args {
    size_t count;
    const void *source;
    mst_dtype source_dtype;
    void *result;
    mst_dtype result_dtype;
} mst_cast_args;
/** result = source, rounded to nearest even where it narrows. */
typedef mst_status mst_cast_fn(mst_queue *queue, const mst_cast_args *args);

/* result[i] = mean + deviation * normal(seed, INIT, stream, first + i),
 * truncated at `limit` deviations (0: not). */
typedef struct mst_random_normal_args {
    size_t count;
    uint64_t seed, stream, first;
    double mean, deviation, limit;
    float *result;
} mst_random_normal_args;
typedef mst_status mst_random_normal_fn(mst_queue *queue, const mst_random_normal_args *args);

/* digest[b] = SHA-256 and checksum[b] = XXH3 of block b of `data` (little-endian bytes); the last block may be short. */
typedef struct mst_block_digest_args {
    size_t count; /* elements */
    mst_dtype dtype;
    const void *data;
    mst_digest *digest; /* [ceil(count / MST_BLOCK)] */
    uint64_t *checksum; /* [ceil(count / MST_BLOCK)] or NULL */
} mst_block_digest_args;
typedef mst_status mst_block_digest_fn(mst_queue *queue, const mst_block_digest_args *args);

/* Every operation: slot X(name) of the table has the type mst_name_fn. */
#define MST_KERNEL_SLOTS(X)                                                                                  \
    X(matmul)                                                                                                \
    X(rmsnorm_forward)                                                                                       \
    X(rmsnorm_backward)                                                                                      \
    X(layernorm_forward)                                                                                     \
    X(layernorm_backward)                                                                                    \
    X(rope)                                                                                                  \
    X(swiglu_forward)                                                                                        \
    X(swiglu_backward)                                                                                       \
    X(gelu_forward)                                                                                          \
    X(gelu_backward)                                                                                         \
    X(embedding_forward)                                                                                     \
    X(embedding_backward)                                                                                    \
    X(attention_forward)                                                                                     \
    X(attention_backward)                                                                                    \
    X(cross_entropy)                                                                                         \
    X(bias_grad)                                                                                             \
    X(ordered_sum)                                                                                           \
    X(adamw)                                                                                                 \
    X(cast)                                                                                                  \
    X(random_normal)                                                                                         \
    X(block_digest)

typedef struct mst_kernels {
    const char *name;     /* "ref", "cpu", "cuda" */
    char class_name[160]; /* device class: what the bits depend on,
                             e.g. "cpu x86-64-v4-bf16 onednn-2.6.3-avx512_core_bf16" */
    char device_id[32];   /* which of the host's devices: a GPU's PCI address; "" for the CPU */
    size_t memory;        /* bytes of the device's own; 0 for the CPU */
#define MST_KERNEL_MEMBER(slot) mst_##slot##_fn *slot;
    MST_KERNEL_SLOTS(MST_KERNEL_MEMBER)
#undef MST_KERNEL_MEMBER
} mst_kernels;

/* AUTO: CUDA where a GPU works, else CPU. */
typedef enum mst_device { MST_DEVICE_CPU, MST_DEVICE_REF, MST_DEVICE_CUDA, MST_DEVICE_AUTO } mst_device;

/**
 * Fills the table of a device. Every slot is set: an empty slot is MST_EINTERNAL
 * naming it, never a slower device.
 *
 * Not collective.
 * @param level NULL for the best instruction-set level that the processor and the operating system enable, or
 * one of "x86-64-v2", "x86-64-v3", "x86-64-v4", "x86-64-v4-bf16" ("generic" on other machines) to choose a lower one; on
 * CUDA the number of a GPU, modulo those here, so that the ranks of a node take turns; NULL for 0
 * @retval MST_EUNSUPPORTED the level is not known or not available here; the message names those that are. No GPU, no
 * driver, or built without CUDA, likewise
 */
mst_status mst_kernels_open(mst_device device, const char *level, mst_kernels *kernels_out);

/** The library whose attention a GPU's bodies may take (mst_attention_args.workspace), with its version, on which bits then
 * depend, such as "cudnn-9.19.0"; "" when there is none. Not collective. */
void mst_kernels_attention_library(char *text, size_t size);

/** What there is of GPUs, in a few words: their number and the device class of the first, or why there is none. Opens
 * nothing. Not collective. */
void mst_kernels_describe_gpus(char *text, size_t size);

/** What there is of CUDA: the version that is built in, the driver's, and the matrix library that was found. Likewise. */
void mst_kernels_describe_cuda(char *text, size_t size);

#ifdef __cplusplus
}
#endif
#endif
