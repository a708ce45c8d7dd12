"""A checkpoint as others see it: h5py shows whole tensors with the values that were written, and the digests follow from
docs/checkpoint-format.md alone. Usage: check_checkpoint.py RANKS_PROGRAM MPIRUN_SH MUSTER (tests/checkpoint/ranks.c, tests/mpi)."""

import ctypes
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile

try:
    import h5py
    import numpy as np
except ImportError as missing:
    print(f"skipped: {missing} (Debian: apt-get install python3-h5py)")
    sys.exit(77)

SEED = 77  # of ranks.c
SCRIPT = os.path.join(os.path.dirname(__file__), "../../docs/examples/read_checkpoint.py")
KINDS = ["master", "exp_avg", "exp_avg_sq"]
BLOCK = 4096
checks = failures = 0


def check(condition, what):
    global checks, failures
    checks += 1
    if not condition:
        failures += 1
        print("failed:", what, file=sys.stderr)


def expected_bits(kind, name, count):
    """test_state_bits of tests/checkpoint/state.c."""
    wrap = (1 << 64) - 1
    h = (SEED * 0x9E3779B97F4A7C15 + kind) & wrap
    for byte in name.encode():
        h = ((h ^ byte) * 0x100000001B3) & wrap
    with np.errstate(over="ignore"):
        x = np.uint64(h) ^ (np.arange(count, dtype=np.uint64) * np.uint64(0xBF58476D1CE4E5B9))
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (x >> np.uint64(32)).astype(np.uint32)


def shown(model, kind, name):
    return model[name if kind == 0 else f"optimizer/{KINDS[kind]}/{name}"]


def kind_digest(model, kind, names, blocks):
    """The digest of one kind, and its part of digests.bin."""
    digest = hashlib.sha256(b"muster tensors 1\n")
    for name in names:
        tensor = shown(model, kind, name)
        digest.update(f"{name} f32 {' '.join(map(str, tensor.shape))}\n".encode())
        data = tensor[...].tobytes()
        for at in range(0, len(data), BLOCK * 4):
            block = hashlib.sha256(data[at : at + BLOCK * 4]).digest()
            digest.update(block)
            blocks.append(block)
    return digest.hexdigest()


def check_state(manifest, kinds):
    text = "muster state 1\nweights {}\nexp_avg {}\nexp_avg_sq {}\n".format(*kinds)
    text += "".join(f"{key} {manifest[key]}\n" for key in ["step", "updates", "samples", "data"])
    check(hashlib.sha256(text.encode()).hexdigest() == manifest["state"], "the state digest")


def check_manifest(folder):
    with open(f"{folder}/manifest.json", "rb") as file:
        text = file.read()
    manifest = json.loads(text)
    line = f'"manifest_sha256": "{manifest["manifest_sha256"]}"\n}}\n'.encode()
    check(text.endswith(line), "the manifest's last line")
    check(hashlib.sha256(text[: -len(line)]).hexdigest() == manifest["manifest_sha256"], "the manifest's digest")
    for file in [manifest["block_digests"], manifest["model_file"]] + manifest["shards"]:
        with open(f"{folder}/{file['name']}", "rb") as stream:
            data = stream.read()
        check(len(data) == file["bytes"], f"the size of {file['name']}")
        if "sha256" in file:
            check(hashlib.sha256(data).hexdigest() == file["sha256"], f"the digest of {file['name']}")
    return manifest


def check_pieces(folder, manifest):
    """Offsets in the manifest lead to the same numbers as HDF5's own structure, and pieces are laid out as promised."""
    for piece in manifest["pieces"]:
        name = manifest["shards"][piece["shard"]]["name"]
        with h5py.File(f"{folder}/{name}", "r") as shard:
            dataset = shard[piece["kind"]][piece["tensor"]]
            check(dataset.id.get_offset() == piece["offset"], f"the offset of {dataset.name} in {name}")
            check(dataset.attrs["first"] == piece["first"] and dataset.shape == (piece["count"],), f"{dataset.name}: range")
            check(dataset.chunks is None and dataset.dtype == np.dtype("<f4"), f"{dataset.name}: not plain")
            check(piece["offset"] % 4096 == 0 or piece["count"] < 1024, f"{dataset.name}: not aligned")


def check_checkpoint(folder, ranks):
    manifest = check_manifest(folder)
    check(len(manifest["shards"]) == ranks, f"{ranks} shards")
    check_pieces(folder, manifest)
    names = [tensor["name"] for tensor in manifest["tensors"]]
    check(names == sorted(names, key=str.encode), "tensors in name order")
    blocks, kinds = [], []
    with h5py.File(f"{folder}/model.h5", "r") as model:
        check(set(names) == set(model) - {"optimizer", "sources"}, "names in model.h5")
        for kind in range(3):
            for tensor in manifest["tensors"]:
                data = shown(model, kind, tensor["name"])
                check(list(data.shape) == tensor["shape"], f"the shape of {data.name}")
                bits = data[...].view(np.uint32).ravel()
                check(np.array_equal(bits, expected_bits(kind, tensor["name"], bits.size)), f"the values of {data.name}")
            kinds.append(kind_digest(model, kind, names, blocks))
            check(kinds[kind] == manifest["weights" if kind == 0 else KINDS[kind]], f"the digest of {KINDS[kind]}")
        check(model.attrs["weights"].decode() == kinds[0], "the weights attribute")
        check([name.decode() for name in model["sources/files"]] == [s["name"] for s in manifest["shards"]], "sources")
    check_state(manifest, kinds)
    with open(f"{folder}/digests.bin", "rb") as file:
        check(file.read() == b"".join(blocks), "digests.bin")
    check_checksums(folder, names)
    return manifest["state"]


def check_checksums(folder, names):
    """checksums.bin, by the library alone."""
    library = ctypes.CDLL("libxxhash.so.0")
    library.XXH3_64bits.restype = ctypes.c_uint64
    library.XXH3_64bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    found = b""
    with h5py.File(f"{folder}/model.h5", "r") as model:
        for kind in range(3):
            for name in names:
                data = shown(model, kind, name)[...].tobytes()
                parts = [data[at : at + BLOCK * 4] for at in range(0, len(data), BLOCK * 4)]
                found += b"".join(library.XXH3_64bits(part, len(part)).to_bytes(8, "little") for part in parts)
    with open(f"{folder}/checksums.bin", "rb") as file:
        check(file.read() == found, "checksums.bin")


def check_missing_shard(folder):
    """HDF5 reports no error when a source is missing: what it shows then must be NaN, not zeros."""
    manifest = check_manifest(folder)
    piece = manifest["pieces"][0]
    name = manifest["shards"][piece["shard"]]["name"]
    os.rename(f"{folder}/{name}", f"{folder}/elsewhere")
    with h5py.File(f"{folder}/model.h5", "r") as model:
        shows = model[piece["tensor"]][...].ravel()
        check(np.isnan(shows[: piece["count"]]).all(), "a missing shard shows as NaN")
    os.rename(f"{folder}/elsewhere", f"{folder}/{name}")


def flip(path, place):
    with open(path, "r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1]))


def run_script(path):
    return subprocess.run([sys.executable, "-B", SCRIPT, path], capture_output=True, text=True)


def check_refused(path, words, what):
    done = run_script(path)
    check(done.returncode != 0 and words in done.stderr and done.stdout == "", f"{what}: {done}")


def check_script(folder):
    """The reader that docs/checkpoint-format.md shows: finds the digest, and refuses what is missing, cut or damaged."""
    manifest = check_manifest(folder)
    path = f"{folder}/model.h5"
    done = run_script(path)
    check(done.returncode == 0 and f"{len(manifest['tensors'])} tensors" in done.stdout, f"the docs' script: {done}")
    check(done.stdout.endswith(f" weights {manifest['weights']}\n"), "its digest")
    with open(SCRIPT) as script:
        check(len(script.readlines()) <= 40, "the docs' script has at most 40 lines")
    for number, shard in enumerate(manifest["shards"]):
        file = f"{folder}/{shard['name']}"
        os.rename(file, f"{folder}/elsewhere")
        check_refused(path, f"{shard['name']} is missing", "a missing shard")
        shutil.copyfile(f"{folder}/elsewhere", file)
        os.truncate(file, shard["bytes"] - 1)
        check_refused(path, f"does not have its {shard['bytes']} bytes", "a shard that is cut short")
        os.rename(f"{folder}/elsewhere", file)
        place = next(p["offset"] for p in manifest["pieces"] if p["shard"] == number)
        flip(file, place)
        check_refused(path, "do not have their digest", "a flipped bit")
        flip(file, place)
    check(run_script(path).returncode == 0, "whole again")


def packed_manifest(path):
    """The manifest at the beginning, as the docs describe it."""
    with open(path, "rb") as file:
        head = file.readline()
        text = file.read(int(head.split()[4]))
    check(head == b"muster checkpoint, manifest of %012d bytes\n" % len(text), "the first line")
    manifest = json.loads(text)
    line = f'"manifest_sha256": "{manifest["manifest_sha256"]}"\n}}\n'.encode()
    check(text.endswith(line), "the manifest's last line")
    check(hashlib.sha256(text[: -len(line)]).hexdigest() == manifest["manifest_sha256"], "the manifest's digest")
    return manifest, len(head) + len(text)


def check_outside(path, manifest, head):
    """Every byte behind the manifest has a digest: the elements', that of a file inside, or this one."""
    with open(path, "rb") as file:
        data = file.read()
    check(len(data) == manifest["packed_bytes"], "the packed file's size")
    places = [(piece["offset"], 4 * piece["count"]) for piece in manifest["pieces"]] + [(0, head)]
    for part in [manifest["block_digests"], manifest["tokenizer_file"]]:
        places.append((part["offset"], part["bytes"]))
        inside = data[part["offset"] : part["offset"] + part["bytes"]]
        check(hashlib.sha256(inside).hexdigest() == part["sha256"], f"the digest of {part['name']}")
    digest, at = hashlib.sha256(), 0
    for offset, size in sorted(places):
        check(offset >= at, "bytes with two meanings")
        digest.update(data[at:offset])
        at = offset + size
    digest.update(data[at:])
    check(digest.hexdigest() == manifest["outside_sha256"], "the digest of what lies between")


def check_packed(muster, folder, path, kinds):
    """One file, in which h5py alone finds everything whole, where the manifest says that it is."""
    option = [] if kinds == 3 else ["--weights-only"]
    subprocess.run([muster, "pack", folder, "-o", path] + option, check=True, stdout=subprocess.DEVNULL)
    manifest, head = packed_manifest(path)
    source = check_manifest(folder)
    check(all(manifest[key] == source[key] for key in ["weights", "state", "config", "tensors", "model"]), "the same facts")
    check_outside(path, manifest, head)
    names, blocks = [tensor["name"] for tensor in manifest["tensors"]], []
    pieces = {(piece["kind"], piece["tensor"]): piece for piece in manifest["pieces"]}
    check(len(pieces) == kinds * len(names) == len(manifest["pieces"]), "a piece for each tensor and kind")
    with h5py.File(path, "r") as model:
        check(set(model) == set(names) | {"files"} | ({"optimizer"} if kinds == 3 else set()), "names in the packed file")
        for kind in range(kinds):
            for name in names:
                data, piece = shown(model, kind, name), pieces[KINDS[kind], name]
                bits = data[...].view(np.uint32).ravel()
                check(np.array_equal(bits, expected_bits(kind, name, bits.size)), f"the values of {data.name}")
                check(data.chunks is None and data.dtype == np.dtype("<f4") and not data.is_virtual, f"{data.name}: not plain")
                check(data.id.get_offset() == piece["offset"] and data.size == piece["count"], f"{data.name}: its place")
                check(piece["offset"] % 4096 == 0 or piece["count"] < 1024, f"{data.name}: not aligned")
            digest = kind_digest(model, kind, names, blocks)
            check(digest == manifest["weights" if kind == 0 else KINDS[kind]], f"the digest of {KINDS[kind]}")
        check(model["files/digests.bin"][...].tobytes() == b"".join(blocks), "the block digests inside")
        with open(f"{folder}/tokenizer.json", "rb") as file:
            check(model["files/tokenizer.json"][()] == file.read(), "the tokenizer inside")
        check(model["files/config.yaml"][()].decode() == manifest["config"], "the config inside")
        check(model.attrs["weights"].decode() == manifest["weights"] and model.attrs["version"] == 3, "attributes")
    with open(path, "rb") as file:
        whole = hashlib.sha256(file.read()).hexdigest()
    check(run_script(path).stdout.endswith(f" weights {manifest['weights']}\n"), "the docs' script reads the packed file")
    flip(path, manifest["pieces"][-1 if kinds == 1 else 0]["offset"])
    check_refused(path, "do not have their digest", "a flipped bit in a packed file")
    return whole


def main(program, mpirun, muster):
    base = tempfile.mkdtemp()
    states, packed, weights = set(), set(), set()
    try:
        for ranks in [1, 3, 8] if shutil.which(os.environ.get("MUSTER_MPIRUN", "mpirun")) else [1]:
            command = [program, "save", base] if ranks == 1 else [mpirun, str(ranks), program, "save", base]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            moved = f"{base}/moved{ranks}"  # source names are relative, so a checkpoint may be moved
            os.rename(f"{base}/w{ranks}/step-00001000", moved)
            states.add(check_checkpoint(moved, ranks))
            if ranks < 8:
                check_script(moved)
                packed.add(check_packed(muster, moved, f"{base}/packed.h5", 3))
                weights.add(check_packed(muster, moved, f"{base}/weights.h5", 1))
        check(len(states) == 1, "one state for all rank counts")
        check(len(packed) == 1 and len(weights) == 1, "packed, the same bytes for all rank counts")
        check_missing_shard(moved)
    finally:
        shutil.rmtree(base)
    print(f"check_checkpoint: {checks} checks, {failures} failed")
    return failures > 0 or checks == 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
