#!/usr/bin/env python3
"""Counts the instructions of a small training step and of each kernel in it, and compares them with a committed file: what
became slower shows on a busy machine, too.

usage: instructions.py BENCH_STEP COUNTS.json [--update]

valgrind's callgrind counts, on one thread and at level x86-64-v3, which any x86-64 of the last ten years has and valgrind knows.
Counts belong to a compiler and to a version of oneDNN: with others the test is skipped, and says so. A kernel is wrong when it
takes more than 2 % more than written; when it takes that much less, too, so that the file says what is true. --update writes it.
"""
import json
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TOLERANCE = 0.02
# The quickstart model's layer on one sequence of 128; and the same as GPT-2, for LayerNorm, GELU, biases and learned positions.
COMMON = {"vocab_size": 512, "d_model": 128, "n_layers": 1, "n_heads": 4, "d_ff": 352, "max_seq_len": 512}
MODELS = {"llama": {**COMMON, "family": "llama", "n_kv_heads": 2}, "gpt2": {**COMMON, "family": "gpt2"}}


def config_of(model):
    return {
        "run": {"name": "count", "steps": 1, "seed": 1},
        "model": model,
        "data": {"sources": ["none.h5"], "seq_len": 128},
        "batch": {"micro": 1, "leaf": 1, "lanes": 1, "rounds": 1},
        "schedule": {"kind": "constant", "peak": 3e-4, "warmup": 0},
        "train": {"precision": "bf16"},
        "device": {"threads": 1, "level": "x86-64-v3"},
    }


def skip(why):
    print(f"skipped: {why}")
    sys.exit(77)


def count(bench_step, family, folder):
    """{"step": instructions, kernel: instructions, ...} of the second step: the first makes the library's products."""
    config, profile = folder / f"{family}.yaml", folder / f"{family}.profile"
    config.write_text(json.dumps(config_of(MODELS[family])))
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={profile}", "--toggle-collect=counted_round"]
    done = subprocess.run([*command, bench_step, config], input="step\ncount\n", capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"failed: {bench_step} under valgrind: {done.stdout}{done.stderr}")
    said = subprocess.run(
        ["callgrind_annotate", "--inclusive=yes", "--threshold=100", profile], capture_output=True, text=True, check=True
    ).stdout
    counts = {}
    for number, name in re.findall(r"^ *([\d,]+) \([^)]*\)\s+\S*:(counted_round|(?:timed|recorded)_\w+)", said, re.MULTILINE):
        counts["step" if name == "counted_round" else name.split("_", 1)[1]] = int(number.replace(",", ""))
    if "step" not in counts or "matmul" not in counts:
        sys.exit(f"failed: no counts in what callgrind found:\n{said[:2000]}")
    return counts


def main(bench_step, path, *rest):
    path = Path(path)
    if not shutil.which("valgrind") or not shutil.which("callgrind_annotate"):
        skip("no valgrind (Debian: apt-get install valgrind)")
    belongs = subprocess.run([bench_step, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if "x86-64" not in belongs:
        skip(f"the counts are those of x86-64-v3, this is {belongs}")
    written = json.loads(path.read_text()) if path.exists() else {}
    if not rest and written.get("belongs_to") != belongs:
        skip(f"the counts belong to {written.get('belongs_to')}, this is {belongs}")
    with tempfile.TemporaryDirectory() as name:
        with ThreadPoolExecutor() as both:
            found = both.map(lambda family: count(bench_step, family, Path(name)), MODELS)
        counts = dict(zip(MODELS, found))
    if rest == ("--update",):
        path.write_text(json.dumps({"belongs_to": belongs, "instructions": counts}, indent=1) + "\n")
        print(f"wrote {path}")
        return 0
    failed = 0
    for family, expected in written["instructions"].items():
        for kernel in sorted({*expected, *counts[family]}):
            was, is_now = expected.get(kernel, 0), counts[family].get(kernel, 0)
            change = is_now / was - 1 if was else float("inf")
            wrong = abs(change) > TOLERANCE
            failed += wrong
            print(f"{family:6} {kernel:20} {was:14,} {is_now:14,} {100 * change:+7.2f} %{'  FAILED' if wrong else ''}")
    print(f"instructions: {failed} failed" + ("; if that is meant: " + " ".join([*sys.argv[:3], "--update"]) if failed else ""))
    return failed > 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
