"""Loss, every gradient and 20 steps of training of small models: muster against PyTorch autograd and AdamW."""
import math
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import numpy
    import torch
except ImportError:
    print("skipped: python3-torch is not installed")
    sys.exit(77)

import compare
from compare import F32_BOUND, check, key_bias, relative, without_key_bias
from decoder import losses

COMMON = dict(layers=3, vocab=101, seq=33, micro=2, theta=10000, eps=1e-5, positions=40, scale=0.5, z=1e-3, seed=11)
MODELS = {
    "llama 6/2": dict(family="llama", tied=1, d=96, heads=6, kv=2, head_dim=16, ff=200),
    "llama 9/3 untied": dict(family="llama", tied=0, d=144, heads=9, kv=3, head_dim=16, ff=384, theta=100000),
    "llama 4/4, chunks": dict(family="llama", tied=1, d=64, heads=4, kv=4, head_dim=16, ff=172, micro=9),
    # Of eight pairs of an original length of 64, three are slow, two fast and three between.
    "llama 6/2 scaled": dict(family="llama", tied=1, d=96, heads=6, kv=2, head_dim=16, ff=200, theta=100,
                             rope_factor=8, rope_low=1, rope_high=4, rope_original=64),
    "gpt2 4": dict(family="gpt2", tied=1, d=64, heads=4, kv=4, head_dim=16, ff=256),
    "gpt2 6 untied": dict(family="gpt2", tied=0, d=96, heads=6, kv=6, head_dim=16, ff=200, micro=9),
    "olmo2 6/6": dict(family="olmo2", tied=0, d=96, heads=6, kv=6, head_dim=16, ff=200, theta=500000, eps=1e-6),
    "olmo2 6/2 tied": dict(family="olmo2", tied=1, d=96, heads=6, kv=2, head_dim=16, ff=172, micro=9),
    "qwen2 6/2": dict(family="qwen2", tied=1, d=96, heads=6, kv=2, head_dim=16, ff=200, theta=1000000, eps=1e-6),
    "qwen2 4/4 untied": dict(family="qwen2", tied=0, d=64, heads=4, kv=4, head_dim=16, ff=172),
    "qwen3 4/2": dict(family="qwen3", tied=1, d=64, heads=4, kv=2, head_dim=24, ff=200, theta=1000000, eps=1e-6),
    "qwen3 6/3 untied": dict(family="qwen3", tied=0, d=96, heads=6, kv=3, head_dim=32, ff=172, micro=9),
}
# AdamW's first steps are about rate * gradient / |gradient|: they magnify the relative rounding error d = 1e-6 of gradients to
# rate * sqrt(2 d) on average over normally distributed elements (those near 0 may turn around). For weights of size 0.06
# this rate makes that 5e-6 in the worst step and less after more; five times the rate would put fp32 PyTorch itself
# beyond 1e-5 of fp64 PyTorch. A mistake in decay or correction of the moments changes weights by 1e-4 and more.
ADAMW = dict(steps=20, rate=2e-4, decay=0.1)

# Relative L2 error of a tensor in bf16, which rounds with 2^-9 = 2e-3: a uniform error of 2^-9 / sqrt(3) each. About 12 values
# in a row are rounded per layer forward and as many backward, 75 in three layers: sqrt(75) * 1.1e-3 = 1e-2 where nothing
# magnifies them. The inputs here have large weights (attention far from uniform), which does: four times that.
BF16_BOUND = 4e-2
# The loss of some 50 tokens averages their roundings: one rounding of 2^-9 at most is left.
BF16_LOSS_BOUND = 2e-3


class Run:
    """What model_dump wrote for one model."""

    def __init__(self, tool, model, **settings):
        self.c = {**COMMON, **model, **settings}
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([tool, folder] + [f"{k}={v}" for k, v in self.c.items()], check=True)
            self.read(Path(folder))

    def read(self, folder):
        lines = [line.split() for line in (folder / "tensors.txt").read_text().splitlines()]
        self.shapes = {name: tuple(map(int, shape[: int(dims)])) for name, dims, *shape in lines}
        shape = (-1, self.c["micro"], self.c["seq"])
        tokens = (numpy.fromfile(folder / f"{n}.i32", "<i4").reshape(shape) for n in ("tokens", "targets"))
        self.tokens, self.targets = (torch.tensor(t, dtype=torch.long) for t in tokens)
        starts = folder / "starts.i32"
        self.starts = torch.tensor(numpy.fromfile(starts, "<i4").reshape(shape[1:]), dtype=torch.long) if starts.exists() else None
        self.steps = numpy.fromfile(folder / "steps.f64", "<f8").reshape(-1, 4)
        self.weights = self.tensors(folder / "weights.f32")
        self.gradients = self.tensors(folder / "gradients.f32")
        if (folder / "logits.f32").exists():
            self.logits = torch.tensor(numpy.fromfile(folder / "logits.f32", "<f4").reshape(self.c["seq"], -1))
        self.trained = self.tensors(folder / "trained.f32")

    def tensors(self, path):
        if not path.exists():
            return None
        flat = torch.tensor(numpy.fromfile(path, "<f4"))
        counts = [math.prod(shape) for shape in self.shapes.values()]
        assert flat.numel() == sum(counts), f"{path.name} has {flat.numel()} elements"
        return {n: t.reshape(s) for (n, s), t in zip(self.shapes.items(), flat.split(counts))}

    def parameters(self, dtype):
        return {n: t.to(dtype).clone().requires_grad_() for n, t in self.weights.items()}

    def backward(self, parameters, step):
        """Loss and z-loss of a step's microbatch; gradients of the scaled sum stand in the parameters."""
        loss, zloss = losses(self.c["family"], parameters, self.c, self.tokens[step], self.targets[step])
        (self.c["scale"] * (loss + self.c["z"] * zloss)).backward()
        return loss.item(), zloss.item()


def check_gradients(tool, title, dtype, device):
    bound, loss_bound = (F32_BOUND, F32_BOUND) if dtype == "f32" else (BF16_BOUND, BF16_LOSS_BOUND)
    run = Run(tool, MODELS[title], dtype=dtype, device=device)
    worst = {}
    for reference in (torch.float64, torch.float32):
        parameters = run.parameters(reference)
        loss, zloss = run.backward(parameters, 0)
        off = max(abs(run.steps[0, 0] / loss - 1), abs(run.steps[0, 1] / zloss - 1))
        check(off <= loss_bound, f"{title} {dtype}: loss {run.steps[0, 0]} and {loss}, zloss {run.steps[0, 1]} and {zloss}")
        errors = {n: relative(run.gradients[n], p.grad) for n, p in parameters.items()}
        for name, error in errors.items():
            check(error <= bound, f"{title} {dtype} {device}: {name}: relative error {error:.2e} to {reference}")
            bias = key_bias(name, run.gradients[name])
            if bias is not None:
                # Zero in theory: within the bound of the whole bias's gradient, element by element.
                largest = run.gradients[name].abs().max().item()
                seen = bias.abs().max().item()
                check(seen <= bound * largest, f"{title} {dtype}: key bias gradient {seen:.1e} beside {largest:.1e}")
        name = max(errors, key=errors.get)
        worst[reference] = f"loss {off:.1e}, worst of {len(errors)} gradients {errors[name]:.1e} ({name})"
    print(f"{title}, {dtype} on {device}, to torch fp64: {worst[torch.float64]}")
    print(f"{title}, {dtype} on {device}, to torch fp32: {worst[torch.float32]}")


def learning_rate(step):
    """As model_dump.c: two steps of warm-up, then a cosine to a tenth."""
    if step < 2:
        return ADAMW["rate"] * (step + 1) / 2
    return ADAMW["rate"] * (0.1 + 0.45 * (1 + math.cos(math.pi * (step - 1) / (ADAMW["steps"] - 2))))


def train(run, dtype):
    """The same steps by torch.optim.AdamW from the same weights. Returns weights, losses and gradient norms."""
    parameters = run.parameters(dtype)
    groups = [
        dict(params=[p for p in parameters.values() if p.dim() == 2], weight_decay=ADAMW["decay"]),
        dict(params=[p for p in parameters.values() if p.dim() == 1], weight_decay=0.0),
    ]
    optimizer = torch.optim.AdamW(groups, lr=1.0, betas=(0.9, 0.95), eps=1e-8)
    history = []
    for step in range(ADAMW["steps"]):
        optimizer.zero_grad()
        loss, _ = run.backward(parameters, step)
        valid = int((run.targets[step] >= 0).sum())
        for p in parameters.values():
            p.grad /= run.c["scale"] * valid
        norm = math.sqrt(sum(p.grad.double().square().sum().item() for p in parameters.values()))
        for p in parameters.values():
            p.grad *= min(1.0, run.c["clip"] / norm)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        optimizer.step()
        history.append((loss, norm))
    return {n: p.detach() for n, p in parameters.items()}, numpy.array(history)


def check_training(tool, title, device, clip):
    run = Run(tool, MODELS[title], device=device, clip=clip, **ADAMW)
    travelled = max(relative(run.trained[n], run.weights[n]) for n in run.weights if run.weights[n].dim() == 2)
    check(travelled > 5e-3, f"{title}: training moved the weights by {travelled:.1e} only: too little to compare")
    clipped = int((run.steps[:, 3] > clip).sum())
    check(0 < clipped < ADAMW["steps"], f"{title}: {clipped} of 20 steps were clipped: choose a clip norm in between")
    # An absolute bound for the key bias: no step of AdamW is longer than its learning rate by much.
    reach = 1.5 * sum(learning_rate(s) for s in range(ADAMW["steps"]))
    results = {dtype: train(run, dtype) for dtype in (torch.float32, torch.float64)}
    for dtype, (weights, history) in results.items():
        off = abs(run.steps[:, [0, 3]] / history - 1).max()
        check(off <= F32_BOUND, f"{title}: losses and gradient norms of 20 steps differ by {off:.1e}")
        errors = compare.errors(run.trained, weights)
        for name, error in errors.items():
            truth = results[torch.float64][0][name]
            torch_error = relative(without_key_bias(name, results[torch.float32][0][name]), without_key_bias(name, truth))
            check(error <= F32_BOUND, f"{title}: {name}: {error:.1e} after 20 steps (torch fp32 to fp64: {torch_error:.1e})")
            bias = key_bias(name, run.trained[name] - run.weights[name])
            check(bias is None or bias.abs().max() <= reach, f"{title}: {name}: the key bias went astray")
        name = max(errors, key=errors.get)
        print(f"{title}, 20 steps on {device}, to {dtype}: loss and norm {off:.1e}, worst weights {errors[name]:.1e} ({name})")
    f32, f64 = (results[d][0] for d in (torch.float32, torch.float64))
    apart = max(compare.errors(f32, f64).values())
    print(f"{title}, 20 steps, torch fp32 to torch fp64: worst weights {apart:.1e}; travelled {travelled:.1e}")


def main(tool):
    torch.set_num_threads(1)  # tensors are small, and threads that wait for each other are slow on a busy machine
    print(f"torch {torch.__version__}, seed {COMMON['seed']}")
    for title in MODELS:
        check_gradients(tool, title, "f32", "cpu")
        check_gradients(tool, title, "bf16", "cpu")
    check_gradients(tool, "llama 6/2", "f32", "ref")
    check_gradients(tool, "gpt2 4", "f32", "ref")
    check_gradients(tool, "olmo2 6/6", "f32", "ref")
    check_gradients(tool, "qwen2 6/2", "f32", "ref")
    check_gradients(tool, "qwen3 4/2", "f32", "ref")
    check_training(tool, "llama 9/3 untied", "cpu", clip=7.0)
    check_training(tool, "gpt2 4", "cpu", clip=2.7)
    print(f"{compare.failures} failed")
    return compare.failures > 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
