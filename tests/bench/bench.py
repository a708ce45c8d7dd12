#!/usr/bin/env python3
"""muster beside its peers and beside what the machine allows, in one run.

usage: bench.py BUILD_FOLDER [--rounds N] [PART...]

Parts: model, kernels, exchange, ranks; or single works of `model`: gpt2-bf16, gpt2-f32, gpt2-long, smollm2,
quickstart. Without a part: all. muster and its peers take turns, the first round is thrown away, medians count. Prints a table;
writes build/bench/bench.json and bench.svg. docs/performance.md says how to read them. Only the standard library is needed here;
PyTorch runs in processes of its own.
"""
import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import kernels
import picture
import ranks
import table
import works
from machine import Machine

PARTS = ("model", "kernels", "exchange", "ranks")


def parse():
    parser = argparse.ArgumentParser(usage="bench.py BUILD_FOLDER [--rounds N] [PART...]", epilog=__doc__.split("\n\n")[2])
    parser.add_argument("build", type=Path)
    parser.add_argument("--rounds", type=int, default=6, help="with the first, which is thrown away")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    parser.add_argument("parts", nargs="*")
    options = parser.parse_intermixed_args()
    unknown = [part for part in options.parts if part not in PARTS and part not in works.WORKS]
    if unknown or options.rounds < 2:
        names = ", ".join((*PARTS, *works.WORKS))
        sys.exit(f"bench: no part '{unknown[0]}'; there are {names}" if unknown else "bench: at least 2 rounds")
    return options


def main():
    options = parse()
    wanted = options.parts or PARTS
    options.build = options.build.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    rows = []
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as name, Machine(options) as machine:
        folder = Path(name)
        for work in works.WORKS:
            if work in wanted or "model" in wanted:
                rows += works.measure(work, options, machine, folder)
        if "kernels" in wanted:
            rows += kernels.measure(options, machine, folder)
        if "exchange" in wanted:
            rows += ranks.measure_exchange(options)
        if "ranks" in wanted:
            rows += ranks.measure_ranks(options, folder)
        found = {"machine": machine.describe(), "rounds": options.rounds - 1, "rows": rows}
    (options.out / "bench.json").write_text(json.dumps(found, indent=1) + "\n")
    table.show(found)
    picture.write(found, options.out / "bench.svg")
    print(f"\nwrote {options.out}/bench.json and bench.svg")


if __name__ == "__main__":
    main()
