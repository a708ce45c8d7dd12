/* The table-driven decoder: one description covers every family; a family is data, not code. */
#ifndef MUSTER_MODEL_H
#define MUSTER_MODEL_H

#include "muster/layout.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum mst_family_id {
    MST_FAMILY_LLAMA,
    MST_FAMILY_GPT2,
    MST_FAMILY_OLMO2,
    MST_FAMILY_QWEN2,
    MST_FAMILY_QWEN3,
    MST_FAMILY_COUNT
} mst_family_id;

typedef struct mst_model_config {
    mst_family_id family;
    size_t vocab_size, d_model, n_layers, n_heads, n_kv_heads, head_dim, d_ff;
    size_t max_seq_len;                          /* GPT-2: rows of the position table */
    double norm_eps, rope_theta, init_deviation; /* init: normal, truncated at 3 deviations */
    bool tie_embeddings;
    /* Llama 3's scaling of rotary frequencies; a factor of 0 or 1: none. docs/model.md has the formula. */
    double rope_factor, rope_low_freq_factor, rope_high_freq_factor;
    size_t rope_original_seq_len;
} mst_model_config;

/** "llama", "gpt2", "olmo2", "qwen2", "qwen3"; NULL for an unknown id. */
const char *mst_family_name(mst_family_id family);

/** The width inside the feed-forward part that is usual in a family: 4 d_model, or, where the MLP has a gate,
 * 8/3 d_model rounded up to a multiple of 64. */
size_t mst_model_default_d_ff(mst_family_id family, size_t d_model);

/**
 * Checks a model's numbers against each other (heads divide d_model, grouped heads divide heads, head_dim
 * even for RoPE...). Not collective.
 * @retval MST_ECONFIG the message names the key, its value and what would be right
 */
mst_status mst_model_config_check(const mst_model_config *config);

/** Builds the layout of a model. Not collective. layout_out is cleared by mst_layout_clear.
 * @retval MST_ENOMEM, MST_ECONFIG */
mst_status mst_model_layout(const mst_model_config *config, mst_layout *layout_out);

/**
 * Writes the initial values of blocks [first_block, first_block + blocks) of a unit: a pure function of
 * (seed, tensor, element), the same whoever owns the blocks. Padding is zero. Not collective.
 * @param master [blocks * MST_BLOCK]
 */
mst_status mst_model_init_blocks(const mst_model_config *config, const mst_layout *layout, size_t unit,
                                 uint64_t seed, size_t first_block, size_t blocks, mst_queue *queue,
                                 const mst_kernels *kernels, float *master);

/*
 * Low-rank adapters (LoRA, Hu et al. 2021) of some of a layer's projections: y = x W^T + scale (x A^T) B^T, with A [rank, in]
 * and B [out, rank]. Where there are any, the model itself is frozen, and they alone are trained. docs/lora.md.
 */
typedef struct mst_lora {
    size_t rank;      /* 0: none */
    double scale;     /* alpha / rank, or alpha / sqrt(rank) */
    uint64_t targets; /* which projections; made by mst_lora_targets */
} mst_lora;

/**
 * Finds the projections that a user names: the last part of their tensors' names, as "q_proj,v_proj", or "all-linear" for all.
 * Not collective.
 * @retval MST_ECONFIG the message names the word and those that the family knows
 */
mst_status mst_lora_targets(mst_family_id family, const char *names, uint64_t *targets_out);

/**
 * Builds the layout of the adapters of a model: a unit for each layer, tensors under the names that PEFT gives them. Not collective.
 * layout_out is cleared by mst_layout_clear. Initial values are PEFT's: A uniform up to 1 / sqrt(in), B zero.
 * @retval MST_ENOMEM, MST_ECONFIG a rank that is none
 */
mst_status mst_lora_layout(const mst_model_config *config, const mst_lora *lora, mst_layout *layout_out);

/* An adapted projection. */
typedef struct mst_lora_pair {
    size_t a, b; /* tensors of the adapters' layout */
    bool in_out; /* the weight is stored [in, out] */
} mst_lora_pair;

/** The pair of a tensor of the model; false: it has no adapter. Not collective.
 * @param adapters made by mst_lora_layout for this config */
bool mst_lora_find(const mst_model_config *config, const mst_layout *adapters, const char *weight,
                   mst_lora_pair *pair_out);

/* Where the model finds the weights of a unit: the seam at which sharded parameters
 * are gathered one unit at a time. */
typedef struct mst_weight_source {
    void *context;
    /** The unit's flat buffer in the compute dtype, valid until released. With adapters, the unit of layer n's is numbered
     * n after all units of the model. */
    mst_status (*acquire)(void *context, size_t unit, const void **weights_out);
    void (*release)(void *context, size_t unit);
} mst_weight_source;

/* Where the model puts gradients. NULL callback: nobody waits for single units. */
typedef struct mst_gradient_sink {
    /* [unit_count] flat buffers in ACC (fp32; fp64 for F64), added to. With adapters units are those of their layout, here and
     * below. */
    void *const *gradients;
    void *context;
    /** The unit's gradient of this microbatch is complete. Called in the order of the
     * backward pass, each unit once. */
    mst_status (*unit_done)(void *context, size_t unit);
} mst_gradient_sink;

/* What one microbatch gives. Sums, not means. */
typedef struct mst_loss {
    double loss;  /* sum of cross-entropy over valid tokens, natural log */
    double zloss; /* sum of lse^2 over valid tokens */
    uint64_t valid;
} mst_loss;

/* What the backward pass computes again instead of keeping it, to the same bits: nothing; what costs no matrix product
 * (outputs of norms and activation functions); or all of a layer but its input. */
typedef enum mst_recompute { MST_RECOMPUTE_NONE, MST_RECOMPUTE_SELECTIVE, MST_RECOMPUTE_FULL } mst_recompute;

typedef struct mst_model mst_model;

typedef struct mst_model_options {
    mst_dtype dtype; /* of weights and activations: F32, BF16, or F64 with the ref table */
    size_t micro;    /* sequences per microbatch */
    size_t seq_len;
    mst_recompute recompute;
    /* Rows of logits that exist at a time: part of the gradient's bits, so a run keeps its number on whatever device. 0: a sixteenth
     * of all, but at least 256. */
    size_t head_rows;
    /* Bytes that attention may take for an algorithm of a GPU's library (mst_attention_args.workspace); 0: none. */
    size_t attention_workspace;
    bool forward_only; /* no buffers for the backward pass */
    /* Not 0: a model for mst_model_extend only, with room for the keys and values of so many tokens. Then micro is 1,
     * forward_only is set, and seq_len is how many tokens are computed at once. */
    size_t kept_tokens;
    mst_lora lora; /* rank 0: the model alone */
    bool
        graphs; /* passes are recorded where the device can, and replayed (muster/recording.h); not with kept_tokens */
} mst_model_options;

/**
 * Allocates all activations for one microbatch; a pass allocates nothing more.
 *
 * Not collective.
 * @param layout, queue, kernels kept by reference; must outlive the model
 * @retval MST_ENOMEM with the bytes asked for, MST_ECONFIG seq_len or kept_tokens beyond max_seq_len (GPT-2)
 */
mst_status mst_model_create(const mst_model_config *config, const mst_layout *layout,
                            const mst_model_options *options, mst_queue *queue, const mst_kernels *kernels,
                            mst_model **model_out);
void mst_model_destroy(mst_model **model);

/** Forgets the recordings of passes: before memory of weights or gradients is freed that passes were given. Not collective. */
void mst_model_forget_graphs(mst_model *model);

/** Why passes are no longer recorded, though the options ask for it; NULL: that has not happened. Not collective. */
const char *mst_model_graphs_failure(const mst_model *model);

/** Bytes of activations that mst_model_create allocates, with the kept keys and values: kept_tokens * n_layers * 2 *
 * n_kv_heads * head_dim elements of dtype; and, where the device's memory is apart, of pinned memory for inputs and losses. */
size_t mst_model_bytes(const mst_model *model);

/** Bytes of a GPU's memory that the kernels of such a model's passes take at most for themselves: the matrix library's workspace, the
 * attention library's where it is within options->attention_workspace, or partial sums. Not collective. */
size_t mst_model_scratch_of(const mst_model_config *config, const mst_model_options *options);

/** Rows of logits that such a model has at a time: head_rows or what 0 stands for, at most a microbatch's. Not collective. */
size_t mst_model_head_rows(const mst_model_options *options);

/** What mst_model_bytes of such a model would be, and how much more where the device's memory is apart; nothing is allocated for
 * it. SIZE_MAX: more than can be counted. Not collective. @retval MST_ENOMEM, MST_ECONFIG as mst_model_create */
mst_status mst_model_bytes_of(const mst_model_config *config, const mst_layout *layout,
                              const mst_model_options *options, size_t *bytes_out, size_t *pinned_out);

/**
 * Forward pass, loss and backward pass of one microbatch: adds the gradient of
 * loss_scale * sum over valid tokens of (cross-entropy + z_coefficient * lse^2) to the sink.
 *
 * Not collective.
 * @param tokens, targets [micro * seq_len]; a target below 0 is not valid
 * @param starts [micro * seq_len] where in its sequence the document of each token begins, never falling; a token sees only
 * its own document, in which it has the position t - starts[t]. NULL: a sequence is one document. All three may change on return
 * @param loss_out there when mst_model_settle has been called, on the CPU on return; stays the model's until then
 * @retval MST_EINVAL a token or target outside the vocabulary, wrong starts, before anything is computed; or the
 * status of a kernel or a callback, and then the sink's buffers hold part of the microbatch. All
 * weights are released in every case.
 */
mst_status mst_model_train(mst_model *model, const mst_weight_source *weights, const int32_t *tokens,
                           const int32_t *targets, const int32_t *starts, double loss_scale,
                           double z_coefficient, const mst_gradient_sink *sink, mst_loss *loss_out);

/** Forward pass and loss only. Not collective. @param loss_out as of mst_model_train */
mst_status mst_model_loss(mst_model *model, const mst_weight_source *weights, const int32_t *tokens,
                          const int32_t *targets, const int32_t *starts, mst_loss *loss_out);

/**
 * Waits until all passes have ended, and puts their losses in place: on a GPU a pass returns when it is queued, and waits only
 * for the one before the last. Not collective.
 * @param before a failure that came before: then nothing is waited for, no loss is put anywhere, and it is returned
 * @retval MST_ELIBRARY the device failed
 */
mst_status mst_model_settle(mst_model *model, mst_status before);

/** Waits for the oldest of these passes alone: a caller that says what has been done can do so between the two. */
mst_status mst_model_settle_oldest(mst_model *model, mst_status before);

/** The sum of cross-entropy over the valid tokens of one sequence of the last pass, which gave a loss and is settled.
 * Not collective. */
double mst_model_sequence_loss(const mst_model *model, size_t sequence);

/**
 * Logits after position `position` of the first sequence (the others must be filled with
 * valid tokens). Not collective.
 * @param logits_out ACC [vocab_size]
 */
mst_status mst_model_logits(mst_model *model, const mst_weight_source *weights, const int32_t *tokens,
                            size_t position, void *logits_out);

/* ---- token by token: keys and values of earlier tokens are kept (a KV cache) ---- */

/**
 * Appends tokens to the sequence that the model keeps, and computes the logits after the last of them.
 *
 * Not collective. The work of a token is linear in the tokens kept. Attention has the bits of a pass over the whole
 * sequence; a matrix product of one row has not those of a product of many (docs/model.md), so logits agree with
 * mst_model_logits to rounding. The same calls give the same bits on any number of threads.
 * @param tokens [count], count at least 1
 * @param logits_out ACC [vocab_size]
 * @retval MST_EINVAL a token outside the vocabulary, no token, more than there is room for (kept_tokens), or a model
 * without kept_tokens; or the status of a kernel or a callback. What was kept before is kept in every case.
 */
mst_status mst_model_extend(mst_model *model, const mst_weight_source *weights, const int32_t *tokens,
                            size_t count, void *logits_out);

/** How many tokens are kept. */
size_t mst_model_kept(const mst_model *model);

/** Forgets all tokens but the first `count`; no effect when there are no more. */
void mst_model_keep_first(mst_model *model, size_t count);

/* Floating-point operations of training one token, forward and backward,
 * by the formulas that docs/model.md states. */
typedef struct mst_flops {
    double dense;     /* 6 * (parameters used in matrix products) */
    double attention; /* 12 * n_layers * heads * head_dim * seq_len, halved for the causal mask */
} mst_flops;
mst_flops mst_model_flops(const mst_model_config *config, const mst_layout *layout, size_t seq_len);

/** The same where adapters alone are trained. @param layout the model's @param adapters mst_lora_layout's */
mst_flops mst_lora_flops(const mst_model_config *config, const mst_layout *layout, const mst_layout *adapters,
                         size_t seq_len);

/* What an evaluation on held-out data found. */
typedef struct mst_heldout {
    double loss;           /* nats per token, mean over valid tokens; NaN when there are none */
    double bits_per_byte;  /* of the text that the tokens stand for; NaN where the tokenizer is not known */
    uint64_t valid, bytes; /* tokens that count, and bytes of text that they stand for */
} mst_heldout;

#ifdef __cplusplus
}
#endif
#endif
