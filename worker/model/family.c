/* The families. Names and orientation are those of Hugging Face's modeling_llama.py, modeling_gpt2.py,
 * modeling_olmo2.py, modeling_qwen2.py and modeling_qwen3.py. Mistral without a sliding window is llama. */
#include "family.h"

/* Many families have Llama's projections, embedding and head. */
static const mst_tensor_spec llama_embedding[] = {
    {MST_ROLE_TOKENS, "model.embed_tokens.weight", MST_EXTENT_VOCAB, MST_EXTENT_MODEL, MST_INIT_NORMAL},
    {.name = NULL},
};
static const mst_tensor_spec llama_layer[] = {
    {MST_ROLE_NORM1, "input_layernorm.weight", MST_EXTENT_MODEL, MST_EXTENT_NONE, MST_INIT_ONE},
    {MST_ROLE_Q, "self_attn.q_proj.weight", MST_EXTENT_QUERY, MST_EXTENT_MODEL, MST_INIT_NORMAL},
    {MST_ROLE_K, "self_attn.k_proj.weight", MST_EXTENT_KEY, MST_EXTENT_MODEL, MST_INIT_NORMAL},
    {MST_ROLE_V, "self_attn.v_proj.weight", MST_EXTENT_KEY, MST_EXTENT_MODEL, MST_INIT_NORMAL},
    {MST_ROLE_O, "self_attn.o_proj.weight", MST_EXTENT_MODEL, MST_EXTENT_QUERY, MST_INIT_NORMAL},
    {MST_ROLE_NORM2, "post_attention_layernorm.weight", MST_EXTENT_MODEL, MST_EXTENT_NONE, MST_INIT_ONE},
    {MST_ROLE_GATE, "mlp.gate_proj.weight", MST_EXTENT_FF, MST_EXTENT_MODEL, MST_INIT_NORMAL},
    {MST_ROLE_UP, "mlp.up_proj.weight", MST_EXTENT_FF, MST_EXTENT_MODEL, MST_INIT_NORMAL},
    {MST_ROLE_DOWN, "mlp.down_proj.weight", MST_EXTENT_MODEL, MST_EXTENT_FF, MST_INIT_NORMAL},
    {.name = NULL},
};
static const mst_tensor_spec llama_head[] = {
    {MST_ROLE_FINAL_NORM, "model.norm.weight", MST_EXTENT_MODEL, MST_EXTENT_NONE, MST_INIT_ONE},
    {MST_ROLE_LM_HEAD, "lm_head.weight", MST_EXTENT_VOCAB, MST_EXTENT_MODEL, MST_INIT_NORMAL},
    {.name = NULL},
};

static const mst_tensor_spec olmo2_layer[] = {
    {MST_ROLE_Q, "self_attn.q_proj.weight", MST_EXTENT_QUERY, MST_EXTENT_MODEL, MST_INIT_NORMAL},
    {MST_ROLE_K, "self_attn.k_proj.weight", MST_EXTENT_KEY, MST_EXTENT_MODEL, MST_INIT_NORMAL},
    {MST_ROLE_V, "self_attn.v_proj.weight", MST_EXTENT_KEY, MST_EXTENT_MODEL, MST_INIT_NORMAL},
    {MST_ROLE_O, "self_attn.o_proj.weight", MST_EXTENT_MODEL, MST_EXTENT_QUERY, MST_INIT_NORMAL},
    {MST_ROLE_Q_NORM, "self_attn.q_norm.weight", MST_EXTENT_QUERY, MST_EXTENT_NONE, MST_INIT_ONE},
    {MST_ROLE_K_NORM, "self_attn.k_norm.weight", MST_EXTENT_KEY, MST_EXTENT_NONE, MST_INIT_ONE},
    {MST_ROLE_ATTENTION_NORM, "post_attention_layernorm.weight", MST_EXTENT_MODEL, MST_EXTENT_NONE,
     MST_INIT_ONE},
    {MST_ROLE_GATE, "mlp.gate_proj.weight", MST_EXTENT_FF, MST_EXTENT_MODEL, MST_INIT_NORMAL},
    {MST_ROLE_UP, "mlp.up_proj.weight", MST_EXTENT_FF, MST_EXTENT_MODEL, MST_INIT_NORMAL},
    {MST_ROLE_DOWN, "mlp.down_proj.weight", MST_EXTENT_MODEL, MST_EXTENT_FF, MST_INIT_NORMAL},
    {MST_ROLE_MLP_NORM, "post_feedforward_layernorm.weight", MST_EXTENT_MODEL, MST_EXTENT_NONE, MST_INIT_ONE},
    {.name = NULL},
};

static const mst_tensor_spec qwen2_layer[] = {
    {MST_ROLE_NORM1, "input_layernorm.weight", MST_EXTENT_MODEL, MST_EXTENT_NONE, MST_INIT_ONE},
    {MST_ROLE_Q, "self_attn.q_proj.weight", MST_EXTENT_QUERY, MST_EXTENT_MODEL, MST_INIT_NORMAL},
    {MST_ROLE_Q_BIAS, "self_attn.q_proj.bias", MST_EXTENT_QUERY, MST_EXTENT_NONE, MST_INIT_ZERO},
    {MST_ROLE_K, "self_attn.k_proj.weight", MST_EXTENT_KEY, MST_EXTENT_MODEL, MST_INIT_NORMAL},
    {MST_ROLE_K_BIAS, "self_attn.k_proj.bias", MST_EXTENT_KEY, MST_EXTENT_NONE, MST_INIT_ZERO},
    {MST_ROLE_V, "self_attn.v_proj.weight", MST_EXTENT_KEY, MST_EXTENT_MODEL, MST_INIT_NORMAL},
    {MST_ROLE_V_BIAS, "self_attn.v_proj.bias", MST_EXTENT_KEY, MST_EXTENT_NONE, MST_INIT_ZERO},
    {MST_ROLE_O, "self_attn.o_proj.weight", MST_EXTENT_MODEL, MST_EXTENT_QUERY, MST_INIT_NORMAL},
    {MST_ROLE_NORM2, "post_attention_layernorm.weight", MST_EXTENT_MODEL, MST_EXTENT_NONE, MST_INIT_ONE},
    {MST_ROLE_GATE, "mlp.gate_proj.weight", MST_EXTENT_FF, MST_EXTENT_MODEL, MST_INIT_NORMAL},
    {MST_ROLE_UP, "mlp.up_proj.weight", MST_EXTENT_FF, MST_EXTENT_MODEL, MST_INIT_NORMAL},
    {MST_ROLE_DOWN, "mlp.down_proj.weight", MST_EXTENT_MODEL, MST_EXTENT_FF, MST_INIT_NORMAL},
    {.name = NULL},
};

static const mst_tensor_spec qwen3_layer[] = {
    {MST_ROLE_NORM1, "input_layernorm.weight", MST_EXTENT_MODEL, MST_EXTENT_NONE, MST_INIT_ONE},
    {MST_ROLE_Q, "self_attn.q_proj.weight", MST_EXTENT_QUERY, MST_EXTENT_MODEL, MST_INIT_NORMAL},
    {MST_ROLE_K, "self_attn.k_proj.weight", MST_EXTENT_KEY, MST_EXTENT_MODEL, MST_INIT_NORMAL},
    {MST_ROLE_V, "self_attn.v_proj.weight", MST_EXTENT_KEY, MST_EXTENT_MODEL, MST_INIT_NORMAL},
    {MST_ROLE_O, "self_attn.o_proj.weight", MST_EXTENT_MODEL, MST_EXTENT_QUERY, MST_INIT_NORMAL},
    {MST_ROLE_Q_NORM, "self_attn.q_norm.weight", MST_EXTENT_HEAD, MST_EXTENT_NONE, MST_INIT_ONE},
    {MST_ROLE_K_NORM, "self_attn.k_norm.weight", MST_EXTENT_HEAD, MST_EXTENT_NONE, MST_INIT_ONE},
    {MST_ROLE_NORM2, "post_attention_layernorm.weight", MST_EXTENT_MODEL, MST_EXTENT_NONE, MST_INIT_ONE},
    {MST_ROLE_GATE, "mlp.gate_proj.weight", MST_EXTENT_FF, MST_EXTENT_MODEL, MST_INIT_NORMAL},
    {MST_ROLE_UP, "mlp.up_proj.weight", MST_EXTENT_FF, MST_EXTENT_MODEL, MST_INIT_NORMAL},
    {MST_ROLE_DOWN, "mlp.down_proj.weight", MST_EXTENT_MODEL, MST_EXTENT_FF, MST_INIT_NORMAL},
    {.name = NULL},
};

static const mst_tensor_spec gpt2_embedding[] = {
    {MST_ROLE_TOKENS, "transformer.wte.weight", MST_EXTENT_VOCAB, MST_EXTENT_MODEL, MST_INIT_NORMAL},
    {MST_ROLE_POSITIONS, "transformer.wpe.weight", MST_EXTENT_POSITIONS, MST_EXTENT_MODEL, MST_INIT_NORMAL},
    {.name = NULL},
};
static const mst_tensor_spec gpt2_layer[] = {
    {MST_ROLE_NORM1, "ln_1.weight", MST_EXTENT_MODEL, MST_EXTENT_NONE, MST_INIT_ONE},
    {MST_ROLE_NORM1_BIAS, "ln_1.bias", MST_EXTENT_MODEL, MST_EXTENT_NONE, MST_INIT_ZERO},
    {MST_ROLE_QKV, "attn.c_attn.weight", MST_EXTENT_MODEL, MST_EXTENT_QKV, MST_INIT_NORMAL},
    {MST_ROLE_QKV_BIAS, "attn.c_attn.bias", MST_EXTENT_QKV, MST_EXTENT_NONE, MST_INIT_ZERO},
    {MST_ROLE_O, "attn.c_proj.weight", MST_EXTENT_QUERY, MST_EXTENT_MODEL, MST_INIT_RESIDUAL},
    {MST_ROLE_O_BIAS, "attn.c_proj.bias", MST_EXTENT_MODEL, MST_EXTENT_NONE, MST_INIT_ZERO},
    {MST_ROLE_NORM2, "ln_2.weight", MST_EXTENT_MODEL, MST_EXTENT_NONE, MST_INIT_ONE},
    {MST_ROLE_NORM2_BIAS, "ln_2.bias", MST_EXTENT_MODEL, MST_EXTENT_NONE, MST_INIT_ZERO},
    {MST_ROLE_UP, "mlp.c_fc.weight", MST_EXTENT_MODEL, MST_EXTENT_FF, MST_INIT_NORMAL},
    {MST_ROLE_UP_BIAS, "mlp.c_fc.bias", MST_EXTENT_FF, MST_EXTENT_NONE, MST_INIT_ZERO},
    {MST_ROLE_DOWN, "mlp.c_proj.weight", MST_EXTENT_FF, MST_EXTENT_MODEL, MST_INIT_RESIDUAL},
    {MST_ROLE_DOWN_BIAS, "mlp.c_proj.bias", MST_EXTENT_MODEL, MST_EXTENT_NONE, MST_INIT_ZERO},
    {.name = NULL},
};
static const mst_tensor_spec gpt2_head[] = {
    {MST_ROLE_FINAL_NORM, "transformer.ln_f.weight", MST_EXTENT_MODEL, MST_EXTENT_NONE, MST_INIT_ONE},
    {MST_ROLE_FINAL_NORM_BIAS, "transformer.ln_f.bias", MST_EXTENT_MODEL, MST_EXTENT_NONE, MST_INIT_ZERO},
    {MST_ROLE_LM_HEAD, "lm_head.weight", MST_EXTENT_VOCAB, MST_EXTENT_MODEL, MST_INIT_NORMAL},
    {.name = NULL},
};

static const mst_family families[MST_FAMILY_COUNT] = {
    [MST_FAMILY_LLAMA] =
        {
            .name = "llama",
            .norm = MST_NORM_RMS,
            .positions = MST_POSITIONS_ROPE,
            .mlp = MST_MLP_SWIGLU,
            .norm_rounds_first = true,
            .grouped_heads = true,
            .free_head_dim = true,
            .layer_prefix = "model.layers.",
            .embedding = llama_embedding,
            .layer = llama_layer,
            .head = llama_head,
        },
    [MST_FAMILY_OLMO2] =
        {
            .name = "olmo2",
            .norm = MST_NORM_RMS,
            .positions = MST_POSITIONS_ROPE,
            .mlp = MST_MLP_SWIGLU,
            .grouped_heads = true,
            .free_head_dim = true,
            .layer_prefix = "model.layers.",
            .embedding = llama_embedding,
            .layer = olmo2_layer,
            .head = llama_head,
        },
    [MST_FAMILY_QWEN2] =
        {
            .name = "qwen2",
            .norm = MST_NORM_RMS,
            .positions = MST_POSITIONS_ROPE,
            .mlp = MST_MLP_SWIGLU,
            .norm_rounds_first = true,
            .grouped_heads = true,
            .free_head_dim = true,
            .layer_prefix = "model.layers.",
            .embedding = llama_embedding,
            .layer = qwen2_layer,
            .head = llama_head,
        },
    [MST_FAMILY_QWEN3] =
        {
            .name = "qwen3",
            .norm = MST_NORM_RMS,
            .positions = MST_POSITIONS_ROPE,
            .mlp = MST_MLP_SWIGLU,
            .norm_rounds_first = true,
            .grouped_heads = true,
            .free_head_dim = true,
            .layer_prefix = "model.layers.",
            .embedding = llama_embedding,
            .layer = qwen3_layer,
            .head = llama_head,
        },
    [MST_FAMILY_GPT2] =
        {
            .name = "gpt2",
            .norm = MST_NORM_LAYER,
            .positions = MST_POSITIONS_LEARNED,
            .mlp = MST_MLP_GELU,
            .in_out = true,
            .layer_prefix = "transformer.h.",
            .embedding = gpt2_embedding,
            .layer = gpt2_layer,
            .head = gpt2_head,
        },
};

bool mst_role_is_projection(mst_role role) {
    switch (role) {
    case MST_ROLE_QKV:
    case MST_ROLE_Q:
    case MST_ROLE_K:
    case MST_ROLE_V:
    case MST_ROLE_O:
    case MST_ROLE_GATE:
    case MST_ROLE_UP:
    case MST_ROLE_DOWN:
        return true;
    default:
        return false;
    }
}

const mst_family *mst_family_get(mst_family_id id) {
    return (unsigned)id < MST_FAMILY_COUNT ? &families[id] : NULL;
}

const char *mst_family_name(mst_family_id family) {
    const mst_family *table = mst_family_get(family);
    return table ? table->name : NULL;
}

size_t mst_model_default_d_ff(mst_family_id family, size_t d_model) {
    const mst_family *table = mst_family_get(family);
    bool gated = table && table->mlp == MST_MLP_SWIGLU;
    return gated ? (d_model * 8 / 3 + 63) / 64 * 64 : d_model * 4;
}

size_t mst_extent_of(const mst_model_config *config, mst_extent extent) {
    const size_t length[MST_EXTENT_COUNT] = {
        [MST_EXTENT_NONE] = 1,
        [MST_EXTENT_VOCAB] = config->vocab_size,
        [MST_EXTENT_POSITIONS] = config->max_seq_len,
        [MST_EXTENT_MODEL] = config->d_model,
        [MST_EXTENT_QUERY] = config->n_heads * config->head_dim,
        [MST_EXTENT_KEY] = config->n_kv_heads * config->head_dim,
        [MST_EXTENT_QKV] = (config->n_heads + 2 * config->n_kv_heads) * config->head_dim,
        [MST_EXTENT_HEAD] = config->head_dim,
        [MST_EXTENT_FF] = config->d_ff,
    };
    return length[extent];
}
