"""The families written once more, plainly, for PyTorch autograd. Nothing here is shared with muster."""
import math

import torch


def frequencies(half, c):
    """Of each pair; slow ones divided by a factor as Llama 3 does it: by wavelength, in positions."""
    frequency = c["theta"] ** (-torch.arange(half, dtype=torch.float64) / half)
    if c.get("rope_factor", 1) == 1:
        return frequency
    low, high, length = c["rope_low"], c["rope_high"], c["rope_original"]
    wavelength = 2 * math.pi / frequency
    smooth = ((length / wavelength - low) / (high - low)).clamp(0, 1)
    return frequency * (smooth + (1 - smooth) / c["rope_factor"])


def rotate(x, c):
    """Rotary positions of [batch, seq, heads, dim]: pair (i, i + dim / 2) is a complex number that is turned."""
    seq, half = x.shape[1], x.shape[-1] // 2
    angle = torch.arange(seq, dtype=torch.float64)[:, None] * frequencies(half, c)
    turn = torch.polar(torch.ones_like(angle), angle)[None, :, None, :]
    real, imaginary = x[..., :half], x[..., half:]
    cosine, sine = turn.real.to(x.dtype), turn.imag.to(x.dtype)
    return torch.cat((real * cosine - imaginary * sine, imaginary * cosine + real * sine), dim=-1)


def attend(q, k, v):
    """Causal attention of [batch, seq, heads, dim]; each key/value head serves a run of query heads."""
    group = q.shape[2] // k.shape[2]
    k, v = k.repeat_interleave(group, dim=2), v.repeat_interleave(group, dim=2)
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(q.shape[-1])
    hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    weights = torch.softmax(scores.masked_fill(hidden, -math.inf), dim=-1)
    return torch.einsum("bhqk,bkhd->bqhd", weights, v).flatten(2)


def rms_norm(x, weight, c):
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + c["eps"]) * weight


def same(x, *_):
    return x


def project(w, x, name, bias):
    y = x @ w[name + ".weight"].T
    return y + w[name + ".bias"] if bias else y


def llama(w, c, tokens, before=rms_norm, after=same, whole=same, each=same, biases=""):
    """Llama, and its relatives by what they change: the norm of a half's input and of its output, the norm of q and k as a
    whole and of each head, and which projections have biases."""
    x = w["model.embed_tokens.weight"][tokens]
    for i in range(c["layers"]):
        p = f"model.layers.{i}."
        h = before(x, w.get(p + "input_layernorm.weight"), c)
        q, k, v = (project(w, h, p + f"self_attn.{s}_proj", s in biases) for s in "qkv")
        q, k = (whole(s, w.get(p + f"self_attn.{n}_norm.weight"), c) for s, n in ((q, "q"), (k, "k")))
        q, k, v = (s.unflatten(-1, (n, c["head_dim"])) for s, n in ((q, c["heads"]), (k, c["kv"]), (v, c["kv"])))
        q, k = (each(s, w.get(p + f"self_attn.{n}_norm.weight"), c) for s, n in ((q, "q"), (k, "k")))
        a = project(w, attend(rotate(q, c), rotate(k, c), v), p + "self_attn.o_proj", "o" in biases)
        x = x + after(a, w[p + "post_attention_layernorm.weight"], c)
        h = before(x, w[p + "post_attention_layernorm.weight"], c)
        gate, up = (h @ w[p + f"mlp.{s}_proj.weight"].T for s in ("gate", "up"))
        m = (torch.nn.functional.silu(gate) * up) @ w[p + "mlp.down_proj.weight"].T
        x = x + after(m, w.get(p + "post_feedforward_layernorm.weight"), c)
    x = rms_norm(x, w["model.norm.weight"], c)
    return x @ w.get("lm_head.weight", w["model.embed_tokens.weight"]).T


def olmo2(w, c, tokens):
    return llama(w, c, tokens, before=same, after=rms_norm, whole=rms_norm)


def qwen2(w, c, tokens):
    return llama(w, c, tokens, biases="qkv")


def qwen3(w, c, tokens):
    return llama(w, c, tokens, each=rms_norm)


def gpt2(w, c, tokens):
    def norm(x, name):
        return torch.nn.functional.layer_norm(x, x.shape[-1:], w[name + ".weight"], w[name + ".bias"], c["eps"])

    def conv1d(x, name):
        return x @ w[name + ".weight"] + w[name + ".bias"]

    x = w["transformer.wte.weight"][tokens] + w["transformer.wpe.weight"][: tokens.shape[1]]
    for i in range(c["layers"]):
        p = f"transformer.h.{i}."
        q, k, v = conv1d(norm(x, p + "ln_1"), p + "attn.c_attn").chunk(3, dim=-1)
        q, k, v = (s.unflatten(-1, (c["heads"], c["head_dim"])) for s in (q, k, v))
        x = x + conv1d(attend(q, k, v), p + "attn.c_proj")
        h = conv1d(norm(x, p + "ln_2"), p + "mlp.c_fc")
        h = 0.5 * h * (1 + torch.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))
        x = x + conv1d(h, p + "mlp.c_proj")
    x = norm(x, "transformer.ln_f")
    return x @ w.get("lm_head.weight", w["transformer.wte.weight"]).T


def losses(family, w, c, tokens, targets):
    """Sums over valid tokens of cross-entropy and of the squared log-sum-exp."""
    decoders = {"llama": llama, "gpt2": gpt2, "olmo2": olmo2, "qwen2": qwen2, "qwen3": qwen3}
    return sums(decoders[family](w, c, tokens), targets)


def sums(logits, targets):
    """The losses of logits [batch, seq, vocab]."""
    logits = logits.flatten(0, 1)
    valid = targets.flatten() >= 0
    logits, targets = logits[valid], targets.flatten()[valid]
    lse = torch.logsumexp(logits, dim=-1)
    return (lse - logits.gather(1, targets[:, None])[:, 0]).sum(), (lse * lse).sum()
