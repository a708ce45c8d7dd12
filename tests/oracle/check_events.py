"""The event file and the CSV of muster report, read by TensorBoard and by Python's csv, against metrics.jsonl."""
import csv
import json
import math
import struct
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path

try:
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
except ImportError:
    print("skipped: tensorboard is not installed beside the Hugging Face libraries; remove their folder, and ./run test installs it")
    sys.exit(77)

MUSTER = sys.argv[1]
checks = failures = 0


def check(good, what):
    global checks, failures
    checks += 1
    if not good:
        failures += 1
        print(f"failed: {what}", file=sys.stderr)


def make_run(folder):
    """A run folder by hand: 500 steps, an evaluation every 50, a loss of NaN and one of infinity, one step without its lr."""
    run = folder / "run"
    run.mkdir()
    (run / "run.json").write_text(json.dumps({"version": 1, "run_id": "0123456789abcdef" * 2, "device_class": "none", "muster": "0"}))
    lines = []
    for step in range(1, 501):
        loss = 5 / step ** 0.5
        line = {"event": "step", "step": step, "time": f"2026-01-02T03:{step // 60:02}:{step % 60:02}.250Z", "loss": loss,
                "loss_bits": loss.hex(), "grad_norm": 1 / 3, "lr": 0.1 * step, "tokens": step * 2**33, "skipped": step == 77}
        if step == 77:
            line.update(loss=None, loss_bits="nan")
        if step == 78:
            line.update(loss=None, loss_bits="inf")
        if step == 79:
            del line["lr"]
        lines.append(line)
        if step % 50 == 0:
            lines.append({"event": "eval", "step": step, "time": line["time"], "loss": loss + 0.5, "valid_tokens": 4096})
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run, lines


def expected_scalars(lines):
    scalars = {}
    for line in lines:
        prefix = {"step": "train", "eval": "heldout"}[line["event"]]
        time = datetime.fromisoformat(line["time"].replace("Z", "+00:00")).timestamp()
        for field, value in line.items():
            if field in ("event", "step", "time") or field.endswith("_bits"):
                continue
            if value is None:
                value = float.fromhex(line[field + "_bits"])
            scalars[f"{prefix}/{field}", line["step"]] = (time, float(value))
    return scalars


def same(a, b):
    return a == b or (math.isnan(a) and math.isnan(b))


def single(value):
    """Rounded to the float that the file holds."""
    return struct.unpack("<f", struct.pack("<f", value))[0]


def check_tensorboard(run, lines):
    subprocess.run([MUSTER, "report", run, "--format", "tensorboard", "-o", run / "events"], check=True, capture_output=True)
    files = list((run / "events").iterdir())
    check(len(files) == 1 and "tfevents" in files[0].name, f"one event file: {files}")
    events = list(EventFileLoader(str(files[0])).Load())
    check(events[0].file_version == "brain.Event:2", f"version: {events[0]}")
    found = {}
    for event in events[1:]:
        for value in event.summary.value:
            number = value.tensor.float_val[0] if value.tensor.float_val else value.simple_value
            check((value.tag, event.step) not in found, f"{value.tag} at step {event.step} comes once")
            found[value.tag, event.step] = (event.wall_time, number)
    expected = expected_scalars(lines)
    check(found.keys() == expected.keys(), f"{len(found)} scalars, not {len(expected)}: {list(found.keys() ^ expected.keys())[:5]}")
    for key, (time, value) in expected.items():
        there = found.get(key, (0, 0))
        check(abs(there[0] - time) < 1e-3 and same(there[1], single(value)), f"{key}: {there}, not {(time, value)}")


def check_damage(run):
    """TensorBoard refuses a record whose CRC is wrong: so it did read ours."""
    file = next((run / "events").iterdir())
    good = file.read_bytes()
    count = len(list(EventFileLoader(str(file)).Load()))
    for place in (len(good) // 2, len(good) // 2 + 100, len(good) - 1):
        file.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1:])
        try:
            read = len(list(EventFileLoader(str(file)).Load()))
        except Exception:  # its own DataLossError, wherever this version keeps it
            read = 0
        check(read < count, f"a wrong byte at {place} was not noticed: {read} of {count} events")
    file.write_bytes(good)


def check_csv(run, lines):
    out = subprocess.run([MUSTER, "report", run, "--format", "csv", "-o", "-"], check=True, capture_output=True, text=True).stdout
    rows = {int(row["step"]): row for row in csv.DictReader(out.splitlines(), strict=True)}
    check(list(rows) == list(range(1, 501)), f"{len(rows)} rows")
    for line in lines:
        row, prefix = rows[line["step"]], "heldout_" if line["event"] == "eval" else ""
        for field, value in line.items():
            if field in ("event", "step") or field.endswith("_bits"):
                continue
            if field == "time":
                check(row["time"] == value, f"time of step {line['step']}: {row['time']}")
                continue
            if value is None:
                value = float.fromhex(line[field + "_bits"])
            check(row[prefix + field] != "" and same(float(row[prefix + field]), float(value)), f"{field} of step {line['step']}: {row[prefix + field]}, not {value}")
    check(rows[79]["lr"] == "" and rows[1]["heldout_loss"] == "" and rows[1]["peak_share"] == "", "what is not known is empty")
    check(len({len(text.split(",")) for text in out.splitlines()}) == 1, "as many cells in every row")


with tempfile.TemporaryDirectory() as name:
    made = make_run(Path(name))
    check_tensorboard(*made)
    check_damage(made[0])
    check_csv(*made)
print(f"check_events: {checks} checks, {failures} failed")
sys.exit(1 if failures or not checks else 0)
