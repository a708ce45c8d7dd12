"""GPT-2 and Llama in PyTorch as one would write them for speed: attention by scaled_dot_product_attention, one projection for q,
k and v, and one for a gate and what it gates.

A model is a body (`body(tokens)`: from tokens to the last layer's output, through the layers `h`) and a `head` (from there to
logits). With `recompute` set each layer keeps its input alone, and is computed again on the way back.
"""
import math

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


def attend(q, k, v):
    """Causal attention of [batch, heads, length, head_dim]; fewer heads of k and v serve several of q each."""
    if not hasattr(F, "scaled_dot_product_attention"):  # before PyTorch 2.0
        length = q.shape[2]
        mask = torch.full((length, length), -math.inf).triu(1)
        return torch.softmax(q @ k.transpose(2, 3) / math.sqrt(q.shape[-1]) + mask.to(q.dtype), 3) @ v
    grouped = {"enable_gqa": True} if q.shape[1] != k.shape[1] else {}
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, **grouped)


class Decoder(nn.Module):
    recompute = False

    def through_layers(self, x, *given):
        for layer in self.h:
            x = checkpoint(layer, x, *given, use_reentrant=False) if self.recompute else layer(x, *given)
        return x

    def forward(self, tokens):
        return self.head(self.body(tokens))


class Gpt2Layer(nn.Module):
    def __init__(self, width, inner, heads):
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.c_attn, self.attn_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.c_fc, self.mlp_proj = nn.Linear(width, inner), nn.Linear(inner, width)

    def attention(self, x):
        batch, length, width = x.shape
        q, k, v = (part.view(batch, length, self.heads, -1).transpose(1, 2) for part in self.c_attn(x).split(width, 2))
        return self.attn_proj(attend(q, k, v).transpose(1, 2).reshape(batch, length, width))

    def forward(self, x):
        x = x + self.attention(self.ln_1(x))
        return x + self.mlp_proj(F.gelu(self.c_fc(self.ln_2(x)), approximate="tanh"))


class Gpt2(Decoder):
    def __init__(self, c):
        super().__init__()
        width = c["d_model"]
        self.wte, self.wpe = nn.Embedding(c["vocab_size"], width), nn.Embedding(c["max_seq_len"], width)
        self.h = nn.ModuleList(Gpt2Layer(width, c["d_ff"], c["n_heads"]) for _ in range(c["n_layers"]))
        self.ln_f = nn.LayerNorm(width)

    def load(self, tensors):
        own = {}
        for name, x in tensors.items():
            name = name.replace("transformer.", "").replace("attn.c_attn", "c_attn")
            name = name.replace("attn.c_proj", "attn_proj").replace("mlp.c_fc", "c_fc").replace("mlp.c_proj", "mlp_proj")
            projection = any(part in name for part in ("c_attn.w", "_proj.w", "c_fc.w"))
            own[name] = x.T.contiguous() if projection else x  # Conv1D stores [in, out]
        self.load_state_dict(own)

    def body(self, tokens):
        return self.through_layers(self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1], device=tokens.device)))

    def head(self, x):
        return F.linear(self.ln_f(x), self.wte.weight)


def rotate(x, cosine, sine):
    """Rotary positions of [batch, heads, length, head_dim]: pair (i, i + head_dim / 2) is turned."""
    first, second = x.chunk(2, -1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), -1)


class LlamaLayer(nn.Module):
    def __init__(self, c):
        super().__init__()
        width, inner, eps = c["d_model"], c["d_ff"], c.get("norm_eps", 1e-5)
        self.heads, self.kv_heads = c["n_heads"], c.get("n_kv_heads", c["n_heads"])
        self.head_dim = width // self.heads
        self.norm_1, self.norm_2 = nn.RMSNorm(width, eps), nn.RMSNorm(width, eps)
        self.qkv = nn.Linear(width, (self.heads + 2 * self.kv_heads) * self.head_dim, bias=False)
        self.out = nn.Linear(self.heads * self.head_dim, width, bias=False)
        self.gate_up, self.down = nn.Linear(width, 2 * inner, bias=False), nn.Linear(inner, width, bias=False)

    def attention(self, x, cosine, sine):
        batch, length, _ = x.shape
        parts = self.qkv(x).view(batch, length, -1, self.head_dim).transpose(1, 2)
        q, k, v = parts.split((self.heads, self.kv_heads, self.kv_heads), 1)
        y = attend(rotate(q, cosine, sine), rotate(k, cosine, sine), v)
        return self.out(y.transpose(1, 2).reshape(batch, length, -1))

    def forward(self, x, cosine, sine):
        x = x + self.attention(self.norm_1(x), cosine, sine)
        gate, up = self.gate_up(self.norm_2(x)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


class Llama(Decoder):
    """With an embedding and a head of their own."""

    def __init__(self, c):
        super().__init__()
        width = c["d_model"]
        self.embedding, self.lm_head = nn.Embedding(c["vocab_size"], width), nn.Linear(width, c["vocab_size"], bias=False)
        self.h = nn.ModuleList(LlamaLayer(c) for _ in range(c["n_layers"]))
        self.norm = nn.RMSNorm(width, c.get("norm_eps", 1e-5))
        half = width // c["n_heads"] // 2
        frequency = c.get("rope_theta", 1e4) ** (-torch.arange(half, dtype=torch.float32) / half)
        angle = torch.arange(c["max_seq_len"], dtype=torch.float32)[:, None] * frequency
        self.register_buffer("cosine", angle.cos(), persistent=False)
        self.register_buffer("sine", angle.sin(), persistent=False)

    def body(self, tokens):
        x, length = self.embedding(tokens), tokens.shape[1]
        return self.through_layers(x, self.cosine[:length].to(x.dtype), self.sine[:length].to(x.dtype))

    def head(self, x):
        return self.lm_head(self.norm(x))


OWN = {"gpt2": Gpt2, "llama": Llama}


def hugging_face_llama(config, tensors):
    """transformers' own, with scaled_dot_product_attention."""
    from transformers import LlamaConfig, LlamaForCausalLM

    class Logits(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, tokens):
            return self.inner(input_ids=tokens, use_cache=False).logits

    inner = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=config["vocab_size"],
            hidden_size=config["d_model"],
            intermediate_size=config["d_ff"],
            num_hidden_layers=config["n_layers"],
            num_attention_heads=config["n_heads"],
            num_key_value_heads=config["n_kv_heads"],
            head_dim=config["head_dim"],
            max_position_embeddings=config["max_seq_len"],
            rms_norm_eps=config["norm_eps"],
            rope_parameters={"rope_type": "default", "rope_theta": config["rope_theta"]},
            tie_word_embeddings=True,
            attn_implementation="sdpa",
        )
    )
    absent = inner.load_state_dict(tensors, strict=False)
    assert absent.missing_keys == ["lm_head.weight"] and not absent.unexpected_keys, absent
    inner.tie_weights()
    return Logits(inner)
