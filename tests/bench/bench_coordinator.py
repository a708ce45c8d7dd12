#!/usr/bin/env python3
"""What rank 0 does beside computing, on 1, 2, 4 ... 64 ranks of this machine, and what follows for 1,024.

    bench_coordinator.py BUILD_FOLDER [STEPS]

Runs tests/bench/bench_coordinator under mpirun, fits a + b log2(N) + c N to each part by least squares (of relative errors),
and prints the parts, the fit and the share of a step of 500 ms. docs/scaling.md says what is measured.
"""
import json
import math
import os
import subprocess
import sys

RANKS = [1, 2, 4, 8, 16, 32, 64]
STEP_US = 500_000
EASE = 128  # with more ranks heartbeats come less often (beat_period in worker/comm/watchdog.c)
PARTS = {"own": "own_us", "mpi": "mpi_us", "record": "record_us", "threads": "threads_us"}


def measure(program, ranks, steps):
    environment = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    command = ["mpirun", "--oversubscribe", "--bind-to", "none", "--mca", "btl", "self,vader", "-n", str(ranks), program, str(steps)]
    out = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    line = json.loads(out.strip().splitlines()[-1])
    line["threads_us"] = line["threads_us_per_second"] * STEP_US / 1e6
    return line


def solve(matrix, right):
    """Gauss with pivots, for the three normal equations."""
    n = len(right)
    rows = [list(matrix[i]) + [right[i]] for i in range(n)]
    for i in range(n):
        best = max(range(i, n), key=lambda r: abs(rows[r][i]))
        rows[i], rows[best] = rows[best], rows[i]
        for r in range(i + 1, n):
            factor = rows[r][i] / rows[i][i]
            rows[r] = [x - factor * y for x, y in zip(rows[r], rows[i])]
    result = [0.0] * n
    for i in reversed(range(n)):
        result[i] = (rows[i][n] - sum(rows[i][k] * result[k] for k in range(i + 1, n))) / rows[i][i]
    return result


def fit(points):
    """a, b, c of a + b log2(N) + c N. A term below 0 is left out: work does not shrink with ranks."""
    terms = [lambda n: 1.0, lambda n: math.log2(n), float]
    used = [0, 1, 2]
    while True:
        rows = [([terms[t](n) / max(y, 1.0) for t in used], y / max(y, 1.0)) for n, y in points]
        matrix = [[sum(x[i] * x[k] for x, _ in rows) for k in range(len(used))] for i in range(len(used))]
        found = solve(matrix, [sum(x[i] * y for x, y in rows) for i in range(len(used))])
        if min(found) >= 0 or len(used) == 1:
            return [found[used.index(t)] if t in used else 0.0 for t in range(3)]
        used.pop(found.index(min(found)))


def main():
    program = os.path.join(os.path.realpath(sys.argv[1]), "tests/bench/bench_coordinator")
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    lines = []
    print("processor time of rank 0 beside computing, us a step (of heartbeats: us in 500 ms)")
    print(f"{'ranks':>6} {'own':>9} {'mpi':>9} {'record':>9} {'threads':>9} {'all':>9} {'share of 500 ms':>16}")
    for ranks in RANKS:
        line = measure(program, ranks, steps)
        lines.append(line)
        total = sum(line[key] for key in PARTS.values())
        print(f"{ranks:>6} " + " ".join(f"{line[key]:>9.1f}" for key in PARTS.values()) + f" {total:>9.1f} {total / STEP_US:>15.3%}", flush=True)
    fits = {part: fit([(line["ranks"], line[key]) for line in lines]) for part, key in PARTS.items()}
    print()
    for part, (a, b, c) in fits.items():
        print(f"{part:<8} {a:9.2f} + {b:7.2f} log2(N) + {c:7.3f} N us")
    print()
    for ranks in [64, 128, 256, 512, 1024]:
        parts = {part: a + b * math.log2(ranks) + c * ranks for part, (a, b, c) in fits.items()}
        parts["threads"] /= max(1, ranks / EASE)
        total = sum(parts.values())
        print(f"{ranks:>6} " + " ".join(f"{part:>9.1f}" for part in parts.values()) + f" {total:>9.1f} {total / STEP_US:>15.3%}  by the formula")


main()
