"""PyTorch's training steps of the same model, as a worker that tests/bench/bench.py or tests/gpu/bench_gpu.py tells when to go.

usage: bench_torch.py WORK.json fp32|bf16 eager|compiled

WORK.json: a checkpoint of muster, its token file, and what defines a step. The worker begins with the weights of the one and
the samples of the other in their order, takes the steps of "losses" and prints one line of JSON: its version and their
losses. Then, for each line N on standard input, it takes N steps and prints their seconds, those of clip and update in them,
and the most memory that it has had since the first steps.

With "device": "cuda" in it all that is on a GPU. With "shape" (of a GPT-2) in the place of a checkpoint, weights and tokens are
random. "leaf": so many backward passes a step, over "sequences" / "leaf" samples each.
"""
import contextlib
import json
import math
import sys
import time
from pathlib import Path

try:
    import numpy
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError as missing:
    print(json.dumps({"missing": str(missing)}))
    sys.exit(0)

from tokens import Reader, Source


def read_weights(folder):
    """{name: float32 tensor} of a checkpoint that one rank wrote, as docs/checkpoint-format.md describes it."""
    manifest, tensors = json.loads((folder / "manifest.json").read_text()), {}
    (shard,) = manifest["shards"]
    shapes = {x["name"]: x["shape"] for x in manifest["tensors"]}
    for piece in manifest["pieces"]:
        if piece["kind"] == "master":
            array = numpy.fromfile(folder / shard["name"], "<f4", piece["count"], offset=piece["offset"])
            tensors[piece["tensor"]] = torch.from_numpy(array.reshape(shapes[piece["tensor"]]))
    return manifest["model"], tensors


# ---- GPT-2 as one would write it for speed; sharing one projection for q, k and v ----


class Layer(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.c_attn, self.attn_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.c_fc, self.mlp_proj = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def attention(self, x):
        batch, length, width = x.shape
        q, k, v = (part.view(batch, length, self.heads, -1).transpose(1, 2) for part in self.c_attn(x).split(width, 2))
        if hasattr(F, "scaled_dot_product_attention"):
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:  # before PyTorch 2.0
            mask = torch.full((length, length), -math.inf).triu(1)
            y = torch.softmax(q @ k.transpose(2, 3) / math.sqrt(q.shape[-1]) + mask.to(q.dtype), 3) @ v
        return self.attn_proj(y.transpose(1, 2).reshape(batch, length, width))

    def forward(self, x):
        x = x + self.attention(self.ln_1(x))
        return x + self.mlp_proj(F.gelu(self.c_fc(self.ln_2(x)), approximate="tanh"))


class Gpt2(nn.Module):
    def __init__(self, c):
        super().__init__()
        width = c["d_model"]
        self.wte, self.wpe = nn.Embedding(c["vocab_size"], width), nn.Embedding(c["max_seq_len"], width)
        self.h = nn.ModuleList(Layer(width, c["n_heads"]) for _ in range(c["n_layers"]))
        self.ln_f = nn.LayerNorm(width)

    def load(self, tensors):
        own = {}
        for name, x in tensors.items():
            name = name.replace("transformer.", "").replace("attn.c_attn", "c_attn")
            name = name.replace("attn.c_proj", "attn_proj").replace("mlp.c_fc", "c_fc").replace("mlp.c_proj", "mlp_proj")
            projection = any(part in name for part in ("c_attn.w", "_proj.w", "c_fc.w"))
            own[name] = x.T.contiguous() if projection else x  # Conv1D stores [in, out]
        self.load_state_dict(own)

    def forward(self, tokens):
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1], device=tokens.device))
        for layer in self.h:
            x = layer(x)
        return F.linear(self.ln_f(x), self.wte.weight)


def llama(config, tensors):
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


def load_model(work):
    if "shape" in work:
        with torch.device(work["device"]):
            model = Gpt2(work["shape"])
        for weight in model.parameters():
            if weight.dim() > 1:
                nn.init.normal_(weight, std=0.02)
        return model
    config, tensors = read_weights(Path(work["model"]))
    if config["family"] == "llama":
        return llama(config, tensors)
    model = Gpt2(config)
    model.load(tensors)
    return model


# ---- the steps ----


def make_optimizer(model, work):
    """AdamW, fused where this PyTorch has it for the CPU; norms and biases do not decay, as in muster."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": work["weight_decay"]},
        {"params": [p for p in parameters if p.dim() == 1], "weight_decay": 0.0},
    ]
    options = {"lr": work["rate"], "betas": (work["beta1"], work["beta2"]), "eps": work["eps"]}
    try:
        return torch.optim.AdamW(groups, fused=True, **options), True
    except (RuntimeError, TypeError):
        return torch.optim.AdamW(groups, **options), False


def load_batches(work):
    """[(tokens, targets)] of the steps of "losses"."""
    samples, length = work["sequences"], work["seq_len"]
    if "shape" in work:
        drawn = torch.randint(0, work["shape"]["vocab_size"], (work["losses"], samples, length + 1))
        return [(x[:, :-1], x[:, 1:]) for x in drawn]
    reader = Reader([Source(Path(work["tokens"]))], work["seed"], length)
    return [[torch.from_numpy(x) for x in reader.read("train", i * samples, samples)] for i in range(work["losses"])]


class Trainer:
    def __init__(self, work, precision, compiled):
        self.work, self.bf16 = work, precision == "bf16"
        self.device, self.leaf = work.get("device", "cpu"), work.get("leaf", 1)
        self.model = load_model(work).to(self.device)
        self.model.train()
        self.forward = torch.compile(self.loss) if compiled else self.loss
        self.optimizer, self.fused = make_optimizer(self.model, work)
        self.batches = [[x.to(self.device).contiguous() for x in batch] for batch in load_batches(work)]
        self.done = 0

    def clock(self):
        """When all work so far has ended."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def loss(self, tokens, targets):
        logits = self.model(tokens).float()
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.reshape(-1))

    def step(self):
        """Loss, seconds of the step, seconds of clip and update."""
        tokens, targets = self.batches[self.done % len(self.batches)]
        self.done += 1
        begin = self.clock()
        self.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for part in zip(tokens.chunk(self.leaf), targets.chunk(self.leaf)):
            with torch.autocast(self.device, dtype=torch.bfloat16) if self.bf16 else contextlib.nullcontext():
                loss = self.forward(*part) / self.leaf
            loss.backward()
            total += loss.detach()
        middle = self.clock()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.work["clip"])
        self.optimizer.step()
        end = self.clock()
        return total.item(), end - begin, end - middle


def peak_bytes(device):
    if device == "cuda":
        return torch.cuda.max_memory_reserved()
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def forget_peak(device):
    """What loading and compiling took is not held against the steps."""
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def say(**fields):
    print(json.dumps(fields), flush=True)


def main(path, precision, mode):
    work = json.loads(Path(path).read_text())
    if work.get("device") == "cuda" and not torch.cuda.is_available():
        say(missing=f"PyTorch {torch.__version__} sees no GPU")
        return
    torch.set_num_threads(work["threads"])
    trainer = Trainer(work, precision, mode == "compiled")
    losses = [trainer.step()[0] for _ in range(work["losses"])]
    forget_peak(trainer.device)
    say(version=torch.__version__, losses=losses, fused=trainer.fused)
    for line in sys.stdin:
        steps = [trainer.step() for _ in range(int(line))]
        say(seconds=[s[1] for s in steps], update=[s[2] for s in steps], peak_bytes=peak_bytes(trainer.device))


if __name__ == "__main__":
    main(*sys.argv[1:])
