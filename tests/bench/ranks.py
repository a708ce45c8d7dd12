"""What ranks cost: the exchange beside MPI's reductions, two ranks beside two threads, memory beside the plan, and the order."""
import json
import shutil
from statistics import median

import works

MPIRUN = works.HERE.parent / "mpi/mpirun.sh"


def bar(value, limit, stretch=None, below=False):
    met = (lambda b: value <= b) if below else (lambda b: value >= b)
    return {"value": value, "bar": limit, "stretch": stretch, "sign": "<=" if below else ">=",
            "reached": met(limit), "stretch_reached": stretch is not None and met(stretch)}  # fmt: skip


def row(name, title, text, **bars):
    return {"part": "ranks", "name": name, "title": title, "text": text, "bars": {k.replace("_", " "): b for k, b in bars.items()}}


def measure_exchange(options):
    if not shutil.which("mpirun"):
        return [row("exchange", "ordered exchange of 64 MiB", "missing: no mpirun")]
    said = works.run(MPIRUN, 2, options.build / "tests/bench/bench_exchange", 9)
    s = json.loads(said.splitlines()[-1])
    text = ", ".join(f"{name} {1e3 * s[name]:.1f} ms" for name in s if name != "bytes")
    return [
        row("exchange", "ordered exchange of 64 MiB, 2 ranks, shared memory", text,
            **{"MPI_Allreduce": bar(s["allreduce"] / s["ordered_published"], 3.5),
               "MPI_Reduce_scatter_block": bar(s["reduce_scatter"] / s["ordered"], 8.0)})
    ]  # fmt: skip


def train(options, config, folder, ranks, *settings):
    """Median of a short run's steps, after the first; the run's lines."""
    place = folder / "ranks"
    shutil.rmtree(place, ignore_errors=True)
    launch = [MPIRUN, ranks] if ranks > 1 else []
    words = [word for setting in settings for word in ("--set", setting)]
    works.run(*launch, options.build / "coordinator/muster", "train", config, "--run", place, "--set", "run.steps=4", *words)
    lines = [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["event"] == "step"]
    return median(s["step_seconds"] for s in steps[1:]), steps


def plan(options, config, *settings):
    words = [word for setting in settings for word in ("--set", setting)]
    return json.loads(works.run(options.build / "coordinator/muster", "plan", config, "--json", "--flops", "1e12", *words))


def measure_ranks(options, folder):
    """GPT-2 124M in bf16: two microbatches of 2 sequences a step, in two lanes."""
    work = {**works.WORKS["gpt2-bf16"], "micro": 2, "lanes": 2}
    config = works.write_config("ranks", work, options, folder)
    threads, ranks, peaks = [], [], []
    for number in range(options.rounds):
        one, steps = train(options, config, folder, 1, f"device.threads={options.threads}")
        two, _ = train(options, config, folder, 2, f"device.threads={max(1, options.threads // 2)}") if shutil.which("mpirun") else (None, None)
        if number > 0:
            threads.append(one)
            ranks.append(two)
            peaks.append(steps[-1]["peak_rss_bytes"])
    planned = plan(options, config)["memory"]
    figures = planned["reported"] - planned["saving"]
    rows = [
        row("memory", "peak memory of the whole job, GPT-2 124M, 2 lanes of 2 x 256",
            f"{max(peaks) / 2**20:,.0f} MiB, planned {planned['node'] / 2**20:,.0f} MiB"
            f" ({figures / 2**20:,.0f} of them weights, gradients, masters, moments and activations)",
            of_the_plan=bar(max(peaks) / planned["node"], 1.05, below=True))
    ]  # fmt: skip
    if None not in ranks:
        rows.append(
            row("ranks", "2 ranks x 1 thread beside 1 rank x 2 threads, GPT-2 124M, 2 lanes of 2 x 256",
                f"{median(ranks):.3f} s and {median(threads):.3f} s a step",
                of_one_rank=bar(median(threads) / median(ranks), 0.93, 0.98))
        )  # fmt: skip
    return rows
