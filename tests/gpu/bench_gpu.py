#!/usr/bin/env python3
"""muster on a GPU beside what the GPU reaches in the same run, beside PyTorch, and beside the plan.

usage: bench_gpu.py [--dry] CHECK_KERNELS BENCH_STEP MUSTER RESULTS.md

Whole steps of three models, every kernel alone, the fused head, attention beside cuDNN's. Each part is added to RESULTS.md when
it is over, and has a time limit, so that a run that is cut off loses at most the part it is at. What is not there (PyTorch) is
named as missing. Exit status 77: there is no GPU. --dry: tiny sizes, and the kernels of the CPU, to try this program out.
"""
import argparse
import datetime
import json
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import gpu_works as works
from gpu_run import first_line, last_json, run, talk

TESTS = Path(__file__).resolve().parents[1]
KERNEL_LINE = re.compile(
    r"^(?P<op>\w+) +(?P<label>\S.*?) +(?P<ms>[\d.]+) ms(?: +(?P<gbytes>[\d.]+) GB/s \( *(?P<of_copy>\d+) %\))?"
    r"(?: +(?P<gflops>[\d.]+) GFLOP/s \( *(?P<of_product>\d+) %\))?$"
)
PEAK_LINE = re.compile(r"copy (?P<copy>[\d.]+) GB/s; matmul f32 [\d.]+, bf16 (?P<product>[\d.]+) GFLOP/s")


def verdict(reached, stretch=False):
    return ("reached, stretch too" if stretch else "reached") if reached else "MISSED"


def gib(count):
    return f"{count / 2**30:.2f} GiB"


class Bench:
    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        self.device = "cpu" if options.dry else "cuda"  # of kernels alone and of PyTorch
        self.begin = time.monotonic()
        self.copy = self.product = None  # GB/s, TFLOP/s of the same run
        self.kernels, self.speeds = [], {}  # lines of check_kernels; tokens/s of muster's steps
        self.python = None  # that has PyTorch

    # ---- parts and results ----

    def write(self, *lines):
        print("\n".join(lines), flush=True)
        with open(self.options.results, "a", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")

    def part(self, title, seconds, measure, *args):
        begin = time.monotonic()
        seconds = min(seconds, works.TOTAL_SECONDS - (begin - self.begin))
        self.write("", f"### {title}", "")
        if seconds < 5:
            self.write("Not measured: the time of the whole run was up.")
            return
        try:
            measure(seconds, *args)
        except (RuntimeError, OSError, ValueError, LookupError, ArithmeticError) as why:
            self.write(f"Not measured: {why}")
        self.write("", f"({time.monotonic() - begin:.0f} s)")

    # ---- kernels ----

    def measure_kernels(self, seconds):
        brief = ["--brief"] if self.options.dry else []
        code, text = run([self.options.check, "--table", self.device, "--bench", *brief], seconds)
        for line in text.splitlines():
            if peak := PEAK_LINE.search(line):
                self.copy, self.product = float(peak["copy"]), float(peak["product"]) / 1e3
            elif found := KERNEL_LINE.match(line):
                self.kernels.append(found.groupdict())
        self.show_kernels()
        if code != 0:
            why = "its time was up" if code is None else f"exit status {code}: {text.strip().splitlines()[-1]}"
            self.write("", f"Not all kernels were measured: {why}")

    def show_kernels(self):
        if not self.copy:
            raise RuntimeError("check_kernels has not said its peaks")
        self.write(
            f"A copy moves {self.copy:,.0f} GB/s, a large bf16 product runs at {self.product:,.1f} TFLOP/s: percentages are of"
            " these. Bytes are counted, not measured.",
            "",
            "| kernel | of | ms | GB/s | | TFLOP/s | | bar | |",
            "|---|---|---|---|---|---|---|---|---|",
        )
        for k in self.kernels:
            bar, of_copy = works.BANDWIDTH_BARS.get(k["op"]), k["of_copy"]
            moved = f"{float(k['gbytes']):,.0f} | {of_copy} %" if of_copy else " | "
            computed = f"{float(k['gflops']) / 1e3:,.2f} | {k['of_product']} %" if k["gflops"] else " | "
            judged = f"{bar:.2f} | {verdict(int(of_copy) >= 100 * bar)}" if bar and of_copy else " | "
            self.write(f"| {k['op']} | {k['label']} | {k['ms']} | {moved} | {computed} | {judged} |")

    # ---- whole steps ----

    def config(self, work, settings):
        """Writes the config of a work and returns its path."""
        rows = settings["batch.micro"] * work["seq_len"]
        config = {
            "run": {"name": "bench", "steps": 1000000, "seed": 1},
            "model": work["model"],
            "data": {"sources": ["none.h5"], "seq_len": work["seq_len"]},
            "batch": {"micro": settings["batch.micro"], "leaf": work["leaf"], "lanes": 1, "rounds": 1},
            "optimizer": {"moments": settings.get("optimizer.moments", "f32")},
            "schedule": {"kind": "constant", "peak": 3e-4, "warmup": 0},
            "train": {
                "precision": "bf16",
                "recompute": settings.get("train.recompute", "none"),
                "head_rows": settings.get("train.head_rows", max(rows // 16, 1)),
            },
            "checkpoint": {"async": False},
            "device": {"kernels": "cuda"},
        }
        path = self.folder / "config.yaml"
        path.write_text(json.dumps(config))  # JSON is YAML
        return path

    def choose(self, work):
        """The first settings of a work that fit: their config, its planned memory, the settings."""
        query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
        mib = first_line(query, "")
        limit = ["--memory", f"{mib}MiB"] if mib else []
        for settings in work["choices"]:
            config = self.config(work, settings)
            plan = last_json(run([self.options.muster, "plan", config, "--flops", "1e15", "--json", *limit], 60)[1])
            if plan["fits"]:
                return config, plan["memory"], settings
        raise RuntimeError(f"no choice fits {mib} MiB")

    def measure_steps(self, seconds, work):
        config, planned, settings = self.choose(work)
        warm, timed = work["steps"]
        orders = [f"steps {warm}", f"steps {timed}", ""]
        _, said, clocked = talk([self.options.step, config], orders, seconds)
        speed = self.speeds[work["name"]] = said["tokens"] / median(said["seconds"])
        flops = speed * said["flops_per_token"] / 1e12
        rows = settings["batch.micro"] * work["seq_len"]
        text = ", ".join(f"{key} {value}" for key, value in settings.items())
        least, most = (said["tokens"] / choice(said["seconds"]) for choice in (max, min))
        self.write(
            f"{said['device']}; bf16, sequences of {work['seq_len']}, {said['tokens']:,} random tokens a step, batch.leaf"
            f" {work['leaf']}, {text}, train.head_rows {max(rows // 16, 1)}. {timed} steps after {warm}; loss"
            f" {said['loss']:.4f}.",
            "",
            f"- {speed:,.0f} tokens/s ({least:,.0f} to {most:,.0f}); {flops:,.1f} TFLOP/s of causal FLOPs without the input"
            " embedding",
        )
        self.judge_speed(work, said["device"], flops)
        self.judge_memory(planned, said)
        self.show_shares(clocked)

    def judge_speed(self, work, device, flops):
        bar, stretch = work["bar"], work["stretch"]
        paper = next((value for name, value in works.PAPER.items() if name in device), None)
        if paper:
            share = flops / paper
            judged = verdict(share >= bar, share >= stretch)
            self.write(f"- {share:.3f} of {paper:.0f} TFLOP/s on paper; bar {bar:.2f}, stretch {stretch:.2f}: {judged}")
        else:
            self.write(f"- bar {bar:.2f} of the TFLOP/s on paper, which are not known for this device")
        if self.product:
            self.write(f"- {flops / self.product:.3f} of the large product of this run ({self.product:,.1f} TFLOP/s)")

    def judge_memory(self, planned, said):
        own, before, used = planned["device"] - planned["driver"], said["gpu_before"], said["gpu_bytes"]
        off = (own + before) / used - 1
        self.write(
            f"- memory in use: {gib(used)}, of which {gib(before)} before muster's own; planned {gib(own)} of its own: together"
            f" {100 * off:+.2f} % off; bar {100 * works.MEMORY_BAR:.0f} %: {verdict(abs(off) <= works.MEMORY_BAR)}"
        )

    def show_shares(self, clocked):
        kernels = sorted(clocked["kernels"].items(), key=lambda item: -item[1]["seconds"])
        total = sum(kernel["seconds"] for _, kernel in kernels)
        shares = [(name, kernel["seconds"] / total) for name, kernel in kernels]
        names = ", ".join(f"{name} {100 * share:.1f} %" for name, share in shares if share > 0.005)
        self.write(
            f"- in a step whose kernels wait for each other, of {1e3 * clocked['step_seconds']:,.1f} ms: {names}; its matrix"
            f" products alone, once more: {1e3 * clocked['products_seconds']:,.1f} ms"
        )

    # ---- linear and cross-entropy: logits of some rows at a time against all at once ----

    def measure_head(self, seconds, work):
        rows, end = work["settings"]["batch.micro"] * work["seq_len"], time.monotonic() + seconds
        some, (warm, timed) = rows // 16, work["steps"]
        took = {}
        for at_once in (rows, some):
            config = self.config(work, {**work["settings"], "train.head_rows": at_once})
            orders = [f"steps {warm}", f"steps {timed}"]
            took[at_once] = 1e3 * min(talk([self.options.step, config], orders, end - time.monotonic())[1]["seconds"])
        share, model = took[rows] / took[some], work["model"]
        self.write(
            f"A step of one layer of {model['d_model']} and {model['vocab_size']:,} tokens, best of {timed}: logits of all"
            f" {rows:,} rows at once {took[rows]:.2f} ms, of {some:,} at a time {took[some]:.2f} ms: {share:.3f} of the speed"
            f" with 1/16 of the memory; bar {work['bar']:.2f}: {verdict(share >= work['bar'])}"
        )

    # ---- PyTorch ----

    def find_torch(self):
        """The first Python that has it, 2.0 or newer; RuntimeError where none has."""
        oracles = Path(os.environ.get("MUSTER_ORACLES", Path.home() / ".cache/muster/oracles")) / "bin/python"
        look = "import sys, torch; sys.exit(int(torch.__version__.split('.')[0]) < 2)"
        for python in (sys.executable, oracles):
            if self.python is None and Path(python).exists() and run([python, "-c", look], 60)[0] == 0:
                self.python = python
        if self.python is None:
            raise RuntimeError("PyTorch is missing")

    def measure_torch(self, seconds, work):
        self.find_torch()
        settings = self.choose(work)[2]
        sequences, mode = settings["batch.micro"] * work["leaf"], "eager" if self.options.dry else "compiled"
        job = {
            **works.RECIPE, "device": self.device, "shape": work["model"], "seq_len": work["seq_len"], "leaf": work["leaf"],
            "sequences": sequences, "losses": 2, "threads": 1,
        }  # fmt: skip
        path = self.folder / "job.json"
        path.write_text(json.dumps(job))
        command = [self.python, "-B", TESTS / "oracle/bench_torch.py", path, "bf16", mode]
        answers = talk(command, [None, str(work["steps"][1])], seconds)
        if "missing" in answers[0]:
            raise RuntimeError(answers[0]["missing"])
        first, said = answers
        speed, own = sequences * work["seq_len"] / median(said["seconds"]), self.speeds.get(work["name"])
        beside = f"; muster is {own / speed:.2f} x" if own else ""
        fused = "fused" if first["fused"] else "plain"
        self.write(
            f"PyTorch {first['version']}, {mode}, sdpa, {fused} AdamW, the same batch: {speed:,.0f} tokens/s,"
            f" {gib(said['peak_bytes'])}{beside}"
        )

    def measure_attention(self, seconds, work):
        self.find_torch()
        shapes = [",".join(map(str, shape)) for shape in work["shapes"]]
        command = [self.python, "-B", Path(__file__).with_name("torch_attention.py"), self.device, *shapes]
        said = last_json(run(command, seconds)[1])
        if "missing" in said:
            raise RuntimeError(said["missing"])
        self.write(
            f"{said['backend']}, by PyTorch {said['version']}; bf16.",
            "",
            "| attention | pass | its ms | muster's ms | muster's speed is | bar | |",
            "|---|---|---|---|---|---|---|",
        )
        for shape, both in zip(work["shapes"], said["seconds"]):
            for way, seconds_of in zip(("forward", "backward"), both):
                self.judge_attention(work["bar"], "bf16 {} x {}, {}/{} heads of {}".format(*shape), way, 1e3 * seconds_of)

    def judge_attention(self, bar, label, way, theirs):
        own = next((k["ms"] for k in self.kernels if k["op"] == f"attention_{way}" and k["label"] == label), None)
        judged = "not measured | | | "
        if own:
            share = theirs / float(own)
            judged = f"{own} | {share:.2f} x | {bar:.2f} | {verdict(share >= bar)}"
        self.write(f"| {label} | {way} | {theirs:.3f} | {judged} |")


def heading(options):
    """Date, GPU, driver, commit."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    gpu = first_line(query, "no GPU: tried out with tiny sizes" if options.dry else "a GPU without nvidia-smi")
    commit = first_line(["git", "-C", TESTS, "rev-parse", "--short", "HEAD"], "unknown")
    return f"## {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}, {gpu}, commit {commit}: `./run bench-gpu`"


def parse():
    usage, text = __doc__.split("\n\n")[1:3]
    parser = argparse.ArgumentParser(usage=usage.removeprefix("usage: "), description=text)
    parser.add_argument("--dry", action="store_true")
    for name in ("check", "step", "muster", "results"):
        parser.add_argument(name, type=Path)
    return parser.parse_args()


def measure_all(bench, dry):
    everything = works.DRY if dry else works.WORKS
    head, attention = (works.DRY_HEAD, works.DRY_ATTENTION) if dry else (works.HEAD, works.ATTENTION)
    bench.part("Kernels", works.KERNELS["seconds"], bench.measure_kernels)
    for work in everything:
        bench.part(work["name"], work["seconds"], bench.measure_steps, work)
    bench.part("Linear and cross-entropy", head["seconds"], bench.measure_head, head)
    bench.part("Attention beside cuDNN", attention["seconds"], bench.measure_attention, attention)
    for work in everything:
        if work["torch"]:
            bench.part(f"{work['name']} by PyTorch", work["torch"], bench.measure_torch, work)


def main():
    options = parse()
    if not options.dry:
        code, text = run([options.check, "--table", "cuda", "--op", "cast"], 60)
        if code == 77:
            print(text.strip())
            sys.exit(77)
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as folder:
        bench = Bench(options, Path(folder))
        bench.write("", heading(options))
        measure_all(bench, options.dry)
        bench.write("", f"All parts: {time.monotonic() - bench.begin:.0f} s.")


if __name__ == "__main__":
    main()
