"""Token files as numpy writes them, in each layout of other trainers: a run on any of them gives the weights of the run on muster's own."""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import numpy
except ImportError:
    print("skipped: python3-numpy is not installed")
    sys.exit(77)

CONFIG = """
run: {name: t, steps: 3, seed: 5}
model: {d_model: 32, n_layers: 1, n_heads: 2}
data: {sources: [tokens.h5], seq_len: 32}
batch: {micro: 2, leaf: 1, lanes: 2, rounds: 1}
schedule: {peak: 1.0e-3}
device: {threads: 1}
"""
MEGATRON_CODES = {"uint16": 8, "int32": 4, "int64": 5}


def own_tokens(path):
    """The training split of a token file, from docs/data-format.md alone."""
    with open(path, "rb") as file:
        index = json.loads(file.read(int(file.readline().split()[5])))
    tokens = index["splits"]["train"]["tokens"]
    return numpy.array(numpy.memmap(path, tokens["type"], "r", tokens["offset"], (tokens["count"],)))


def write_numpy(folder, tokens):
    for kind in ("uint16", "uint32", "int32", "uint64", "int64"):
        numpy.save(folder / f"{kind}.npy", tokens.astype(kind))
        yield f"{kind}.npy", "auto"
    for version in ((1, 0), (2, 0), (3, 0)):
        name = f"version{version[0]}.npy"
        with open(folder / name, "wb") as file:
            numpy.lib.format.write_array(file, tokens, version)
        yield name, "auto"


def write_bare(folder, tokens):
    """As OLMo (numpy.memmap, named .npy) and nanoGPT (tofile) do."""
    for kind in ("uint16", "uint32"):
        array = numpy.memmap(folder / f"olmo-{kind}.npy", kind, "w+", shape=tokens.shape)
        array[:] = tokens
        array.flush()
        yield f"olmo-{kind}.npy", kind
        tokens.astype(kind).tofile(folder / f"nano-{kind}.bin")
        yield f"nano-{kind}.bin", kind


def write_llmc(folder, tokens):
    for kind, magic, version in (("uint16", 20240520, 1), ("uint32", 20240801, 7)):
        header = numpy.zeros(256, "int32")
        header[:3] = magic, version, len(tokens)
        (folder / f"llmc-{kind}.bin").write_bytes(header.tobytes() + tokens.astype(kind).tobytes())
        yield f"llmc-{kind}.bin", "auto"


def write_megatron(folder, tokens):
    rng = numpy.random.default_rng(1)
    for kind, code in MEGATRON_CODES.items():
        cuts = numpy.sort(rng.integers(0, len(tokens), 40))
        starts = numpy.concatenate(([0], cuts)).astype("int64")
        lengths = numpy.diff(numpy.append(starts, len(tokens))).astype("int32")
        size = numpy.dtype(kind).itemsize
        documents = numpy.array([0, 3, 3, 17, len(lengths)], "int64")
        head = b"MMIDIDX\0\0" + (1).to_bytes(8, "little") + bytes([code])
        counts = len(lengths).to_bytes(8, "little") + len(documents).to_bytes(8, "little")
        arrays = lengths.tobytes() + (starts * size).tobytes() + documents.tobytes()
        (folder / f"pair-{kind}.idx").write_bytes(head + counts + arrays)
        tokens.astype(kind).tofile(folder / f"pair-{kind}.bin")
        yield f"pair-{kind}", "auto"


def weights(muster, folder, run, *sets):
    command = [muster, "train", folder / "config.yaml", "--run", folder / run, *(word for s in sets for word in ("--set", s))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, (sets, done.stderr)
    words = done.stdout.splitlines()[-1].split()
    assert words[0] == "weights" and len(words[1]) == 64, words
    return words[1]


def main(muster):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "config.yaml").write_text(CONFIG)
        (folder / "lines.jsonl").write_text("".join(json.dumps({"text": f"text {i} of many {i * i}"}) + "\n" for i in range(200)))
        subprocess.run([muster, "data", "build", "lines.jsonl", "-o", "tokens.h5", "--heldout", "0"], check=True, cwd=folder, capture_output=True)
        tokens = own_tokens(folder / "tokens.h5")
        want, count = weights(muster, folder, "own"), 0
        for write in (write_numpy, write_bare, write_llmc, write_megatron):
            for source, dtype in write(folder, tokens):
                found = weights(muster, folder, f"run-{source}", f"data.sources=[{source}]", f"data.dtype={dtype}", "model.vocab_size=258")
                assert found == want, (source, found, want)
                count += 1
        numpy.save(folder / "others.npy", tokens[::-1].copy())
        assert weights(muster, folder, "others", "data.sources=[others.npy]", "model.vocab_size=258") != want
    print(f"check_foreign: {count} files give the weights of muster's own, numpy {numpy.__version__}")


main(str(Path(sys.argv[1]).resolve()))
