/* After configuration_*.py of transformers: which fields its models read. */
#include "families.h"

#include <string.h>

/* clang-format off */
#define MEMBER(key, type, absent, member) {.name = (key), .kind = (type), .absence = (absent), .offset = offsetof(mst_model_config, member)}
#define SIZE(key, absent, member)         MEMBER(key, HF_SIZE, absent, member)
#define REAL(key, absent, member)         MEMBER(key, HF_REAL, absent, member)
#define MUST(key, absent, list)           {.name = (key), .kind = HF_MUST, .absence = (absent), .values = (list)}
#define IDLE(key)                         {.name = (key), .kind = HF_IDLE}
/* clang-format on */

/* Llama's names, which its relatives share. */
#define LLAMA_FIELDS                                                                                         \
    SIZE("vocab_size", HF_REQUIRED, vocab_size), SIZE("hidden_size", HF_REQUIRED, d_model),                  \
        SIZE("num_hidden_layers", HF_REQUIRED, n_layers), SIZE("num_attention_heads", HF_REQUIRED, n_heads), \
        SIZE("num_key_value_heads", HF_DERIVED, n_kv_heads), SIZE("intermediate_size", HF_REQUIRED, d_ff),   \
        SIZE("max_position_embeddings", HF_REQUIRED, max_seq_len),                                           \
        REAL("rms_norm_eps", HF_REQUIRED, norm_eps), REAL("initializer_range", HF_DERIVED, init_deviation),  \
        MUST("hidden_act", HF_REQUIRED, "\"silu\""),                                                         \
        MUST("partial_rotary_factor", HF_OPTIONAL, "null|1.0|1")

static const hf_field llama[] = {
    LLAMA_FIELDS,
    SIZE("head_dim", HF_DERIVED, head_dim),
    MUST("attention_bias", HF_OPTIONAL, "false"), /* of all four projections: no family here has that */
    MUST("mlp_bias", HF_OPTIONAL, "false"),
    {.name = NULL},
};
static const hf_field mistral[] = {
    LLAMA_FIELDS,
    SIZE("head_dim", HF_DERIVED, head_dim),
    MUST("sliding_window", HF_REQUIRED, "null"), /* missing means 4096 to transformers */
    {.name = NULL},
};
static const hf_field qwen2[] = {
    LLAMA_FIELDS,
    SIZE("head_dim", HF_DERIVED, head_dim),
    MUST("use_sliding_window", HF_OPTIONAL, "false"),
    IDLE("sliding_window"),
    IDLE("max_window_layers"),
    {.name = NULL},
};
static const hf_field qwen3[] = {
    LLAMA_FIELDS,
    SIZE("head_dim", HF_REQUIRED, head_dim), /* missing means 128 to transformers, whatever d_model is */
    MUST("attention_bias", HF_OPTIONAL, "false"),
    MUST("use_sliding_window", HF_OPTIONAL, "false"),
    IDLE("sliding_window"),
    IDLE("max_window_layers"),
    {.name = NULL},
};
static const hf_field olmo2[] = {
    LLAMA_FIELDS,
    SIZE("head_dim", HF_DERIVED, head_dim),
    MUST("attention_bias", HF_OPTIONAL, "false"),
    {.name = NULL},
};
static const hf_field gpt2[] = {
    SIZE("vocab_size", HF_REQUIRED, vocab_size),
    SIZE("n_embd", HF_REQUIRED, d_model),
    SIZE("n_layer", HF_REQUIRED, n_layers),
    SIZE("n_head", HF_REQUIRED, n_heads),
    SIZE("n_positions", HF_REQUIRED, max_seq_len),
    SIZE("n_inner", HF_DERIVED, d_ff),
    REAL("layer_norm_epsilon", HF_REQUIRED, norm_eps),
    REAL("initializer_range", HF_DERIVED, init_deviation),
    MUST("activation_function", HF_REQUIRED, "\"gelu_new\"|\"gelu_pytorch_tanh\""),
    MUST("scale_attn_weights", HF_OPTIONAL, "true"),
    MUST("scale_attn_by_inverse_layer_idx", HF_OPTIONAL, "false"),
    MUST("reorder_and_upcast_attn", HF_OPTIONAL, "false"),
    MUST("add_cross_attention", HF_OPTIONAL, "false"),
    {.name = NULL},
};

static const char *const no_rotary[] = {"rotary_emb.inv_freq", NULL}; /* computed from rope_theta */
static const char *const no_masks[] = {".attn.bias", ".attn.masked_bias", NULL}; /* the causal mask */

/* clang-format off */
static const hf_family families[] = {
    {"llama", "LlamaForCausalLM", MST_FAMILY_LLAMA, true, true, llama, "model.", no_rotary},
    {"mistral", "MistralForCausalLM", MST_FAMILY_LLAMA, false, true, mistral, "model.", no_rotary},
    {"qwen2", "Qwen2ForCausalLM", MST_FAMILY_QWEN2, true, true, qwen2, "model.", no_rotary},
    {"qwen3", "Qwen3ForCausalLM", MST_FAMILY_QWEN3, true, true, qwen3, "model.", no_rotary},
    {"olmo2", "Olmo2ForCausalLM", MST_FAMILY_OLMO2, true, true, olmo2, "model.", no_rotary},
    {"gpt2", "GPT2LMHeadModel", MST_FAMILY_GPT2, true, false, gpt2, "transformer.", no_masks},
};
/* clang-format on */
enum { FAMILIES = sizeof families / sizeof *families };
const char hf_family_names[] = "gpt2, llama, mistral, olmo2, qwen2, qwen3";

const hf_family *hf_family_typed(const char *model_type) {
    for (int i = 0; i < FAMILIES; i++)
        if (strcmp(families[i].model_type, model_type) == 0) return &families[i];
    return NULL;
}

const hf_family *hf_family_written(mst_family_id family) {
    for (int i = 0; i < FAMILIES; i++)
        if (families[i].written && families[i].family == family) return &families[i];
    return NULL;
}

/* clang-format off */
const char *const hf_harmless[] = {
    "_attn_implementation", "_attn_implementation_autoset", "_name_or_path", "architectures", "attention_dropout",
    "attn_pdrop", "bos_token_id", "dtype", "embd_pdrop", "eos_token_id", "hidden_dropout", "model_type", "n_ctx", "pad_token_id", "pretraining_tp", "resid_pdrop", "summary_activation",
    "summary_first_dropout", "summary_proj_to_labels", "summary_type", "summary_use_proj", "task_specific_params", "torch_dtype",
    "transformers_version", "use_cache", NULL,
};

const char *const hf_suspicious[] = {
    "act", "alibi", "attention", "attn", "auto_map", "bias", "block", "cap", "clip", "dim", "embed", "expert", "factor", "head",
    "kv", "latent", "layer", "logit", "lora", "mask", "moe", "multiplier", "norm", "parallel", "position", "quant", "residual",
    "rope", "rotary", "router", "scal", "size", "theta", "topk", "window", NULL,
};
/* clang-format on */
