"""The program itself against PyTorch: `muster train` on three ranks, its checkpoint of step 1 loaded into decoder.py and
torch.optim.AdamW, the same batches read from the token files, steps 2 to 21 done again in fp64; losses, gradient norms,
weights and moments compared, and `muster eval`. Usage: check_training.py MUSTER MPIRUN_SH"""
import json
import math
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

try:
    import h5py
    import numpy
    import torch
except ImportError as missing:
    print(f"skipped: {missing} (Debian: apt-get install python3-torch python3-numpy python3-h5py)")
    sys.exit(77)

import compare
from compare import F32_BOUND, check
from decoder import losses
from tokens import Reader, Source, add_loss_masks

SEED, STEPS, RANKS = 20240229, 21, 3
# Moments of step 1 are taken over, so AdamW does not turn the noise of a gradient near 0 into a step of full length, as it does
# at first (see check_model.py), and a higher rate than there is possible: fp32 PyTorch stays within 1e-6 of fp64 PyTorch,
# while the weights move by 1e-1 of their size. Tried: a decay or z-loss that is 1% off, or a beta off by 5e-4, is seen.
# No value of the optimizer is its default, so that one that does not arrive is seen.
COMMON = {
    "run": {"steps": STEPS, "seed": SEED},
    "batch": {"micro": 2, "leaf": 2, "lanes": 4, "rounds": 2},
    "optimizer": {"beta1": 0.88, "beta2": 0.96, "eps": 2e-8, "weight_decay": 0.2},
    "schedule": {"kind": "cosine", "peak": 1e-3, "min_ratio": 0.2, "warmup": 4},
    "train": {"precision": "f32", "z_loss": 1e-3, "eval_every": 10, "eval_batches": 3},
    "checkpoint": {"every": 1, "keep": 0},
    "device": {"threads": 1},
}
SEQ_LEN = 24
LLAMA = {"family": "llama", "d_model": 48, "n_layers": 2, "n_heads": 6, "n_kv_heads": 2, "d_ff": 112, "rope_theta": 5e4}
# And the norm to clip to, below some of the 20 gradients' and above others; and what of the optimizer is the model's own.
MODELS = {
    "llama 6/2 untied": ({**LLAMA, "tie_embeddings": False}, 2.3, {}),
    "llama 6/2 tied": ({**LLAMA, "tie_embeddings": True}, 2.3, {}),
    "olmo2 6/2": (
        {**LLAMA, "family": "olmo2", "tie_embeddings": False}, 2.3, {"decay_norms": True, "decay_embeddings": False}
    ),
    # Rows of the tables that no token and no position uses: only decayed.
    "gpt2 4": ({"family": "gpt2", "d_model": 48, "n_layers": 2, "n_heads": 4, "max_seq_len": 40, "vocab_size": 300}, 2.3, {}),
}
MODEL_COMMON = {"init_deviation": 0.06, "norm_eps": 2e-5}

# Relative. A token's loss is rounded a few times to 2^-24 = 6e-8, one way or the other, and its mean over hundreds of tokens
# stays within three of these.
LOSS_BOUND = 2e-7
# A gradient that is off by 1e-6 of its length (see compare.py) has a length that is off by no more than that.
NORM_BOUND = 1e-6
RATE_BOUND = 1e-14  # fp64 on both sides: some tens of roundings


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"failed: exit code {done.returncode}: {' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


# ---- data ----


def build_tokens(muster, folder, name, documents, rng):
    """A token file of generated text."""
    words = ["".join(rng.choice("abcdefghij") for _ in range(rng.randrange(2, 8))) for _ in range(60)]
    texts = (" ".join(rng.choice(words) for _ in range(rng.randrange(5, 40))) for _ in range(documents))
    (folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    path = folder / f"{name}.h5"
    run(muster, "data", "build", folder / f"{name}.jsonl", "-o", path, "--heldout", "0.25")
    return path


def mask_some(path, rng):
    """Makes one run of 16 tokens in three no target of the loss, so that microbatches differ in valid tokens."""
    counts = {split: len(tokens) for split, (tokens, _) in Source(path).streams.items()}
    runs = {split: [rng.random() < 2 / 3 for _ in range(n // 16 + 1)] for split, n in counts.items()}
    add_loss_masks(path, {s: numpy.repeat(numpy.array(runs[s], numpy.uint8), 16)[:n] for s, n in counts.items()})


# ---- what muster did ----


class Checkpoint:
    """model.h5 as h5py shows it: weights and moments by their Hugging Face names."""

    def __init__(self, folder, step):
        self.path = folder / "checkpoints" / f"step-{step:08d}"
        with h5py.File(self.path / "model.h5", "r") as file:
            assert file.attrs["step"] == step
            names = [name for name in file if isinstance(file[name], h5py.Dataset)]
            self.weights, self.exp_avg, self.exp_avg_sq = (
                {name: torch.tensor(file[prefix + name][...]) for name in names}
                for prefix in ("", "optimizer/exp_avg/", "optimizer/exp_avg_sq/")
            )


def read_metrics(folder):
    """The last line of every (event, step): this run was not interrupted."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {(m["event"], m["step"]): m for m in lines}


# ---- the same by PyTorch ----


class Oracle:
    """The steps of a config, by autograd and torch.optim.AdamW."""

    def __init__(self, config, reader):
        self.config, self.reader = config, reader
        self.samples = math.prod(config["batch"].values())  # of a step
        model = config["model"]
        heads = model["n_heads"]
        self.decoder = {
            "layers": model["n_layers"],
            "heads": heads,
            "kv": model.get("n_kv_heads", heads),
            "head_dim": model["d_model"] // heads,
            "theta": model.get("rope_theta"),
            "eps": model["norm_eps"],
        }

    def loss(self, weights, split, first, count):
        """Sums over valid tokens of cross-entropy and squared log-sum-exp; valid tokens."""
        return self.loss_of(weights, *self.reader.read(split, first, count))

    def loss_of(self, weights, tokens, targets):
        tokens, targets = torch.from_numpy(tokens), torch.from_numpy(targets)
        return *losses(self.config["model"]["family"], weights, self.decoder, tokens, targets), int((targets >= 0).sum())

    def rate(self, step):
        """Learning rate of a step, counted from 1."""
        s, steps = self.config["schedule"], self.config["run"]["steps"]
        if step <= s["warmup"]:
            return s["peak"] * step / s["warmup"]
        way = (step - 1 - s["warmup"]) / (steps - s["warmup"])
        return s["peak"] * (s["min_ratio"] + (1 - s["min_ratio"]) * (1 + math.cos(math.pi * way)) / 2)

    def gradient(self, parameters, step):
        """Leaves the clipped gradient of the mean in the parameters. Returns the numbers of check_steps()."""
        c = self.config
        for p in parameters.values():
            p.grad = None
        loss, zloss, valid = self.loss(parameters, "train", (step - 1) * self.samples, self.samples)
        ((loss + c["train"]["z_loss"] * zloss) / valid).backward()
        clip_norm = c["optimizer"]["clip_norm"]
        norm = torch.nn.utils.clip_grad_norm_(parameters.values(), clip_norm).item()
        return loss.item() / valid, zloss.item() / valid, norm, min(1.0, clip_norm / (norm + 1e-6)), self.rate(step), valid

    def decays(self, name, w):
        o = self.config["optimizer"]
        if w.dim() == 1:
            return o.get("decay_norms", False)
        embedding = any(part in name for part in ("embed_tokens", ".wte", ".wpe"))
        return not embedding or o.get("decay_embeddings", True)

    def adamw(self, start, dtype):
        """Parameters and optimizer as they stood at the checkpoint of step 1."""
        o = self.config["optimizer"]
        parameters = {name: w.to(dtype).clone().requires_grad_() for name, w in start.weights.items()}
        groups = [
            {"params": [p for n, p in parameters.items() if self.decays(n, p)], "weight_decay": o["weight_decay"]},
            {"params": [p for n, p in parameters.items() if not self.decays(n, p)], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=1.0, betas=(o["beta1"], o["beta2"]), eps=o["eps"])
        for name, p in parameters.items():
            moments = {kind: getattr(start, kind)[name].to(dtype).clone() for kind in ("exp_avg", "exp_avg_sq")}
            optimizer.state[p] = {"step": torch.tensor(1.0), **moments}
        return parameters, optimizer

    def train(self, start, dtype):
        """Steps 2 to the last. Returns weights, both moments, and the history of gradient()."""
        parameters, optimizer = self.adamw(start, dtype)
        history = []
        for step in range(2, STEPS + 1):
            history.append(self.gradient(parameters, step))
            for group in optimizer.param_groups:
                group["lr"] = self.rate(step)
            optimizer.step()
        moments = {k: {n: optimizer.state[p][k] for n, p in parameters.items()} for k in ("exp_avg", "exp_avg_sq")}
        return SimpleNamespace(weights={n: p.detach() for n, p in parameters.items()}, history=history, **moments)

    def undo_first_step(self, start):
        """The initial weights. AdamW's first step is rate * g / (|g| + eps), and exp_avg is then (1 - beta1) g."""
        o, rate, before = self.config["optimizer"], self.rate(1), {}
        for name, w in start.weights.items():
            g = start.exp_avg[name].double() / (1 - o["beta1"])
            decay = o["weight_decay"] if self.decays(name, w) else 0.0
            before[name] = (w.double() + rate * g / (g.abs() + o["eps"])) / (1 - rate * decay)
        return before

    def heldout_loss(self, checkpoint, batches):
        """Mean over microbatches of whole samples, evenly spread over the held-out data."""
        micro = self.config["batch"]["micro"]
        whole = sum(self.reader.samples("heldout")) // micro
        assert batches <= whole
        weights = {n: w.double() for n, w in checkpoint.weights.items()}
        sums = [self.loss(weights, "heldout", i * whole // batches * micro, micro) for i in range(batches)]
        return sum(loss.item() for loss, _, _ in sums) / (valid := sum(v for _, _, v in sums)), valid

    def whole_loss(self, checkpoint, split):
        """Mean over every token of a split; tokens, and those of them that are bytes."""
        tokens, targets = self.reader.windows(split)
        loss, _, valid = self.loss_of({n: w.double() for n, w in checkpoint.weights.items()}, tokens, targets)
        return loss.item() / valid, valid, int(((targets >= 0) & (targets < 256)).sum())


# ---- comparing ----


def check_close(title, name, ours, truth, bound):
    """Largest relative difference of numbers."""
    off = abs(numpy.array(ours) / numpy.array(truth) - 1).max()
    check(off <= bound, f"{title}: {name}: off by {off:.1e}, more than {bound:.0e}")
    return f"{name} {off:.1e}"


def check_steps(title, lines, truth):
    """What metrics.jsonl says of steps, against rows of Oracle.gradient()."""
    loss, zloss, norm, clip, rate, valid = zip(*truth)
    seen = [
        check_close(title, "loss", [float.fromhex(m["loss_bits"]) for m in lines], loss, LOSS_BOUND),
        check_close(title, "z-loss", [m["zloss"] for m in lines], zloss, LOSS_BOUND),
        check_close(title, "gradient norm", [float.fromhex(m["grad_norm_bits"]) for m in lines], norm, NORM_BOUND),
        check_close(title, "clip", [m["clip"] for m in lines], clip, NORM_BOUND),
        check_close(title, "rate", [m["lr"] for m in lines], rate, RATE_BOUND),
    ]
    check([m["valid_tokens"] for m in lines] == list(valid), f"{title}: other tokens are valid")
    for name in ("loss", "grad_norm"):
        bits = [float.fromhex(m[name + "_bits"]) for m in lines]
        check_close(title, f"{name} in decimal", [m[name] for m in lines], bits, 1e-15)
    return ", ".join(seen)


def check_tensors(title, kind, ours, truth, rounded):
    """truth: by torch in fp64; rounded: by torch in fp32, which shows what rounding alone does."""
    errors, noise = compare.errors(ours, truth), compare.errors(rounded, truth)
    for name, error in errors.items():
        check(error <= F32_BOUND, f"{title}: {kind} of {name}: {error:.1e} after 20 steps (torch fp32: {noise[name]:.1e})")
    worst, noisy = max(errors, key=errors.get), max(noise, key=noise.get)
    print(f"{title}: {kind}: worst of {len(errors)} {errors[worst]:.1e} ({worst}); torch fp32 {noise[noisy]:.1e} ({noisy})")


def check_training(title, oracle, start, end, metrics):
    truth, rounded = (oracle.train(start, dtype) for dtype in (torch.float64, torch.float32))
    lines = [metrics["step", step] for step in range(1, STEPS + 1)]
    print(f"{title}: 20 steps: {check_steps(title, lines[1:], truth.history)}")
    for kind in ("weights", "exp_avg", "exp_avg_sq"):
        check_tensors(title, kind, getattr(end, kind), getattr(truth, kind), getattr(rounded, kind))
    clipped = sum(row[3] < 1 for row in truth.history)
    check(0 < clipped < STEPS - 1, f"{title}: {clipped} of 20 steps were clipped: choose a clip norm in between")
    travelled = max(compare.relative(end.weights[n], w) for n, w in start.weights.items() if w.dim() == 2)
    check(travelled > 1e-2, f"{title}: training moved the weights by {travelled:.1e} only: too little to compare")
    # An absolute bound for the key bias: no step of AdamW is longer than its learning rate by much.
    reach = 1.5 * sum(oracle.rate(step) for step in range(2, STEPS + 1))
    for name, w in start.weights.items():
        bias = compare.key_bias(name, end.weights[name] - w)
        check(bias is None or bias.abs().max() <= reach, f"{title}: {name}: the key bias went astray")
    samples = [oracle.samples * step for step in range(1, STEPS + 1)]
    check([m["samples"] for m in lines] == samples, f"{title}: samples in metrics.jsonl")
    tokens = numpy.cumsum([m["valid_tokens"] for m in lines]).tolist()
    check([m["tokens"] for m in lines] == tokens, f"{title}: tokens in metrics.jsonl")
    print(f"{title}: {clipped} of 20 steps clipped, weights moved by up to {travelled:.1e}")


def check_first_step(title, oracle, start, line):
    """Step 1, undone: from the weights before it follow its loss, and the moments that it left."""
    o = oracle.config["optimizer"]
    before = {n: w.requires_grad_() for n, w in oracle.undo_first_step(start).items()}
    row = oracle.gradient(before, 1)
    seen = check_steps(title, [line], [row])
    first = {n: (1 - o["beta1"]) * w.grad for n, w in before.items()}
    second = {n: (1 - o["beta2"]) * w.grad**2 for n, w in before.items()}
    for kind, moments in ("exp_avg", first), ("exp_avg_sq", second):
        errors = compare.errors(getattr(start, kind), moments)
        name = max(errors, key=errors.get)
        check(errors[name] <= F32_BOUND, f"{title}: step 1: {kind} of {name}: {errors[name]:.1e}")
        seen += f", {kind} {errors[name]:.1e}"
    for name, w in before.items():
        deviation = oracle.config["model"]["init_deviation"]
        if w.dim() == 1:
            off = (w - (0 if name.endswith(".bias") else 1)).abs().max().item()
            check(off <= 1e-6, f"{title}: {name}: its initial value is off by {off:.1e}")
        else:
            check(w.abs().max() <= 3.001 * deviation, f"{title}: {name}: an initial value beyond 3 deviations")
    print(f"{title}: step 1: {seen}")


def check_eval(title, muster, oracle, end, metrics):
    truth, valid = oracle.heldout_loss(end, oracle.config["train"]["eval_batches"])
    line = metrics["eval", STEPS]
    seen = check_close(title, "held-out loss", float.fromhex(line["loss_bits"]), truth, LOSS_BOUND)
    check(line["valid_tokens"] == valid, f"{title}: held-out tokens: {line['valid_tokens']} and {valid}")
    print(f"{title}: {seen}")
    for split in "heldout", "train":
        truth, valid, size = oracle.whole_loss(end, split)
        found = json.loads(run(muster, "eval", end.path, "--threads", "1", "--split", split, "--json"))
        off = abs(found["loss"] / truth - 1)
        check(off <= LOSS_BOUND, f"{title}: muster eval of {split}: {found['loss']} and {truth}")
        check(found["tokens"] == valid, f"{title}: muster eval of {split}: {found['tokens']} tokens and {valid}")
        check(found["bytes"] == size, f"{title}: muster eval of {split}: {found['bytes']} bytes and {size}")
        bits = found["loss"] * valid / math.log(2) / size
        check(abs(found["bits_per_byte"] / bits - 1) <= 1e-12, f"{title}: {found['bits_per_byte']} bits per byte")
        check(abs(found["perplexity"] / math.exp(found["loss"]) - 1) <= 1e-12, f"{title}: perplexity")
        print(f"{title}: muster eval of {valid} tokens of {split} off by {off:.1e}")


def check_model(title, muster, mpirun, folder, sources):
    model, clip_norm, recipe = MODELS[title]
    config = {**COMMON, "model": {**model, **MODEL_COMMON}}
    config["optimizer"] = {**COMMON["optimizer"], **recipe, "clip_norm": clip_norm}
    config["data"] = {"sources": [{"path": str(p), "weight": w} for p, w in sources.items()], "seq_len": SEQ_LEN}
    (folder / "config.yaml").write_text(re.sub(r'"(\w+)"', r"\1", json.dumps(config)))  # JSON is YAML; words plain
    launch = [mpirun, RANKS] if mpirun else []
    run(*launch, muster, "train", folder / "config.yaml", "--run", folder / "run")
    start, end = (Checkpoint(folder / "run", step) for step in (1, STEPS))
    metrics = read_metrics(folder / "run")
    oracle = Oracle(config, Reader([Source(p, w) for p, w in sources.items()], SEED, SEQ_LEN))
    check_first_step(title, oracle, start, metrics["step", 1])
    check_training(title, oracle, start, end, metrics)
    check_eval(title, muster, oracle, end, metrics)


def main(muster, mpirun):
    torch.set_num_threads(1)  # tensors are small, and threads that wait for each other are slow on a busy machine
    if not shutil.which(os.environ.get("MUSTER_MPIRUN", "mpirun")):
        print("no mpirun: on one rank instead of three")
        mpirun = None
    print(f"torch {torch.__version__}, seed {SEED}")
    rng = random.Random(SEED)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        large, small = (build_tokens(muster, folder, n, d, rng) for n, d in (("large", 120), ("small", 40)))
        mask_some(small, rng)
        for i, title in enumerate(MODELS):
            (folder / str(i)).mkdir()
            check_model(title, muster, mpirun, folder / str(i), {large: 2, small: 1})
    print(f"check_training: {compare.failures} failed")
    return compare.failures > 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
