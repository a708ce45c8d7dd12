"""How the oracle tests compare tensors, and count what does not agree."""
import torch

# Relative L2 error of a tensor. fp32: some tens of roundings of 2^-24 = 6e-8 on every path give about 1e-6.
F32_BOUND = 1e-5

failures = 0


def check(condition, message):
    global failures
    if not condition:
        failures += 1
        print(f"failed: {message}")


def largest(values):
    """NaN if there is one: Python's max loses it unless it comes first."""
    return max(values, key=lambda value: (value != value, value))


def relative(a, b):
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


def key_bias(name, tensor):
    """GPT-2's key bias: adds the same to all scores of a row, so its gradient is 0 in theory."""
    return tensor.chunk(3)[1] if name.endswith("c_attn.bias") else None


def without_key_bias(name, tensor):
    """AdamW divides a gradient by its own size, so the noise that stands for 0 becomes steps of that order: not compared."""
    if key_bias(name, tensor) is None:
        return tensor
    q, _, v = tensor.chunk(3)
    return torch.cat((q, v))


def errors(ours, theirs):
    """Relative L2 error of every tensor, without key biases."""
    return {name: relative(without_key_bias(name, ours[name]), without_key_bias(name, t)) for name, t in theirs.items()}
