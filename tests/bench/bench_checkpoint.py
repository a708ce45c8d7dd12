"""Checkpoints of GPT-2 124M with its moments (1.5 GB) beside raw writes and reads of the same bytes and beside PyTorch, on one disk in one
run: all take turns, the first round is left out, the medians count. Only ratios of one run mean much.

    bench_checkpoint.py BUILD_FOLDER [ROUNDS] [FOLDER]

What torch.save and fsync do is done when the last data is on the disk: they hash and read back nothing. So the aim beside them counts to
there; to the commit, which comes after both, is printed beside it.

FOLDER lies on the disk that is measured (default: BUILD_FOLDER); at most 3 GB lie there at a time. 8 GB of memory are needed.
"""
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

try:
    import torch
except ImportError:
    torch = None

WRITES = ("plain", "early", "direct")


class Hands:
    """The C program that holds the state."""

    def __init__(self, program, folder):
        self.process = subprocess.Popen([program, folder, str(os.cpu_count())], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.bytes, *self.tensors = map(int, self.process.stdout.readline().split())

    def __call__(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"bench_checkpoint: '{' '.join(map(str, words))}' failed")
        return line

    def seconds(self, *words):
        return float(self(*words))


class Bench:
    def __init__(self, hands, folder):
        self.hands, self.folder, self.seconds, self.steps, self.left_cached = hands, folder, {}, {}, 0.0
        if torch is not None:
            torch.set_num_threads(os.cpu_count())
            self.tensors = {f"{kind}.{i}": torch.rand(count) for kind in ("model", "exp_avg", "exp_avg_sq")
                            for i, count in enumerate(hands.tensors)}

    def note(self, name, seconds):
        self.seconds.setdefault(name, []).append(seconds)

    def remove(self, path):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        os.sync()  # what removing costs the disk is not the next one's

    def prime(self):
        """A virtual machine may have given its free memory back to its host, and pays when page cache grows into it: let nobody be the first."""
        path = self.folder / "primer.bin"
        self.hands("write", "early", path)
        self.remove(path)

    def cold(self, *paths):
        self.left_cached = max([self.left_cached] + [self.hands.seconds("drop", path) for path in paths])

    def torch_save(self, path):
        begin = time.perf_counter()
        with open(path, "wb") as file:
            torch.save(self.tensors, file)
            file.flush()
            os.fsync(file.fileno())
        return time.perf_counter() - begin

    def torch_load(self, path):
        begin = time.perf_counter()
        tensors = torch.load(path)
        seconds = time.perf_counter() - begin
        assert len(tensors) == len(self.tensors)
        return seconds

    def writes(self):
        raw = self.folder / "raw.bin"
        for how in WRITES:
            self.prime()
            self.note(f"write {how}", self.hands.seconds("write", how, raw))
            self.remove(raw)

    def checkpoint(self):
        self.prime()
        _, to_data, to_commit, path = self.hands("save", "at_once").split()
        self.note("save, data", float(to_data))
        self.note("save, commit", float(to_commit))
        path = Path(path)
        shard, = path.glob("shard-*")
        for state in ("cold", "warm"):
            for name, what in (("read", shard), ("load", path), ("verify", path)):
                if state == "cold":
                    self.cold(*path.iterdir())
                self.note(f"{name} {state}", self.hands.seconds(name, what))
        self.remove(path)

    def behind(self):
        self.prime()
        stall, _, to_commit, path = self.hands("save", "behind").split()
        self.note("stall", float(stall))
        self.note("behind, commit", float(to_commit))
        self.remove(Path(path))
        for threads in sorted({1, os.cpu_count()}):
            self.prime()
            *paces, path = self.hands("train", threads).split()
            self.steps.setdefault(threads, []).append([float(pace) for pace in paces])
            self.remove(Path(path))

    def pytorch(self):
        self.prime()
        path = self.folder / "torch.pt"
        self.note("torch.save", self.torch_save(path))
        self.cold(path)
        self.note("torch.load cold", self.torch_load(path))
        self.note("torch.load warm", self.torch_load(path))
        self.remove(path)

    def round(self):
        self.note("memcpy", self.hands.seconds("copy"))
        self.writes()
        self.checkpoint()
        self.behind()
        if torch is not None:
            self.pytorch()

    def report(self):
        self.seconds = {name: rounds[1:] for name, rounds in self.seconds.items()}
        print(f"\n{'':18}{'GB/s':>8}{'seconds':>10}   least..most")
        for name, rounds in self.seconds.items():
            middle = statistics.median(rounds)
            print(f"{name:18}{self.hands.bytes / middle / 1e9:8.2f}{middle:10.3f}   {min(rounds):.3f}..{max(rounds):.3f}")
        print(f"of the files read cold, at most {100 * self.left_cached:.1f}% were in the page cache")
        if torch is None:
            print("skipped: torch.save and torch.load: PyTorch is not installed for this Python")

    def report_training(self):
        """A save must bring the bytes to the disk and back: what that alone costs training is the machine's, the rest is ours."""
        for threads, rounds in self.steps.items():
            alone, counting, traffic, saving = (statistics.median(column) for column in zip(*rounds[1:]))
            slower, moving, counted = (100 * (1 - pace / alone) for pace in (saving, traffic, counting))
            print(f"{f'training slowed by a save, {threads} of {os.cpu_count()} threads':52}{slower:6.1f}%   at most 5%: "
                  f"{'reached' if slower <= 5 else 'MISSED'}   ({alone:.1f} steps/s alone; beside the same bytes written and "
                  f"read by one thread {moving:.1f}% slower, beside a thread that only counts {counted:.1f}%)")

    def compare(self, what, ours, theirs, least=None):
        """theirs / ours, in seconds. least: the aim, where there is one."""
        if theirs not in self.seconds:
            return
        ratio = statistics.median(self.seconds[theirs]) / statistics.median(self.seconds[ours])
        aim = "" if least is None else f"   at least {least:4.2f}: {'reached' if ratio >= least else 'MISSED'}"
        print(f"{what:52}{ratio:7.2f}{aim}")


def main():
    build = Path(sys.argv[1]).resolve()
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    with tempfile.TemporaryDirectory(dir=sys.argv[3] if len(sys.argv) > 3 else build) as folder:
        hands = Hands(build / "tests/bench/bench_checkpoint", folder)
        bench = Bench(hands, Path(folder))
        print(f"checkpoint of {hands.bytes / 1e9:.2f} GB, {os.cpu_count()} threads, {rounds} rounds and one before; "
              f"PyTorch {torch.__version__ if torch else 'missing'}; load {os.getloadavg()[0]:.1f}", flush=True)
        for _ in range(rounds + 1):
            bench.round()
        bench.report()
        best = min((f"write {how}" for how in WRITES), key=lambda name: statistics.median(bench.seconds[name]))
        print(f"\n{'ratio of speeds':52}{'':7}   load {os.getloadavg()[0]:.1f}")
        for name, least in (("save, data", 0.90), ("save, commit", 0.60)):
            for raw in dict.fromkeys(("write plain", best)):
                bench.compare(f"{name} / raw {raw}", name, raw, least)
        bench.compare("save, data / torch.save + fsync", "save, data", "torch.save", 1.4)
        bench.compare("save, commit / torch.save + fsync", "save, commit", "torch.save")
        for state in ("cold", "warm"):
            bench.compare(f"load / raw read, {state}", f"load {state}", f"read {state}", 0.85)
            bench.compare(f"load / torch.load, {state}", f"load {state}", f"torch.load {state}", 1.0)
        bench.compare("memcpy / stall of a save behind training", "stall", "memcpy", 0.80)
        bench.report_training()


main()
