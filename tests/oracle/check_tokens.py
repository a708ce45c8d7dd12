"""A token file of `muster data build`, read with h5py and from docs/data-format.md alone, against the texts it was built from."""
import gzip
import hashlib
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import h5py
    import numpy
except ImportError:
    print("skipped: python3-h5py is not installed")
    sys.exit(77)

from tokens import HELDOUT, uniform

SEED, FRACTION, EOS = 12345678901234567890, 0.25, 256


def is_heldout(text):
    digest = hashlib.sha256(text).digest()
    a, b = int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:16], "little")
    return uniform(SEED, HELDOUT, a, b) < FRACTION


def write_corpus(folder):
    """Returns the documents in the order in which they are read, duplicates included."""
    rng = random.Random(7)
    texts = ["".join(rng.choice("abc \né漢😀\0") for _ in range(rng.randrange(20, 200))) for _ in range(300)]
    texts[200:250] = texts[100:150]
    raw = bytes(range(256)) * 3
    (folder / "a.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts[:150]))
    with gzip.open(folder / "b.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write("".join(json.dumps({"text": t}, ensure_ascii=False) + "\n\n" for t in texts[150:]))
    (folder / "c.txt").write_bytes(raw)
    return [t.encode() for t in texts] + [raw]


def expected_splits(documents):
    splits, seen = {"train": [], "heldout": []}, set()
    for text in documents:
        if text not in seen:
            splits["heldout" if is_heldout(text) else "train"].append(text)
        seen.add(text)
    return splits


def check_array(data, record, dataset):
    """Where the index says, the file has what HDF5 shows, with the digest that the index states."""
    array = numpy.frombuffer(data, record["type"], record["count"], record["offset"])
    assert dataset.dtype == record["type"] and dataset.shape == (record["count"],), (dataset, record)
    assert dataset.chunks is None and dataset.compression is None
    assert dataset.id.get_offset() == record["offset"], (dataset.id.get_offset(), record)
    assert record["offset"] % 4096 == 0
    assert numpy.array_equal(array, dataset[:])
    assert hashlib.sha256(array.tobytes()).hexdigest() == record["sha256"]
    return array


def check_file(path, folder, splits):
    data = path.read_bytes()
    line, rest = data.split(b"\n", 1)
    words = line.decode().split()
    assert len(line) == 117 and words[:2] == ["muster", "tokens"] and words[2] == "1,", line
    body = rest[: int(words[5])]
    assert hashlib.sha256(body).hexdigest() == words[8]
    index = json.loads(body)
    assert index["format"] == "muster tokens" and index["version"] == 1 and index["vocab_size"] == 258
    assert index["build"] == {"seed": str(SEED), "heldout_fraction": FRACTION, "text_field": "text"}
    described = b"muster byte tokenizer 1: token = byte; 256 end of document; 257 padding"
    assert index["tokenizer"] == {"kind": "bytes", "sha256": hashlib.sha256(described).hexdigest(), "eos": EOS}
    for source in index["sources"]:
        raw = (folder / source["name"]).read_bytes()
        assert source["bytes"] == len(raw) and source["sha256"] == hashlib.sha256(raw).hexdigest(), source
    assert [source["name"] for source in index["sources"]] == ["a.jsonl", "b.jsonl.gz", "c.txt"]
    with h5py.File(path) as file:
        assert file.userblock_size == 65536 and not any(data[len(line) + 1 + len(body) : 65536])
        for split, texts in splits.items():
            record = index["splits"][split]
            tokens = check_array(data, record["tokens"], file[split]["tokens"])
            documents = check_array(data, record["documents"], file[split]["documents"])
            assert record["loss_mask"] is None and record["tokens"]["type"] == "uint16"
            assert tokens.tolist() == [token for text in texts for token in (*text, EOS)]
            assert documents.tolist() == numpy.cumsum([0] + [len(text) + 1 for text in texts]).tolist()


def main(muster):
    with tempfile.TemporaryDirectory() as name:
        folder, path = Path(name) / "texts", Path(name) / "tokens.h5"
        folder.mkdir()
        splits = expected_splits(write_corpus(folder))
        assert len(splits["train"]) + len(splits["heldout"]) == 251 and len(splits["heldout"]) > 30
        command = [muster, "data", "build", folder, "-o", path, "--seed", str(SEED), "--heldout", str(FRACTION)]
        print(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        check_file(path, folder, splits)
    print(f"check_tokens: {len(splits['train'])} + {len(splits['heldout'])} documents as expected, h5py {h5py.__version__}")


main(sys.argv[1])
