"""How long PyTorch's attention takes on a GPU with cuDNN's kernels, forward and backward, in bf16.

usage: torch_attention.py cuda|cpu SEQUENCES,LENGTH,HEADS,KV_HEADS,HEAD_DIM...

Prints one line of JSON: {"version": ..., "backend": ..., "seconds": [{"forward": ..., "backward": ...} or {"missing": why} of
each shape]}, or {"missing": why}. On the CPU, to try this program out, with whatever kernels PyTorch takes.
"""
import contextlib
import json
import sys
import time
from statistics import median

try:
    import torch
    from torch.nn import functional as F
except ImportError as missing:
    print(json.dumps({"missing": str(missing)}))
    sys.exit(0)

ROUNDS, CALLS = 9, {"cuda": 10, "cpu": 1}
WARM = {"cuda": 0.1, "cpu": 0.0}  # seconds, in which a GPU that was idle finds its clock


def seconds_of(call, device):
    """The median of rounds of calls behind each other, after some that warm up."""
    rounds, start = [], time.perf_counter()
    while len(rounds) < ROUNDS:
        begin = time.perf_counter()
        for _ in range(CALLS[device]):
            call()
        if device == "cuda":
            torch.cuda.synchronize()
        if begin - start > WARM[device]:
            rounds.append((time.perf_counter() - begin) / CALLS[device])
    return median(rounds)


def measure(shape, device):
    sequences, length, heads, kv_heads, width = shape

    def draw(count):
        x = torch.randn(sequences, count, length, width, device=device, dtype=torch.bfloat16)
        return x.requires_grad_()

    q, k, v = draw(heads), draw(kv_heads), draw(kv_heads)

    def forward():
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=heads != kv_heads)

    out = forward()
    gradient = torch.randn_like(out)
    with torch.no_grad():
        ahead = seconds_of(forward, device)
    back = seconds_of(lambda: torch.autograd.grad(out, (q, k, v), gradient, retain_graph=True), device)
    return {"forward": ahead, "backward": back}


def try_to_measure(shape, device):
    """A shape that cuDNN refuses does not keep the others away."""
    try:
        return measure(shape, device)
    except RuntimeError as why:
        return {"missing": str(why).splitlines()[0]}


def main(device, *shapes):
    if device == "cuda" and not torch.cuda.is_available():
        print(json.dumps({"missing": f"PyTorch {torch.__version__} sees no GPU"}))
        return
    backend, kernels = "PyTorch's own", contextlib.nullcontext()
    if device == "cuda":
        from torch.nn.attention import SDPBackend, sdpa_kernel

        backend, kernels = f"cuDNN {torch.backends.cudnn.version()}", sdpa_kernel(SDPBackend.CUDNN_ATTENTION)
    with kernels:
        seconds = [try_to_measure([int(n) for n in shape.split(",")], device) for shape in shapes]
    print(json.dumps({"version": torch.__version__, "backend": backend, "seconds": seconds}))


if __name__ == "__main__":
    main(*sys.argv[1:])
