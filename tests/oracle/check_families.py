"""Every family against `transformers` itself: the names and shapes of its tensors, logits, loss and every gradient of small
models with random weights, and whether a family's norm rounds before it multiplies by its weight. Usage: check_families.py
MODEL_DUMP"""
import sys

import torch
import transformers
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.olmo2.modeling_olmo2 import Olmo2RMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

import compare
from check_model import BF16_LOSS_BOUND, COMMON, Run
from compare import F32_BOUND, check, key_bias, largest, relative
from decoder import sums

SCALED = dict(rope_factor=8, rope_low=1, rope_high=4, rope_original=64, theta=100)
D96 = dict(d=96, heads=6, kv=2, head_dim=16, ff=200)
MODELS = {  # the class of transformers, and the model
    "Llama 9/3 tied": ("Llama", dict(family="llama", tied=1, d=144, heads=9, kv=3, head_dim=16, ff=384, theta=100000)),
    "Llama untied": ("Llama", dict(D96, family="llama", tied=0)),
    "Llama, positions scaled": ("Llama", dict(D96, **SCALED, family="llama", tied=0)),
    "Mistral": ("Mistral", dict(D96, family="llama", tied=0, theta=1000000)),
    "GPT-2": ("GPT2", dict(family="gpt2", tied=1, d=96, heads=6, kv=6, head_dim=16, ff=384)),
    "OLMo 2": ("Olmo2", dict(D96, family="olmo2", tied=0, kv=6, theta=500000, eps=1e-6)),
    "OLMo 2, grouped heads": ("Olmo2", dict(D96, family="olmo2", tied=0, eps=1e-6)),
    "Qwen2 tied": ("Qwen2", dict(D96, family="qwen2", tied=1, theta=1000000, eps=1e-6)),
    "Qwen2 untied": ("Qwen2", dict(D96, family="qwen2", tied=0)),
    "Qwen3 tied": ("Qwen3", dict(D96, family="qwen3", tied=1, head_dim=32, theta=1000000, eps=1e-6)),
    "Qwen3 untied": ("Qwen3", dict(D96, family="qwen3", tied=0, kv=3)),
}
# The order of rounding in bf16, as worker/model/family.c has it and test_model checks it.
ROUNDS_FIRST = {LlamaRMSNorm: True, Qwen2RMSNorm: True, Qwen3RMSNorm: True, Olmo2RMSNorm: False}


def gpt2_config(c):
    return dict(
        n_embd=c["d"], n_layer=c["layers"], n_head=c["heads"], n_inner=c["ff"], n_positions=c["positions"],
        layer_norm_epsilon=c["eps"], activation_function="gelu_new", resid_pdrop=0, embd_pdrop=0, attn_pdrop=0,
    )


def rope(c):
    if "rope_factor" not in c:
        return dict(rope_type="default", rope_theta=c["theta"])
    return dict(
        rope_type="llama3", rope_theta=c["theta"], factor=c["rope_factor"], low_freq_factor=c["rope_low"],
        high_freq_factor=c["rope_high"], original_max_position_embeddings=c["rope_original"],
    )


def llama_config(c):
    return dict(
        hidden_size=c["d"], num_hidden_layers=c["layers"], num_attention_heads=c["heads"], num_key_value_heads=c["kv"],
        head_dim=c["head_dim"], intermediate_size=c["ff"], rms_norm_eps=c["eps"], rope_parameters=rope(c),
        max_position_embeddings=1024, hidden_act="silu", use_sliding_window=False, sliding_window=None,
    )


def hugging_face(name, run, dtype):
    """The model of transformers with the weights of a run; its parameters must have muster's names and shapes."""
    c = run.c
    numbers = gpt2_config(c) if name == "GPT2" else llama_config(c)
    # Some families name a pad token, whose row of the embedding would get no gradient.
    tokens = dict(pad_token_id=None, bos_token_id=None, eos_token_id=None)
    config = getattr(transformers, name + "Config")(
        vocab_size=c["vocab"], tie_word_embeddings=bool(c["tied"]), attn_implementation="eager", **tokens, **numbers
    )
    model = getattr(transformers, name + ("LMHeadModel" if name == "GPT2" else "ForCausalLM"))(config).to(dtype).eval()
    parameters = dict(model.named_parameters())
    shapes = {n: tuple(p.shape) for n, p in parameters.items()}
    check(shapes == run.shapes, f"{name}: names and shapes differ: {sorted(shapes.items() ^ run.shapes.items())[:6]}")
    with torch.no_grad():
        for n, p in parameters.items():
            p.copy_(run.weights[n])
    return model, parameters


def documents(run, dtype):
    """What transformers is told of packed documents: a mask of blocks, and positions that begin anew with each."""
    if run.starts is None:
        return {}
    t = torch.arange(run.c["seq"])
    seen = (t <= t[:, None]) & (run.starts[:, None, :] == run.starts[:, :, None])
    mask = torch.where(seen, 0.0, torch.finfo(dtype).min)[:, None].to(dtype)
    return dict(attention_mask=mask, position_ids=t - run.starts)


def backward(model, run):
    """Logits, loss and z-loss; the gradients stand in the parameters."""
    logits = model(input_ids=run.tokens[0], use_cache=False, **documents(run, model.dtype)).logits
    loss, zloss = sums(logits.float(), run.targets[0])
    (run.c["scale"] * (loss + run.c["z"] * zloss)).backward()
    return logits.detach(), loss.item(), zloss.item()


def check_model(tool, title, **settings):
    name, model_of = MODELS[title]
    run = Run(tool, model_of, dtype="f32", **settings)
    title += ", documents" if settings else ""
    model, parameters = hugging_face(name, run, torch.float32)
    logits, loss, zloss = backward(model, run)
    off = largest((abs(run.steps[0, 0] / loss - 1), abs(run.steps[0, 1] / zloss - 1)))
    check(off <= F32_BOUND, f"{title}: loss {run.steps[0, 0]} and {loss}, zloss {run.steps[0, 1]} and {zloss}")
    logits_off = relative(run.logits, logits[0]) if run.starts is None else 0
    check(logits_off <= F32_BOUND, f"{title}: logits: relative error {logits_off:.2e}")
    errors = compare.errors(run.gradients, {n: p.grad for n, p in parameters.items()})
    for n, error in errors.items():
        check(error <= F32_BOUND, f"{title}: gradient of {n}: relative error {error:.2e}")
        bias = key_bias(n, run.gradients[n])
        check(bias is None or bias.abs().max() <= F32_BOUND * run.gradients[n].abs().max(), f"{title}: {n}: key bias")
    worst = max(errors, key=errors.get)
    print(f"{title}: loss {off:.1e}, logits {logits_off:.1e}, worst of {len(errors)} gradients {errors[worst]:.1e} ({worst})")


def check_bf16(tool, title):
    """Both round differently, so only the loss is compared. Weights that stand in bf16 already are rounded by neither."""
    name, model_of = MODELS[title]
    run = Run(tool, model_of, dtype="bf16")
    model, _ = hugging_face(name, run, torch.bfloat16)
    _, loss, _ = backward(model, run)
    off = abs(run.steps[0, 0] / loss - 1)
    check(off <= BF16_LOSS_BOUND, f"{title}, bf16: loss {run.steps[0, 0]} and {loss}")
    print(f"{title}, bf16: loss {off:.1e}")


def check_rounding(norm_class, first):
    generator = torch.Generator().manual_seed(COMMON["seed"])
    x, weight = (torch.randn(n, generator=generator).to(torch.bfloat16) for n in (4096, 4096))
    norm = norm_class(4096, eps=1e-6)
    norm.weight.data = weight
    normal = x.float() * torch.rsqrt(x.float().pow(2).mean() + 1e-6)
    twice, once = normal.bfloat16() * weight, (normal * weight.float()).bfloat16()
    check(not torch.equal(twice, once), "the orders of rounding cannot be told apart")
    check(torch.equal(norm(x), twice if first else once), f"{norm_class.__name__} rounds {'once' if first else 'first'}")


def main(tool):
    torch.set_num_threads(1)  # tensors are small, and threads that wait for each other are slow on a busy machine
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, seed {COMMON['seed']}")
    for title in MODELS:
        check_model(tool, title)
        check_model(tool, title, documents=1)
        check_bf16(tool, title)
    for norm_class, first in ROUNDS_FIRST.items():
        check_rounding(norm_class, first)
    print(f"{compare.failures} failed")
    return compare.failures > 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
