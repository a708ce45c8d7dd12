"""Reads the weights of a muster checkpoint with h5py alone and checks their digest, as docs/checkpoint-format.md defines it.
Usage: read_checkpoint.py step-00001000/model.h5"""

import hashlib
import os
import sys

import h5py


def check_sources(model, folder):
    """HDF5 shows NaN, without an error, where a source file is missing. So look before anything is read."""
    for name, size in zip(model["sources/files"][...], model["sources/bytes"][...]):
        path = os.path.join(folder, name.decode())
        found = os.path.getsize(path) if os.path.isfile(path) else "no"
        if found != size:
            sys.exit(f"{path} has {found} bytes; it should have {size}")


def read_weights(path):
    """All weights by name: NumPy arrays, fp32, whole."""
    digest = hashlib.sha256(b"muster tensors 1\n")
    weights = {}
    with h5py.File(path, "r") as model:
        check_sources(model, os.path.dirname(path))
        names = [name for name, item in model.items() if isinstance(item, h5py.Dataset)]
        for name in sorted(names, key=str.encode):
            tensor = weights[name] = model[name][...]
            digest.update(f"{name} f32 {' '.join(map(str, tensor.shape))}\n".encode())
            data = tensor.astype("<f4", copy=False).tobytes()
            for at in range(0, len(data), 4 * 4096):
                digest.update(hashlib.sha256(data[at : at + 4 * 4096]).digest())
        if digest.hexdigest() != model.attrs["weights"].decode():
            sys.exit(f"{path}: the weights do not have their digest")
    return weights, digest.hexdigest()


if __name__ == "__main__":
    read, found = read_weights(sys.argv[1])
    print(f"{len(read)} tensors, {sum(tensor.size for tensor in read.values())} elements, weights {found}")
