"""Encoding beside Hugging Face's tokenizers, one thread each, on the same texts in the same run: the two take turns, the fastest of the
rounds counts. The texts lie on every build machine: documentation and licences, C headers and Python.

    bench_tokenizer.py BUILD_FOLDER [ROUNDS]
"""
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "oracle"))
import tokenizers  # noqa: E402
from hf_tokenizers import CODE, ENGLISH, Muster, files, mixed, pack, train  # noqa: E402


def time_theirs(tokenizer, texts):
    begin = time.process_time()
    tokenizer.encode_batch_fast(texts, add_special_tokens=False)  # without offsets: its fastest way
    return time.process_time() - begin


def main():
    program = Path(sys.argv[1]) / "tests/oracle/tokenizer_dump"
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    training = mixed(2_000_000, 1)
    print(f"encoding, MB/s of CPU time, one thread; tokenizers {tokenizers.__version__}, {rounds} rounds")
    print(f"{'text':10}{'tokenizer':12}{'muster':>8}{'tokenizers':>12}{'ratio':>7}")
    with tempfile.TemporaryDirectory() as folder:
        for text_name, (folders, suffixes) in (("English", ENGLISH), ("code", CODE)):
            texts = files(folders, suffixes, 5_000_000)
            size = sum(len(text.encode()) for text in texts)
            for family in ("gpt2", "llama3", "smollm2", "qwen2.5"):
                path = Path(folder) / f"{family}.json"
                if not path.exists():
                    path.write_text(train(family, training, 16000), encoding="utf-8")
                ours, theirs = Muster(program, path), tokenizers.Tokenizer.from_file(str(path))
                data, best = pack([text.encode() for text in texts], "b"), [1e9, 1e9]
                for _ in range(rounds):
                    best[0] = min(best[0], float(ours.run("time", data).split()[1]))
                    best[1] = min(best[1], time_theirs(theirs, texts))
                speed = [size / seconds / 1e6 for seconds in best]
                print(f"{text_name:10}{family:12}{speed[0]:8.1f}{speed[1]:12.1f}{speed[0] / speed[1]:7.1f}", flush=True)


main()
