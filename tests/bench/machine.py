"""Processes that are told when to go, and what this machine can do."""
import json
import platform
import subprocess
from pathlib import Path
from statistics import median


MEASURED = ("triad", "triad_past_cache", "in_place", "only_reads")  # bandwidths of bench_machine


class Worker:
    """A process that answers a line on its standard input with a line of JSON, and waits meanwhile. What else it prints is passed
    over: libraries talk."""

    def __init__(self, command, **options):
        self.process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options
        )
        self.name = " ".join(str(word) for word in command[:4])

    def hear(self):
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError(f"bench: {self.name} ended with {self.process.wait()}")

    def ask(self, line=""):
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return self.hear()

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


def processor():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


class Machine:
    """Bandwidth and products as bench_machine sees them, measured once in each round of every work."""

    def __init__(self, options):
        self.options, self.samples = options, []

    def __enter__(self):
        self.worker = Worker([self.options.build / "tests/bench/bench_machine", self.options.threads])
        self.sample()  # the first warms up
        self.samples.clear()
        self.sample()
        return self

    def __exit__(self, *_):
        self.worker.close()

    def sample(self):
        self.samples.append(self.worker.ask())

    def bandwidths(self):
        """GB/s of needed bytes, the median of the rounds, for each way to meet memory that bench_step tells apart."""
        means = {way: median(s[way] for s in self.samples) for way in MEASURED}
        return {
            "in_place": means["in_place"],
            "elsewhere": max(means["triad"], means["triad_past_cache"]),
            "only_reads": means["only_reads"],
        }

    def peak(self, dtype):
        """GFLOP/s: the best of large square products, and of all rounds; a peak is not a median."""
        return max(value for s in self.samples for key, value in s.items() if key.startswith(dtype + "_"))

    def describe(self):
        return {
            "processor": processor(),
            "threads": self.options.threads,
            "bandwidths": self.bandwidths(),
            **{way: median(s[way] for s in self.samples) for way in MEASURED},
            "peak_f32": self.peak("f32"),
            "peak_bf16": self.peak("bf16"),
            "samples": self.samples,
        }
