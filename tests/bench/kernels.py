"""Kernels within real steps against what binds them: memory's bandwidth, or arithmetic, whichever needs longer."""
from statistics import median

import works
from machine import Worker

# Bar and stretch of the share of the bound. Attention has no bar of its own.
BARS = {
    "adamw": (0.85, 0.92),
    "attention_forward": (None, None), "attention_backward": (None, None), "ordered_sum": (None, None), "cast": (None, None),
    "matmul": (None, None), "bias_grad": (None, None), "embedding_forward": (0.80, 0.90), "embedding_backward": (0.80, 0.90),
}  # fmt: skip
DEFAULT_BAR = (0.80, 0.90)
PRODUCTS = ("muster", "onednn", "openblas")  # the names that bench_products knows
PRODUCT_BARS = {"peak": 0.88, "library": 0.92}
SHAPES = {"gpt2-bf16": "bf16", "gpt2-f32": "f32", "smollm2": "bf16"}


def bound_of(kernel, name, dtype, machine):
    """Seconds that the counted work takes at least, and which of the two binds. Own loops compute in fp32; attention and
    the products in their own type."""
    arithmetic = dtype if name.startswith(("attention", "matmul")) else "f32"
    bandwidths = machine.bandwidths()
    memory = sum(bytes / bandwidths[way] / 1e9 for way, bytes in kernel["bytes"].items())
    compute = kernel["flops"] / machine.peak(arithmetic) / 1e9
    return (memory, "bandwidth") if memory >= compute else (compute, f"{arithmetic} arithmetic")


def kernel_rows(work, answers, machine):
    dtype, rows = SHAPES[work], []
    for name, kernel in works.median_kernels(answers).items():
        if name == "matmul":
            continue
        least, binds = bound_of(kernel, name, dtype, machine)
        share, (bar, stretch) = least / kernel["seconds"], BARS.get(name, DEFAULT_BAR)
        rows.append({
            "part": "kernels", "name": f"{name} {work}", "title": f"{name}, {works.WORKS[work]['title']}", "unit": "of the bound",
            "binds": binds, "milliseconds": 1e3 * kernel["seconds"], "gbytes": sum(kernel["bytes"].values()) / kernel["seconds"] / 1e9,
            "gflops": kernel["flops"] / kernel["seconds"] / 1e9, "share": share, "bar": bar, "stretch": stretch,
            "reached": None if bar is None else share >= bar, "stretch_reached": None if stretch is None else share >= stretch,
        })  # fmt: skip
    return rows


def shape_line(shape, dtype):
    keys = ("m", "n", "k", "a", "b", "lda", "ldb", "ldc", "c", "add")
    return " ".join(str(shape[key]) for key in keys) + f" {dtype}"


def product_rows(work, shapes, options, machine):
    """Each shape of the model, by muster and by the libraries called whole, in turns."""
    dtype, rows, own, best, flops = SHAPES[work], [], 0.0, 0.0, 0.0
    workers = {name: Worker([options.build / "tests/bench/bench_products", options.threads, name]) for name in PRODUCTS}
    for shape in shapes:
        line = shape_line(shape, dtype)
        answers = [{name: worker.ask(line)["seconds"] for name, worker in workers.items()} for _ in range(options.rounds)][1:]
        seconds = {name: median(a[name] for a in answers) for name in PRODUCTS}
        operations = 2.0 * shape["m"] * shape["n"] * shape["k"]
        libraries = {name: s for name, s in seconds.items() if name != "muster" and s > 0}
        own += shape["calls"] * seconds["muster"]
        best += shape["calls"] * min(libraries.values(), default=seconds["muster"])
        flops += shape["calls"] * operations
        rows.append({**shape, "gflops": {name: operations / s / 1e9 for name, s in seconds.items() if s > 0}})
    for worker in workers.values():
        worker.close()
    peak = flops / own / 1e9 / machine.peak(dtype)
    row = {
        "part": "kernels", "name": f"products {work}", "title": f"products of {works.WORKS[work]['title']}", "unit": "of peak",
        "share": peak, "of_library": best / own, "gflops": flops / own / 1e9, "milliseconds": 1e3 * own, "shapes": rows,
        "binds": f"{dtype} arithmetic", "bar": PRODUCT_BARS, "stretch": None, "stretch_reached": None,
        "reached": peak >= PRODUCT_BARS["peak"] and best / own >= PRODUCT_BARS["library"],
    }  # fmt: skip
    return [row]


def measure(options, machine, folder):
    rows = []
    for name in SHAPES:
        config = works.write_config(name, works.WORKS[name], options, folder)
        worker = Worker([options.build / "tests/bench/bench_step", config])
        answers = []
        for _ in range(options.rounds):
            machine.sample()
            answers.append(worker.ask())
        worker.close()
        if name != "gpt2-f32":
            rows += kernel_rows(name, answers[1:], machine)
        rows += product_rows(name, answers[-1]["products"], options, machine)
        print(f"kernels of {works.WORKS[name]['title']}: done", flush=True)
    return rows
