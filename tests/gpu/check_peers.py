#!/usr/bin/env python3
"""What bench_gpu.py says of PyTorch beside muster, against stand-ins for both; and PyTorch's models against the plain ones.

usage: check_peers.py [--stand-in ANSWER]

With --stand-in: the worker in the place of bench_torch.py; it answers with JSON, or does not answer ("slow"), or breaks
("broken").
"""
import json
import sys
import tempfile
import time
from argparse import Namespace
from pathlib import Path

import gpu_works as works
from bench_gpu import Bench, conclude, measure_torch
from gpu_torch import Torch

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "oracle")]

PARAMETERS, TOKENS, SPEED = 1234, 2 * 64 * 2, 1000.0  # of muster's stand-in; a step's; tokens/s
FIRST = {"version": "9", "losses": [1.0], "fused": True, "attention": "any", "parameters": PARAMETERS}
MEMORY = {"missing": "no room", "memory": True}
failures = []


def stand_in(answer):
    if answer == "broken":
        sys.exit("RuntimeError: it broke")
    if answer == "slow":
        time.sleep(600)
    print("a library talks")
    for line in json.loads(answer):
        print(json.dumps(line), flush=True)
        sys.stdin.readline()


def answers(speed, **first):
    return json.dumps([{**FIRST, **first}, {"seconds": [TOKENS / speed] * 3, "peak_bytes": 2**30}])


class Peer(Torch):
    """Answers of each mode, or of each attempt of a mode."""

    def __init__(self, bench, script):
        super().__init__(bench, "cpu")
        self.script, self.asked = script, []

    def find(self, seconds):
        self.python = sys.executable

    def worker(self, job, work, mode):
        self.asked.append((mode, job["sequences"] // job["leaf"], job["recompute"]))
        said = self.script[mode]
        said = said.pop(0) if isinstance(said, list) else said
        return [sys.executable, "-B", __file__, "--stand-in", said]

    def measure_attention(self, seconds, work):
        pass


def judge(script, share=0.5, limits=None, seconds=60, **work):
    """What is written of one work, and the peer."""
    work = {**works.DRY[0], "peers": limits or dict.fromkeys(script, 30), **work}
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results.md"
        options = Namespace(results=results, end=time.monotonic() + seconds, dry=True)
        bench = Bench(options, Path(folder))
        bench.steps[work["name"]] = {"speed": SPEED, "share": share, "parameters": PARAMETERS}
        peer = Peer(bench, script)
        measure_torch(bench, peer, [work], {"seconds": 30})
        conclude(bench, peer, [work])
        return results.read_text(), peer


def check(what, text, *wanted):
    for words in wanted:
        if words not in text:
            failures.append(f"{what}: no '{words}' in:\n{text}")


def check_verdicts():
    text, _ = judge({"layers": answers(900), "compiled": answers(800)})
    check("slower", text, "muster is 1.111 x; bar 1.00 x the best so far: reached")
    check("slower", text, "| 0.500 | 0.40 | reached | 1.111 x: compiled layer by layer,")
    check("slower", text, "microbatches of 2, nothing computed again | 1.00 | reached | reached, stretch too |")
    text, _ = judge({"layers": answers(900), "compiled": answers(1001)})
    check("faster", text, "muster is 0.999 x", "| 0.999 x: compiled as a whole", "| 1.00 | MISSED | MISSED: beside PyTorch |")
    text, _ = judge({"layers": answers(1000)}, share=0.41)
    check("as fast", text, "| 1.00 | reached | reached |")
    text, _ = judge({"layers": answers(900)}, share=0.39)
    check("below the paper", text, "| 0.390 | 0.40 | MISSED |", "| 1.00 | reached | MISSED: of the paper |")
    text, _ = judge({"layers": answers(2000)}, share=0.39)
    check("below both", text, "| MISSED: of the paper and beside PyTorch |")
    text, _ = judge({"layers": answers(900)}, share=None)
    check("no paper", text, "| no figure on paper | 0.40 | not judged |", "| 1.00 | reached | not judged |")


def check_outcomes():
    text, peer = judge({"layers": [json.dumps([MEMORY])] * 3})
    check("no memory", text, "out of memory: no room", "| PyTorch runs out of memory | 1.00 | not judged | not judged |")
    check("no memory", str(peer.asked), "[('layers', 2, False), ('layers', 2, True), ('layers', 1, True)]")
    text, _ = judge({"layers": [json.dumps([MEMORY]), answers(900)]})
    check("with less memory", text, "microbatches of 2, layers computed again, sdpa", "| 1.00 | reached | reached, stretch too |")
    text, peer = judge({"layers": "broken", "eager": answers(900)})
    check("broken", text, "Not measured: RuntimeError: it broke", "1.111 x: eager")
    text, peer = judge({"layers": answers(900), "eager": "broken"})
    check("not needed", str(peer.asked), "[('layers', 2, False)]")
    text, _ = judge({"layers": answers(500, parameters=PARAMETERS + 1)})
    check("another model", text, "its model has 1,235 parameters, muster's 1,234")
    check("another model", text, "| PyTorch's model is another | 1.00 | not judged | not judged |")
    begin = time.monotonic()
    text, _ = judge({"layers": "slow", "compiled": answers(900)}, limits={"layers": 5, "compiled": 30})
    check("slow", text, "Not measured: not done within 5 s", "1.111 x: compiled as a whole")
    text, _ = judge({"layers": "slow", "compiled": answers(900)}, seconds=6)
    check("the time is up", text, "Not measured: the time of the whole run was up.", "| not done within 6 s | 1.00 | not judged |")
    if time.monotonic() - begin > 500:
        failures.append("what is slow was not ended")


def check_attention():
    label, op = "bf16 16 x 1024, 12/12 heads of 64", "attention_backward"
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results.md"
        bench = Bench(Namespace(results=results, end=0, dry=True), Path(folder))
        bench.copy, bench.product = 4000.0, 700.0
        for name, ms in (("", "4.0"), ("cudnn-9.19.0 ", "2.1")):
            bench.kernels.append({"op": op, "label": name + label, "ms": ms, "of_copy": None, "gflops": None})
        bench.show_kernels()
        Peer(bench, {}).judge_attention(works.ATTENTION, label, "backward", 2.0)
        text = results.read_text()
    check("attention", text, "muster's own is 0.53 x as fast as cudnn-9.19.0's; bar 0.50: reached")
    check("attention", text, "| 2.000 | own | 4.000 | 0.50 x | 0.50 | reached |")
    check("attention", text, "| 2.000 | cudnn-9.19.0 | 2.100 | 0.95 x | 0.97 | MISSED |")


# Of muster's names for what is one weight here, and its parts.
PLAIN = {
    "embedding": "model.embed_tokens", "lm_head": "lm_head", "norm": "model.norm", "norm_1": "input_layernorm",
    "norm_2": "post_attention_layernorm", "out": "self_attn.o_proj", "down": "mlp.down_proj",
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
}  # fmt: skip


def plain_weights(model, shape):
    """A Llama's weights as tests/oracle/decoder.py names them."""
    head_dim = shape["d_model"] // shape["n_heads"]
    kv = shape["n_kv_heads"] * head_dim
    sizes, weights = {"qkv": (shape["d_model"], kv, kv), "gate_up": [shape["d_ff"]] * 2}, {}
    for name, weight in model.named_parameters():
        *layer, kind, _ = name.split(".")
        prefix = f"model.layers.{layer[1]}." if layer else ""
        parts = zip(PLAIN[kind], weight.split(sizes[kind])) if kind in sizes else [(PLAIN[kind], weight)]
        weights.update((f"{prefix}{part}.weight", value) for part, value in parts)
    return weights


def check_models():
    """Llama's logits are those of the plain one with the same weights."""
    import decoder
    import torch
    from torch_models import OWN

    if not hasattr(torch.nn, "RMSNorm"):
        raise ImportError(f"PyTorch {torch.__version__} is too old")
    torch.manual_seed(1)
    shape = works.TINY_LLAMA
    model = OWN["llama"](shape).double()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    tokens = torch.randint(0, shape["vocab_size"], (2, 33))
    c = {"layers": shape["n_layers"], "heads": shape["n_heads"], "kv": shape["n_kv_heads"], "theta": 1e4, "eps": 1e-5}
    c["head_dim"] = shape["d_model"] // shape["n_heads"]
    want = decoder.llama(plain_weights(model, shape), c, tokens)
    for model.recompute in (False, True):
        off = ((model(tokens) - want).norm() / want.norm()).item()
        if not off < 1e-6:  # cosines in fp32
            failures.append(f"Llama's logits are off by {off}")


def main():
    if sys.argv[1:2] == ["--stand-in"]:
        stand_in(sys.argv[2])
        return
    check_verdicts()
    check_outcomes()
    check_attention()
    try:
        check_models()
    except ImportError as missing:
        print(f"not compared: {missing}")
    sys.exit("\n".join(failures) if failures else 0)


if __name__ == "__main__":
    main()
