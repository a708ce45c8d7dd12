"""Programs that are run with a limit of time, and what they say. Each is ended with all that it has started."""
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "bench")]
from machine import Worker  # noqa: E402

PATIENCE = 10  # seconds that a program has to end by itself when its work is done


def end_group(process):
    """Ends a program and what it has started, as far as it still runs. One that a driver holds fast is left behind."""
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(PATIENCE)


def run(command, seconds):
    """(exit status or None when its time was up, what it printed until then)."""
    words = [str(word) for word in command]
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, preexec_fn=os.setpgrp
        )
        code = None
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(max(seconds, 0))
        finally:
            end_group(process)
        out.seek(0)
        return code, out.read()


def first_line(command, otherwise):
    """What a program says, where it is there and works."""
    try:
        code, text = run(command, 20)
    except OSError:
        return otherwise
    return text.splitlines()[0] if code == 0 and text else otherwise


def last_json(text):
    """The last line that is an object; RuntimeError with what was said where there is none."""
    lines = [line for line in text.splitlines() if line.startswith("{")]
    if not lines:
        raise RuntimeError(complaint(text) or "it said nothing within its time")
    return json.loads(lines[-1])


def complaint(text):
    """The last line that names an error; the last of all where none does."""
    lines = text.strip().splitlines()
    return next((line for line in reversed(lines) if "Error" in line), lines[-1] if lines else "")


def talk(command, lines, seconds):
    """(the answers of a worker to lines, why there are not more of them or None), up to an answer that says "missing"; a line
    None waits for what it says by itself."""
    answers, up, patience = [], threading.Event(), 0

    def end_in_time(process):
        up.set()
        end_group(process)

    with tempfile.TemporaryFile("w+") as errors:
        worker = Worker(command, stderr=errors, preexec_fn=os.setpgrp)
        timer = threading.Timer(max(seconds, 0), end_in_time, [worker.process])
        timer.start()
        try:
            for line in lines:
                answers.append(worker.hear() if line is None else worker.ask(line))
                if "missing" in answers[-1]:
                    break
            patience = PATIENCE
            return answers, None
        except (RuntimeError, BrokenPipeError) as why:
            errors.seek(0)
            return answers, f"not done within {seconds:.0f} s" if up.is_set() else complaint(errors.read()) or str(why)
        finally:
            timer.cancel()
            with contextlib.suppress(OSError):  # it may have ended with a line unread
                worker.process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.process.wait(patience)
            end_group(worker.process)
            worker.process.stdout.close()
