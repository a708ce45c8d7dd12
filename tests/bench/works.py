"""Whole training steps: muster's own, PyTorch's, and the step's matrix products alone, in turns."""
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import median

from machine import Worker

HERE = Path(__file__).resolve().parent
ORACLES = Path(os.environ.get("MUSTER_ORACLES", Path.home() / ".cache/muster/oracles"))
PYTHONS = {"newest": ORACLES / "bin/python", "Debian": Path("/usr/bin/python3")}

GPT2 = {"family": "gpt2", "vocab_size": 50257, "d_model": 768, "n_layers": 12, "n_heads": 12, "d_ff": 3072, "max_seq_len": 1024}
SMOLLM2 = {
    "family": "llama", "vocab_size": 49152, "d_model": 576, "n_layers": 30, "n_heads": 9, "n_kv_heads": 3, "d_ff": 1536,
    "max_seq_len": 8192, "norm_eps": 1e-5, "rope_theta": 1e5, "tie_embeddings": True,
}  # fmt: skip
QUICKSTART = {
    "family": "llama", "vocab_size": 4096, "d_model": 128, "n_layers": 4, "n_heads": 4, "n_kv_heads": 2, "d_ff": 352,
    "max_seq_len": 512, "init_deviation": 0.06,
}  # fmt: skip
# Bars of the ratio to the best PyTorch, and of the share of the products' own speed; the same for the stretch. `steps` of a
# round. `attention`: its operations are part of what the products' speed is held against.
WORKS = {
    "gpt2-bf16": {"title": "GPT-2 124M, 4 x 256, bf16", "model": GPT2, "micro": 4, "seq_len": 256, "precision": "bf16",
                  "bar": (1.5, 0.80), "stretch": (2.0, 0.88), "peers": ("eager", "compiled", "Debian"), "steps": 3},
    "gpt2-f32": {"title": "GPT-2 124M, 4 x 256, fp32", "model": GPT2, "micro": 4, "seq_len": 256, "precision": "f32",
                 "bar": (1.5, 0.85), "stretch": (None, 0.92), "peers": ("eager", "compiled", "Debian"), "steps": 3},
    "gpt2-long": {"title": "GPT-2 124M, 1 x 1024, bf16", "model": GPT2, "micro": 1, "seq_len": 1024, "precision": "bf16",
                  "bar": (1.5, 0.80), "stretch": (2.0, None), "peers": ("eager", "compiled"), "steps": 3, "attention": True},
    "smollm2": {"title": "SmolLM2-135M, 4 x 256, bf16", "model": SMOLLM2, "micro": 4, "seq_len": 256, "precision": "bf16",
                "bar": (1.5, 0.80), "stretch": (2.0, None), "peers": ("eager", "compiled"), "steps": 3},
    "quickstart": {"title": "quickstart, 8 x 512, bf16", "model": QUICKSTART, "micro": 2, "lanes": 4, "seq_len": 512,
                   "precision": "bf16", "bar": (2.0, 0.60), "stretch": (3.0, None), "peers": ("eager", "compiled"), "steps": 12},
}  # fmt: skip
RECIPE = {"weight_decay": 0.1, "beta1": 0.9, "beta2": 0.95, "eps": 1e-8}
RATE, CLIP, SEED, LOSSES = 3e-4, 1.0, 1, 4
# Relative, of the mean loss. fp32: sums in another order, 1e-6; AdamW's first steps turn the noise of gradients near 0 into
# steps of full length. bf16: PyTorch's autocast keeps the residual stream and LayerNorm's result in fp32, muster rounds them to 8
# bits, which leaves 2^-9 in each of some thousand logits, either way; and the same of AdamW.
FIRST_BOUND = {"f32": 1e-5, "bf16": 2e-3}
LATER_BOUND = {"f32": 1e-3, "bf16": 1e-2}


def run(*command, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, **options)
    if done.returncode != 0:
        sys.exit(f"bench: exit code {done.returncode}: {' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def build_tokens(muster, folder):
    """Numbers and their sums, as bytes: what the tokens are does not change the work."""
    path = folder / "tokens.h5"
    if not path.exists():
        text = "".join(f"{i} and {i % 977} make {i + i % 977}.\n" for i in range(20000))
        (folder / "text.txt").write_text(text)
        run(muster, "data", "build", folder / "text.txt", "--heldout", "0", "-o", path)
    return path


def write_config(name, work, options, folder):
    """JSON is YAML."""
    tokens = build_tokens(options.build / "coordinator/muster", folder)
    config = {
        "run": {"name": name, "steps": 1000000, "seed": SEED},
        "model": work["model"],
        "data": {"sources": [str(tokens)], "seq_len": work["seq_len"]},
        "batch": {"micro": work["micro"], "leaf": 1, "lanes": work.get("lanes", 1), "rounds": 1},
        "optimizer": {**RECIPE, "clip_norm": CLIP},
        "schedule": {"kind": "constant", "peak": RATE, "warmup": 0},
        "train": {"precision": work["precision"]},
        "checkpoint": {"every": 0, "minutes": 0, "async": False},  # PyTorch keeps no copy to save from either
        "device": {"threads": options.threads},
    }
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps(config))
    return path


class Muster:
    """`muster train` itself, started anew for each round; its first step warms up."""

    def __init__(self, config, options, folder):
        self.config, self.folder = config, folder / "run"
        self.muster = options.build / "coordinator/muster"

    def train(self, steps, *settings):
        shutil.rmtree(self.folder, ignore_errors=True)
        words = [word for setting in (f"run.steps={steps}", *settings) for word in ("--set", setting)]
        run(self.muster, "train", self.config, "--run", self.folder, *words)
        lines = [json.loads(line) for line in (self.folder / "metrics.jsonl").read_text().splitlines()]
        return [line for line in lines if line["event"] == "step"]

    def start(self):
        """The weights before the first step: those after a step of no length."""
        self.train(1, "schedule.peak=1e-30")
        (checkpoint,) = (self.folder / "checkpoints").iterdir()
        kept = self.folder.parent / f"{self.config.stem}.checkpoint"
        shutil.rmtree(kept, ignore_errors=True)
        shutil.move(checkpoint, kept)
        return kept

    def round(self, steps):
        lines = self.train(steps + 1)
        return {"seconds": [m["step_seconds"] for m in lines[1:]], "peak_bytes": lines[-1]["peak_rss_bytes"],
                "flops": lines[-1]["gflops"] * 1e9 * lines[-1]["step_seconds"]}  # fmt: skip


class Torch:
    """A peer; `missing` says why it is not there."""

    def __init__(self, name, job, precision, options):
        python = PYTHONS["Debian" if name == "Debian" else "newest"]
        self.name, self.missing, self.worker = name, None, None
        if not python.exists():
            self.missing = f"no {python}; ./run test installs it"
            return
        mode = "compiled" if name == "compiled" else "eager"
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(options.out.resolve() / "inductor")}
        script = HERE.parent / "oracle/bench_torch.py"
        command = [python, "-B", script, job, precision.replace("f32", "fp32"), mode]
        self.worker = Worker(command, env=environment)
        said = self.worker.hear()
        self.missing = said.get("missing")
        self.losses, self.version = said.get("losses"), said.get("version")
        if not self.missing:
            words = {"eager": "eager", "compiled": "compiled", "Debian": "eager"}
            self.name = f"PyTorch {self.version.split('+')[0]} {words[name]}"

    def round(self, steps):
        return self.worker.ask(steps)

    def close(self):
        if self.worker:
            self.worker.close()


def check_losses(title, precision, ours, peer):
    """Both do the same work, or there is nothing to compare."""
    off = [abs(a / b - 1) for a, b in zip(ours, peer.losses)]
    if not (off[0] <= FIRST_BOUND[precision] and max(off) <= LATER_BOUND[precision]):
        sys.exit(f"bench: {title}: the losses of {peer.name} {peer.losses} are not those of muster {ours}")
    print(f"{title}: losses of {len(off)} steps beside {peer.name}: first off by {off[0]:.1e}, worst {max(off):.1e}", flush=True)
    return off


def write_job(name, work, checkpoint, options, folder):
    path = folder / f"{name}.json"
    sequences = work["micro"] * work.get("lanes", 1)
    job = {"model": str(checkpoint), "tokens": str(folder / "tokens.h5"), "seed": SEED, "seq_len": work["seq_len"],
           "sequences": sequences, "losses": LOSSES, "threads": options.threads, "rate": RATE, "clip": CLIP, **RECIPE}  # fmt: skip
    path.write_text(json.dumps(job))
    return path


def rounds_of(work, players, steps_worker, machine, options):
    """{name: [answer of each round]}, the first round left out."""
    found = {name: [] for name in (*players, "products")}
    for number in range(options.rounds):
        machine.sample()
        for name, player in players.items():
            found[name].append(player.round(work["steps"]))
        found["products"].append(steps_worker.ask())
        speeds = ", ".join(f"{n} {work['tokens'] / median(found[n][-1]['seconds']):.0f}" for n in players)
        print(f"  round {number}{' (thrown away)' if number == 0 else ''}: tokens/s: {speeds}", flush=True)
    return {name: answers[1:] for name, answers in found.items()}


def row_of(name, work, found, peers, missing, machine):
    """What the table and the picture show of a work."""
    tokens = work["tokens"]
    players = {n: answers for n, answers in found.items() if n != "products"}
    speeds = {n: [tokens / median(a["seconds"]) for a in answers] for n, answers in players.items()}
    middle = {n: median(s) for n, s in speeds.items()}
    step, flops = tokens / middle["muster"], median(a["flops"] for a in found["muster"])
    products = median(a["products_seconds"] for a in found["products"])
    counted = found["products"][-1]["kernels"]["matmul"]["flops"]
    model = work["model"]
    causal = 6 * model["n_layers"] * model["d_model"] * work["seq_len"] * tokens
    bound = products * (1 + causal / counted) if work.get("attention") else products
    share, best = bound / step, max((middle[p] for p in peers), default=None)
    ratio = middle["muster"] / best if best else None
    dtype = work["precision"]
    return {
        "part": "model", "name": name, "title": work["title"], "unit": "tokens/s",
        "players": {n: {"median": middle[n], "low": min(s), "high": max(s),
                        "peak_bytes": max(a["peak_bytes"] for a in players[n])} for n, s in speeds.items()},
        "missing": missing,
        "gflops_causal": flops / step / 1e9, "gflops_full": (flops + causal) / step / 1e9,
        "products_gflops": counted / products / 1e9, "bound": tokens / bound,
        "share_of_products": share, "share_of_peak": flops / step / 1e9 / machine.peak(dtype), "ratio": ratio,
        "bar": work["bar"], "stretch": work["stretch"],
        "reached": reached(ratio, share, work["bar"]), "stretch_reached": reached(ratio, share, work["stretch"]),
        "update": update_of(players, median_kernels(found["products"])),
        "kernels": median_kernels(found["products"]), "products": found["products"][-1]["products"],
    }  # fmt: skip


def update_of(players, kernels):
    """Seconds of the gradient's norm, clip and AdamW of each."""
    own = kernels["adamw"]["seconds"] + kernels["ordered_sum"]["seconds"]
    return {"muster": own} | {n: median(median(a["update"]) for a in answers) for n, answers in players.items() if n != "muster"}


def reached(ratio, share, bars):
    """The ratio to PyTorch or the share of the products' speed, whichever asks for less."""
    return any(value is not None and bar is not None and value >= bar for value, bar in zip((ratio, share), bars))


def median_kernels(answers):
    """Each kernel's seconds within a step: the median of the rounds."""
    return {
        name: {**kernel, "seconds": median(a["kernels"][name]["seconds"] for a in answers)}
        for name, kernel in answers[-1]["kernels"].items()
    }


def llm_c(work):
    """llm.c's train_gpt2, where LLMC= names a built one: its own batch, so its own tokens a step."""
    program = os.environ.get("LLMC")
    if not program:
        return None, "llm.c: LLMC= names no built train_gpt2"
    tokens = int(os.environ.get("LLMC_TOKENS", 4 * 64))
    done = subprocess.run(["timeout", "120", program], cwd=Path(program).parent, capture_output=True, text=True, check=False)
    took = [float(line.split("took ")[1].split()[0]) for line in done.stdout.splitlines() if "took " in line]
    if len(took) < 3:
        return None, f"llm.c: {program} printed no steps"
    return tokens / (median(took[1:]) / 1e3), None


def measure(name, options, machine, folder):
    work = {**WORKS[name]}
    work["tokens"] = work["micro"] * work.get("lanes", 1) * work["seq_len"]
    config = write_config(name, work, options, folder)
    muster = Muster(config, options, folder)
    job = write_job(name, work, muster.start(), options, folder)
    losses = [m["loss"] for m in muster.train(LOSSES)]
    found, missing = [Torch(peer, job, work["precision"], options) for peer in work["peers"]], []
    peers = {peer.name: peer for peer in found if not peer.missing}
    missing += [f"PyTorch {peer.name}: {peer.missing}" for peer in found if peer.missing]
    off = {n: check_losses(work["title"], work["precision"], losses, peer) for n, peer in peers.items()}
    steps_worker = Worker([options.build / "tests/bench/bench_step", config])
    try:
        answers = rounds_of(work, {"muster": muster, **peers}, steps_worker, machine, options)
    finally:
        for worker in (steps_worker, *found):
            worker.close()
    row = row_of(name, work, answers, peers, missing, machine)
    row["losses_off"] = off
    if name == "gpt2-f32":
        speed, why = llm_c(work)
        row["missing"] += [why] if why else []
        if speed:
            row["players"]["llm.c (its own batch)"] = {"median": speed, "low": speed, "high": speed, "peak_bytes": 0}
    return [row]
