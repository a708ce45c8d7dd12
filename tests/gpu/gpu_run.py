"""Programs that are run with a limit of time, and what they say."""
import contextlib
import json
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "bench")]
from machine import Worker  # noqa: E402


def run(command, seconds):
    """(exit status or None when its time was up, what it printed until then)."""
    words = [str(word) for word in command]
    with tempfile.TemporaryFile("w+") as out:
        try:
            code = subprocess.run(words, stdout=out, stderr=subprocess.STDOUT, timeout=seconds, check=False).returncode
        except subprocess.TimeoutExpired:
            code = None
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
        raise RuntimeError(text.strip().splitlines()[-1] if text.strip() else "it said nothing within its time")
    return json.loads(lines[-1])


def talk(command, lines, seconds):
    """The answers of a worker to lines, up to one that says "missing"; a line None waits for what it says by itself. It is ended
    when its time is up."""
    answers = []
    with tempfile.TemporaryFile("w+") as errors:
        worker = Worker(command, stderr=errors)
        timer = threading.Timer(seconds, worker.process.kill)
        timer.start()
        try:
            for line in lines:
                answers.append(worker.hear() if line is None else worker.ask(line))
                if "missing" in answers[-1]:
                    break
            return answers
        except (RuntimeError, BrokenPipeError) as why:
            errors.seek(0)
            said = errors.read().strip().splitlines()
            words = said[-1] if said else str(why)
            raise RuntimeError(words if timer.is_alive() else f"not done within {seconds:.0f} s") from why
        finally:
            timer.cancel()
            with contextlib.suppress(OSError):  # it may have ended with a line unread
                worker.close()
