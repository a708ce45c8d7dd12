"""Small models of transformers with random weights, of shapes that show mistakes."""
import torch
import transformers

NO_TOKENS = dict(pad_token_id=None, bos_token_id=None, eos_token_id=None)
LLAMA3 = dict(
    rope_type="llama3", rope_theta=100.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
    original_max_position_embeddings=64,
)


def plain(theta):
    return dict(rope_type="default", rope_theta=theta)


# Class of transformers, fields of its config. `d` is the width of a head where it is not given apart.
MODELS = {
    "llama_9_3_tied": ("Llama", 9, 3, 4, dict(tie_word_embeddings=True, rope_parameters=plain(1e5), rms_norm_eps=1e-5)),
    "llama_15_5_scaled": ("Llama", 15, 5, 6, dict(tie_word_embeddings=False, rope_parameters=LLAMA3, rms_norm_eps=1e-5)),
    "llama_head_dim": ("Llama", 9, 3, 4, dict(tie_word_embeddings=False, head_dim=10, rope_parameters=plain(1e4))),
    "mistral_6_2": ("Mistral", 6, 2, 6, dict(sliding_window=None, rope_parameters=plain(1e6), rms_norm_eps=1e-5)),
    "qwen2_15_5_tied": ("Qwen2", 15, 5, 4, dict(tie_word_embeddings=True, rope_parameters=plain(1e6), rms_norm_eps=1e-6)),
    "qwen2_9_3": ("Qwen2", 9, 3, 4, dict(tie_word_embeddings=False, rope_parameters=plain(1e6), use_sliding_window=False)),
    "qwen3_9_3": ("Qwen3", 9, 3, 4, dict(tie_word_embeddings=True, head_dim=12, rope_parameters=plain(1e6))),
    "olmo2_9_3": ("Olmo2", 9, 3, 4, dict(tie_word_embeddings=False, rope_parameters=plain(5e5), rms_norm_eps=1e-6)),
    "gpt2_9": ("GPT2", 9, 9, 4, dict(tie_word_embeddings=True)),
    "gpt2_5_untied": ("GPT2", 5, 5, 8, dict(tie_word_embeddings=False)),
}


def make(name, vocab=61, ff=50, positions=80, layers=2):
    """The model, in fp32, with weights of a size that makes every part matter: norms around 1, biases not 0."""
    cls, heads, kv, d, fields = MODELS[name]
    if cls == "GPT2":
        numbers = dict(n_embd=heads * d, n_layer=layers, n_head=heads, n_inner=ff, n_positions=positions)
        numbers.update(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    else:
        numbers = dict(
            hidden_size=heads * d, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=kv,
            intermediate_size=ff, max_position_embeddings=positions,
        )
    config = getattr(transformers, cls + "Config")(
        vocab_size=vocab, attn_implementation="eager", **NO_TOKENS, **numbers, **fields
    )
    model = getattr(transformers, cls + ("LMHeadModel" if cls == "GPT2" else "ForCausalLM"))(config).eval()
    generator = torch.Generator().manual_seed(sum(name.encode()))
    with torch.no_grad():
        for n, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            mean = 1.0 if p.dim() == 1 and n.endswith("weight") else 0.0
            p.copy_(mean + noise * (0.7 / (heads * d) ** 0.5 if p.dim() == 2 else 0.2))
    return model


def logits_of(model, tokens):
    """[seq, vocab] of one sequence, in fp32."""
    with torch.no_grad():
        return model(input_ids=torch.as_tensor(tokens, dtype=torch.long)[None], use_cache=False).logits[0].float()
