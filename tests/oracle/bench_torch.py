"""PyTorch's training steps of the same model, as a worker that tests/bench/bench.py or tests/gpu/bench_gpu.py tells when to go.

usage: bench_torch.py WORK.json fp32|bf16|bf16-weights eager|layers|compiled

bf16: fp32 weights, gradients and moments, and autocast; bf16-weights: all of these in bf16, and no masters. layers: each layer is
compiled alone, which for equal ones is done once, and so is the head with the loss; compiled: forward and loss as a whole.

WORK.json: a checkpoint of muster, its token file, and what defines a step. The worker begins with the weights of the one and
the samples of the other in their order, takes the steps of "losses" and prints one line of JSON: its version and their
losses. Then, for each line N on standard input, it takes N steps and prints their seconds, those of clip and update in them,
and the most memory that it has had since the first steps.

With "device": "cuda" in it all that is on a GPU. With "shape" in the place of a checkpoint, weights and tokens are random.
"leaf": so many backward passes a step, over "sequences" / "leaf" samples each. "recompute": activations of layers are computed
again on the way back. What is not there or has no room is said in the place of an answer: {"missing": why, "memory": whether it
is that}.
"""
import contextlib
import json
import sys
import time
from pathlib import Path

try:
    import numpy
    import torch
    from torch import nn
    from torch.nn import functional as F
    from torch_models import OWN, Gpt2, attend, hugging_face_llama
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


def load_model(work, dtype):
    if "shape" in work:
        torch.set_default_dtype(dtype)
        with torch.device(work["device"]):
            model = OWN[work["shape"]["family"]](work["shape"])
        torch.set_default_dtype(torch.float32)
        for weight in model.parameters():
            if weight.dim() > 1:
                nn.init.normal_(weight, std=0.02)
        model.recompute = work.get("recompute", False)
        return model
    config, tensors = read_weights(Path(work["model"]))
    if config["family"] == "llama":
        return hugging_face_llama(config, tensors)
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


chosen = contextlib.ExitStack()  # holds on to a kernel for attention


def choose_attention(work):
    """Times cuDNN's kernel (on the CPU, the flash kernel) beside the one that PyTorch takes by itself, forward and backward, and
    has the faster taken from now on; returns its name."""
    c, device, own = work["shape"], work["device"], "PyTorch's choice"
    heads, kv_heads = c["n_heads"], c.get("n_kv_heads", c["n_heads"])

    def draw(count):
        size = (work["sequences"] // work["leaf"], count, work["seq_len"], c["d_model"] // heads)
        return torch.randn(size, device=device, dtype=torch.bfloat16, requires_grad=True)

    q, k, v = draw(heads), draw(kv_heads), draw(kv_heads)

    def seconds(warm=3, timed=10):
        for turn in range(warm + timed):
            if turn == warm:
                begin = clock(device)
            torch.autograd.grad(attend(q, k, v).sum(), (q, k, v))
        return clock(device) - begin

    plain = seconds()
    try:
        from torch.nn.attention import SDPBackend, sdpa_kernel

        other = SDPBackend.CUDNN_ATTENTION if device == "cuda" else SDPBackend.FLASH_ATTENTION
        chosen.enter_context(sdpa_kernel([other, SDPBackend.FLASH_ATTENTION], set_priority=True))
        if seconds() < plain:
            return other.name
    except (ImportError, RuntimeError, TypeError) as why:
        own += f"; not the other: {str(why).splitlines()[0]}"
    chosen.close()
    return own


def clock(device):
    """When all work so far has ended."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def cross_entropy(logits, targets):
    return F.cross_entropy(logits.float().view(-1, logits.shape[-1]), targets.reshape(-1))


class Trainer:
    def __init__(self, work, precision, mode):
        self.work, self.autocast = work, precision == "bf16"
        self.device, self.leaf = work.get("device", "cpu"), work.get("leaf", 1)
        self.model = load_model(work, torch.bfloat16 if precision == "bf16-weights" else torch.float32).to(self.device)
        self.model.train()
        self.forward = self.compiled(mode)
        self.optimizer, self.fused = make_optimizer(self.model, work)
        self.batches = [[x.to(self.device).contiguous() for x in batch] for batch in load_batches(work)]
        self.done = 0

    def compiled(self, mode):
        """The loss of (tokens, targets)."""
        if mode == "eager":
            return self.loss
        if mode == "compiled":
            return torch.compile(self.loss)
        self.model.h = nn.ModuleList(torch.compile(layer) for layer in self.model.h)
        head = torch.compile(self.head_loss)
        return lambda tokens, targets: head(self.model.body(tokens), targets)

    def loss(self, tokens, targets):
        return cross_entropy(self.model(tokens), targets)

    def head_loss(self, x, targets):
        return cross_entropy(self.model.head(x), targets)

    def step(self):
        """Loss, seconds of the step, seconds of clip and update."""
        tokens, targets = self.batches[self.done % len(self.batches)]
        self.done += 1
        begin = clock(self.device)
        self.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for part in zip(tokens.chunk(self.leaf), targets.chunk(self.leaf)):
            with torch.autocast(self.device, dtype=torch.bfloat16) if self.autocast else contextlib.nullcontext():
                loss = self.forward(*part) / self.leaf
            loss.backward()
            total += loss.detach()
        middle = clock(self.device)
        nn.utils.clip_grad_norm_(self.model.parameters(), self.work["clip"])
        self.optimizer.step()
        end = clock(self.device)
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


def answer(path, precision, mode):
    work = json.loads(Path(path).read_text())
    if work.get("device") == "cuda" and not torch.cuda.is_available():
        say(missing=f"PyTorch {torch.__version__} sees no GPU")
        return
    torch.set_num_threads(work["threads"])
    attention = choose_attention(work) if "shape" in work else "PyTorch's choice"
    trainer = Trainer(work, precision, mode)
    losses = [trainer.step()[0] for _ in range(work["losses"])]
    forget_peak(trainer.device)
    parameters = sum(weight.numel() for weight in trainer.model.parameters())
    say(version=torch.__version__, losses=losses, fused=trainer.fused, attention=attention, parameters=parameters)
    for line in sys.stdin:
        steps = [trainer.step() for _ in range(int(line))]
        say(seconds=[s[1] for s in steps], update=[s[2] for s in steps], peak_bytes=peak_bytes(trainer.device))


def main(*words):
    try:
        answer(*words)
    except RuntimeError as why:
        if not any(words in str(why) for words in ("out of memory", "ALLOC_FAILED")):
            raise
        say(missing=str(why).splitlines()[0], memory=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
