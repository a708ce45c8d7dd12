#!/usr/bin/env python3
"""muster on a GPU beside what the GPU reaches in the same run, beside PyTorch, and beside the plan.

usage: bench_gpu.py [--dry] [--seconds N] CHECK_KERNELS BENCH_STEP MUSTER RESULTS.md

Every kernel alone, whole steps of three models, the fused head; then attention beside cuDNN's and the same steps by PyTorch, so
that its compiling takes no time from muster's own figures. Each part is added to RESULTS.md when it is over, and has a time
limit, so that a run that is cut off loses at most the part it is at; --seconds: all of them together. What is not there (PyTorch)
is named as missing. Exit status 77: there is no GPU. --dry: tiny sizes, and the kernels of the CPU, to try this program out.
"""
import argparse
import datetime
import json
import os
import re
import signal
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import gpu_works as works
from gpu_run import first_line, last_json, run, talk
from gpu_torch import MODES, Torch, gib
from gpu_verdict import table, verdict

TESTS = Path(__file__).resolve().parents[1]
KERNEL_LINE = re.compile(
    r"^(?P<op>\w+) +(?P<label>\S.*?) +(?P<ms>[\d.]+) ms(?: +(?P<gbytes>[\d.]+) GB/s \( *(?P<of_copy>\d+) %\))?"
    r"(?: +(?P<gflops>[\d.]+) GFLOP/s \( *(?P<of_product>\d+) %\))?$"
)
PEAK_LINE = re.compile(r"copy (?P<copy>[\d.]+) GB/s; matmul f32 [\d.]+, bf16 (?P<product>[\d.]+) GFLOP/s")


class Bench:
    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        self.copy = self.product = None  # GB/s, TFLOP/s of the same run
        self.kernels = []  # lines of check_kernels
        self.taken, self.steps = {}, {}  # of each work: the settings that it was done with, and what was seen
        mib = first_line(["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"], "")
        self.limit = ["--memory", f"{mib}MiB"] if mib.isdigit() else []  # of a plan

    # ---- parts and results ----

    def write(self, *lines):
        print("\n".join(lines), flush=True)
        with open(self.options.results, "a", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")

    def part(self, title, seconds, measure, *args):
        begin = time.monotonic()
        seconds = min(seconds, self.options.end - begin)
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
        device = "cpu" if self.options.dry else "cuda"
        code, text = run([self.options.check, "--table", device, "--bench", *brief], seconds)
        for line in text.splitlines():
            if peak := PEAK_LINE.search(line):
                self.copy, self.product = float(peak["copy"]), float(peak["product"]) / 1e3
            elif found := KERNEL_LINE.match(line):
                self.kernels.append(found.groupdict())
        self.show_kernels()
        if code != 0:
            why = "its time was up" if code is None else f"exit status {code}: {text.strip()[-400:]}"
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
            judged = f"{bar:.2f} | {verdict(float(k['gbytes']) >= bar * self.copy)}" if bar and of_copy else " | "
            self.write(f"| {k['op']} | {k['label']} | {k['ms']} | {moved} | {computed} | {judged} |")
        for k in self.kernels:
            self.show_beside_library(k)

    def kernel_ms(self, op, label):
        """How long a kernel took; None: it was not measured."""
        return next((float(k["ms"]) for k in self.kernels if k["op"] == op and k["label"] == label), None)

    def attention_library(self):
        """The library whose attention muster calls, as the kernels' lines name it; "": there is none."""
        names = [k["label"].partition(" ")[0] for k in self.kernels]
        return next((name for name in names if name.startswith("cudnn-")), "")

    def show_beside_library(self, theirs):
        """Our own attention beside the library's that muster calls, where a line is the library's."""
        library, _, label = theirs["label"].partition(" ")
        own = self.kernel_ms(theirs["op"], label) if library == self.attention_library() else None
        if own:
            share, bar = float(theirs["ms"]) / own, works.ATTENTION["bar"]
            judged = verdict(share >= bar)
            self.write("", f"- {theirs['op']} of {label}: muster's own is {share:.2f} x as fast as {library}'s; bar {bar:.2f}: {judged}")

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
            "device": {"kernels": "cuda", "attention_workspace": 2048 if self.attention_library() else 0},
        }
        path = self.folder / "config.yaml"
        path.write_text(json.dumps(config))  # JSON is YAML
        return path

    def choices(self, work, end):
        """Those of a work's settings that fit: (config, its plan, the settings)."""
        for settings in work["choices"]:
            config = self.config(work, settings)
            command = [self.options.muster, "plan", config, "--flops", "1e15", "--json", *self.limit]
            plan = last_json(run(command, end - time.monotonic())[1])
            if plan["fits"]:
                yield config, plan, settings

    def settings_of(self, work):
        """Those that its steps were done with; the first where none were."""
        return self.taken.get(work["name"], work["choices"][0])

    def measure_steps(self, seconds, work):
        end, (warm, timed) = time.monotonic() + seconds, work["steps"]
        orders, why = [f"steps {warm}", f"steps {timed}", ""], "no choice fits by its plan"
        for config, plan, settings in self.choices(work, end):
            answers, why = talk([self.options.step, config], orders, end - time.monotonic())
            if len(answers) >= 2:
                self.taken[work["name"]] = settings
                self.show_steps(work, plan, settings, answers[1])
                if len(answers) > 2:
                    self.show_shares(answers[2])
                else:
                    self.write(f"- its kernels were not measured: {why}")
                return
            if "cannot allocate" not in why and "out of memory" not in why:
                break
            self.write(f"{self.describe(settings)} fits by its plan, but not in fact: {why}", "")
        raise RuntimeError(why)

    @staticmethod
    def describe(settings):
        """What a user would like to know of the settings of a work."""
        moments, again = settings.get("optimizer.moments", "f32"), settings.get("train.recompute", "none")
        return (
            f"batch.micro {settings['batch.micro']}, weights bf16, gradients and masters f32, moments {moments}, train.recompute"
            f" {again}"
        )

    def show_steps(self, work, plan, settings, said):
        speed = said["tokens"] / median(said["seconds"])
        flops = speed * said["flops_per_token"] / 1e12
        rows = settings["batch.micro"] * work["seq_len"]
        least, most = (said["tokens"] / choice(said["seconds"]) for choice in (max, min))
        self.write(
            f"{said['device']}; bf16, sequences of {work['seq_len']}, {said['tokens']:,} random tokens a step, batch.leaf"
            f" {work['leaf']}, {self.describe(settings)}, train.head_rows {max(rows // 16, 1)}. {len(said['seconds'])} steps"
            f" after {work['steps'][0]}; loss {said['loss']:.4f}.",
            "",
            f"- {speed:,.0f} tokens/s ({least:,.0f} to {most:,.0f}); {flops:,.1f} TFLOP/s of causal FLOPs without the input"
            " embedding",
        )
        share = self.judge_speed(work, said["device"], flops)
        self.steps[work["name"]] = {"speed": speed, "share": share, "parameters": plan["parameters"]}
        self.judge_memory(plan["memory"], said)

    def judge_speed(self, work, device, flops):
        """The share of the TFLOP/s on paper, None where these are not known."""
        bar, stretch = work["bar"], work["stretch"]
        paper = next((value for name, value in works.PAPER.items() if name in device), None)
        share = flops / paper if paper else None
        if paper:
            judged = verdict(share >= bar, share >= stretch)
            self.write(f"- {share:.3f} of {paper:.0f} TFLOP/s on paper; bar {bar:.2f}, stretch {stretch:.2f}: {judged}")
        else:
            self.write(f"- bar {bar:.2f} of the TFLOP/s on paper, which are not known for this device")
        if self.product:
            self.write(f"- {flops / self.product:.3f} of the large product of this run ({self.product:,.1f} TFLOP/s)")
        return share

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
            answers, why = talk([self.options.step, config], orders, end - time.monotonic())
            if why:
                raise RuntimeError(f"logits of {at_once:,} rows: {why}")
            took[at_once] = 1e3 * min(answers[1]["seconds"])
        share, model = took[rows] / took[some], work["model"]
        self.write(
            f"A step of one layer of {model['d_model']} and {model['vocab_size']:,} tokens, best of {timed}: logits of all"
            f" {rows:,} rows at once {took[rows]:.2f} ms, of {some:,} at a time {took[some]:.2f} ms: {share:.3f} of the speed"
            f" with 1/16 of the memory; bar {work['bar']:.2f}: {verdict(share >= work['bar'])}"
        )


def heading(options):
    """Date, GPU, driver, commit."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    gpu = first_line(query, "no GPU: tried out with tiny sizes" if options.dry else "a GPU without nvidia-smi")
    commit = os.environ.get("MUSTER_COMMIT") or first_line(["git", "-C", TESTS, "rev-parse", "--short", "HEAD"], "unknown")
    return f"## {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}, {gpu}, commit {commit}: `./run bench-gpu`"


def parse():
    usage, text = __doc__.split("\n\n")[1:3]
    parser = argparse.ArgumentParser(usage=usage.removeprefix("usage: "), description=text)
    parser.add_argument("--dry", action="store_true")
    parser.add_argument("--seconds", type=float, default=works.TOTAL_SECONDS)
    for name in ("check", "step", "muster", "results"):
        parser.add_argument(name, type=Path)
    options = parser.parse_args()
    options.end = time.monotonic() + options.seconds
    return options


def measure_own(bench, everything, head):
    bench.part("Kernels", works.KERNELS["seconds"], bench.measure_kernels)
    for work in everything:
        bench.part(work["name"], work["seconds"], bench.measure_steps, work)
    bench.part("Linear and cross-entropy", head["seconds"], bench.measure_head, head)


def measure_torch(bench, torch, everything, attention):
    """What is soonest done first; PyTorch without its compiler only where that has come to nothing."""
    bench.part("PyTorch", works.FIND_SECONDS, torch.find)
    if torch.python is None:
        return
    bench.part("Attention beside cuDNN", attention["seconds"], torch.measure_attention, attention)
    for mode in ("layers", "eager", "compiled"):
        for work in everything:
            again = mode == "eager" and work["name"] in torch.best
            if mode in work["peers"] and not again:
                title = f"{work['name']} by PyTorch, {MODES[mode]}"
                bench.part(title, work["peers"][mode], torch.measure_steps, work, mode)


def conclude(bench, torch, everything):
    shares = {}
    for work in everything:
        seen = bench.steps.get(work["name"], {"share": None})
        words = "not measured" if "speed" not in seen else "no figure on paper"
        if seen["share"] is not None:
            words = f"{seen['share']:.3f}"
        shares[work["name"]] = seen["share"], words
    ratios = {work["name"]: torch.ratio(work) for work in everything}
    bench.write("", "### Whole steps", "", *table(everything, shares, ratios))


def main():
    options = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench-gpu: it was told to end"))  # and ends what it has started
    if not options.dry:
        code, text = run([options.check, "--table", "cuda", "--op", "cast"], min(60, options.seconds))
        if code == 77:
            print(text.strip())
            sys.exit(77)
        if code is None:
            sys.exit("bench-gpu: the time was up before it was known whether there is a GPU; give --seconds more")
    everything = works.DRY if options.dry else works.WORKS
    head, attention = (works.DRY_HEAD, works.DRY_ATTENTION) if options.dry else (works.HEAD, works.ATTENTION)
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as folder:
        begin, bench = time.monotonic(), Bench(options, Path(folder))
        torch = Torch(bench, "cpu" if options.dry else "cuda")
        bench.write("", heading(options))
        measure_own(bench, everything, head)
        measure_torch(bench, torch, everything, attention)
        conclude(bench, torch, everything)
        bench.write("", f"All parts: {time.monotonic() - begin:.0f} s.")


if __name__ == "__main__":
    main()
