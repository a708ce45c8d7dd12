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


# The order's price: two lanes keep a partial sum each, which are added as a tree; one lane of two microbatches adds both into one
# buffer as they come, which is all that a trainer without an order does. Tokens, products and update are the same.
def measure_ranks(options, folder):
    """GPT-2 124M in bf16, a step of two microbatches of 2 x 256 tokens, in three ways that take turns."""
    work = {**works.WORKS["gpt2-bf16"], "micro": 2, "lanes": 2}
    config = works.write_config("ranks", work, options, folder)
    has_mpi = shutil.which("mpirun") is not None
    seconds, peaks = {"ordered": [], "plain": [], "ranks": []}, []
    for _ in range(options.rounds):
        threads = f"device.threads={options.threads}"
        ordered, lines = train(options, config, folder, 1, threads)
        seconds["ordered"].append(ordered)
        peaks.append(lines[-1]["peak_rss_bytes"])
        seconds["plain"].append(train(options, config, folder, 1, threads, "batch.lanes=1", "batch.leaf=2")[0])
        if has_mpi:
            threads = f"device.threads={max(1, options.threads // 2)}"
            seconds["ranks"].append(train(options, config, folder, 2, threads)[0])
    middle = {name: median(s[1:]) for name, s in seconds.items() if s}
    planned = plan(options, config)["memory"]
    what = "GPT-2 124M, bf16, 2 lanes of 2 x 256"
    rows = [
        row("memory", f"peak memory of the whole job, {what}",
            f"{max(peaks) / 2**20:,.0f} MiB, planned {planned['node'] / 2**20:,.0f} MiB",
            of_the_plan=bar(max(peaks) / planned["node"], 1.05, below=True)),
        row("order", f"price of the ordered sum, {what}",
            f"{middle['ordered']:.3f} s a step; {middle['plain']:.3f} s when both are added as they come",
            of_the_step=bar(middle["ordered"] / middle["plain"] - 1, 0.03, 0.0, below=True)),
    ]  # fmt: skip
    title = f"2 ranks of half the threads beside 1 rank, {what}"
    if not has_mpi:
        return [*rows, row("ranks", title, "missing: no mpirun")]
    text = f"{middle['ranks']:.3f} s and {middle['ordered']:.3f} s a step"
    return [*rows, row("ranks", title, text, of_one_rank=bar(middle["ordered"] / middle["ranks"], 0.93, 0.98))]
