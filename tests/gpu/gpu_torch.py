"""PyTorch beside muster on a GPU: whole steps of the same models, and its attention by cuDNN."""
import json
import os
import sys
import time
from pathlib import Path
from statistics import median

import gpu_works as works
from gpu_run import complaint, last_json, run, talk
from gpu_verdict import beside_peer, verdict

HERE = Path(__file__).resolve().parent
MODES = {"eager": "eager", "layers": "compiled layer by layer", "compiled": "compiled as a whole"}
NUMBERS = {
    "bf16": "weights, gradients and moments f32, autocast to bf16",
    "bf16-weights": "weights, gradients and moments bf16, no masters",
}
# PyTorch 2.0 or newer that sees a GPU, if it has to: 1 where it is not that.
LOOK = """
import sys, torch
gpus = torch.cuda.device_count()
print(f"PyTorch {torch.__version__}, which sees {gpus} GPU{'s' * (gpus != 1)}")
sys.exit(int(torch.__version__.split(".")[0]) < 2 or sys.argv[1] == "cuda" and not torch.cuda.is_available())
"""


def gib(count):
    return f"{count / 2**30:.2f} GiB"


class Torch:
    def __init__(self, bench, device):
        self.bench, self.device = bench, device
        self.python = self.missing = None  # that has PyTorch; why none does
        self.best, self.why = {}, {}  # of each work: (tokens/s, how), and why there is nothing

    def find(self, seconds):
        """Looks for a Python that has it."""
        oracles = Path(os.environ.get("MUSTER_ORACLES", Path.home() / ".cache/muster/oracles")) / "bin/python"
        end, refused = time.monotonic() + seconds, []
        for python in (sys.executable, oracles):
            if not Path(python).exists():
                continue
            code, text = run([python, "-c", LOOK, self.device], end - time.monotonic())
            said = complaint(text) or "no answer in time"
            if code == 0:
                self.python = python
                self.bench.write(f"{said}.")
                return
            refused.append(said)
        self.missing = f"PyTorch is missing ({'; '.join(refused)})"
        raise RuntimeError(self.missing)

    # ---- whole steps ----

    def worker(self, job, work, mode):
        """The command of the process that takes the steps."""
        path = self.bench.folder / "job.json"
        path.write_text(json.dumps(job))
        return [self.python, "-B", HERE.parent / "oracle/bench_torch.py", path, work["precision"], mode]

    def job(self, work, micro, recompute):
        shape, rows = work["model"], self.bench.settings_of(work)["batch.micro"] * work["leaf"]
        return {
            **works.RECIPE, "device": self.device, "shape": shape, "seq_len": work["seq_len"], "leaf": rows // micro,
            "sequences": rows, "recompute": recompute, "losses": 2, "threads": 1,
        }  # fmt: skip

    def attempts(self, work):
        """(sequences of a microbatch, whether layers are computed again): as muster does it, then with less memory."""
        settings = self.bench.settings_of(work)
        micro, again = settings["batch.micro"], settings.get("train.recompute", "none") == "full"
        return list(dict.fromkeys([(micro, again), (micro, True), (max(micro // 2, 1), True)]))

    def measure_steps(self, seconds, work, mode):
        end = time.monotonic() + seconds
        for micro, recompute in self.attempts(work):
            command = self.worker(self.job(work, micro, recompute), work, mode)
            answers, why = talk(command, [None, str(work["steps"][1])], end - time.monotonic())
            last = answers[-1] if answers else {}
            how = f"{MODES[mode]}, microbatches of {micro}, {'layers' if recompute else 'nothing'} computed again"
            if last.get("memory"):
                self.why[work["name"]] = "PyTorch runs out of memory"
                self.bench.write(f"PyTorch, {how}: out of memory: {last['missing']}", "")
                continue
            if len(answers) < 2:
                self.why[work["name"]] = last.get("missing", why)
                raise RuntimeError(self.why[work["name"]])
            self.show_steps(work, how, *answers)
            return

    def show_steps(self, work, how, first, said):
        """What was measured; it counts where it is the same model."""
        rows = self.bench.settings_of(work)["batch.micro"] * work["leaf"]
        speed, own = rows * work["seq_len"] / median(said["seconds"]), self.bench.steps.get(work["name"])
        self.bench.write(
            f"PyTorch {first['version']}, {how}, sdpa ({first['attention']}), {'fused' if first['fused'] else 'plain'} AdamW;"
            f" {NUMBERS[work['precision']]}. The same {rows * work['seq_len']:,} tokens a step: {speed:,.0f} tokens/s,"
            f" {gib(said['peak_bytes'])}."
        )
        if own and own["parameters"] != first["parameters"]:
            self.why[work["name"]] = "PyTorch's model is another"
            raise RuntimeError(f"its model has {first['parameters']:,} parameters, muster's {own['parameters']:,}")
        if speed > self.best.get(work["name"], (0, ""))[0]:
            self.best[work["name"]] = speed, how
        ratio = self.ratio(work)[0]
        if ratio:
            judged = f"bar {works.PEER_BAR:.2f} x the best so far: {verdict(beside_peer(ratio))}"
            self.bench.write("", f"- muster is {own['speed'] / speed:.3f} x; {judged}")

    def ratio(self, work):
        """muster's speed beside that of the best PyTorch, and words; or None, and why."""
        own, best = self.bench.steps.get(work["name"]), self.best.get(work["name"])
        if best is None:
            return None, self.missing or self.why.get(work["name"], "PyTorch was not measured")
        if own is None:
            return None, "muster was not measured"
        ratio = own["speed"] / best[0]
        return ratio, f"{ratio:.3f} x: {best[1]}"

    # ---- attention ----

    def measure_attention(self, seconds, work):
        shapes = [",".join(map(str, shape)) for shape in work["shapes"]]
        command = [self.python, "-B", HERE / "torch_attention.py", self.device, *shapes]
        said = last_json(run(command, seconds)[1])
        if "missing" in said:
            raise RuntimeError(said["missing"])
        self.bench.write(
            f"{said['backend']}, by PyTorch {said['version']}; bf16.",
            "",
            "| attention | pass | its ms | by muster | ms | speed is | bar | |",
            "|---|---|---|---|---|---|---|---|",
        )
        for shape, both in zip(work["shapes"], said["seconds"]):
            label = "bf16 {} x {}, {}/{} heads of {}".format(*shape)
            if "missing" in both:
                self.bench.write(f"| {label} | both | {both['missing']} | | | | {work['bar']:.2f} | not judged |")
                continue
            for way in ("forward", "backward"):
                self.judge_attention(work, label, way, 1e3 * both[way])

    def judge_attention(self, work, label, way, theirs):
        """Our own kernel beside cuDNN's by PyTorch, and cuDNN's by muster, where it was there."""
        library = self.bench.attention_library()
        served = [(library, f"{library} {label}", work["served_bar"])] if library else []
        for name, its_label, bar in [("own", label, work["bar"]), *served]:
            ours, judged = self.bench.kernel_ms(f"attention_{way}", its_label), f"not measured | | {bar:.2f} | not judged"
            if ours:
                share = theirs / ours
                judged = f"{ours:.3f} | {share:.2f} x | {bar:.2f} | {verdict(share >= bar)}"
            self.bench.write(f"| {label} | {way} | {theirs:.3f} | {name} | {judged} |")
