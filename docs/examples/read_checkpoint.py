"""Reads the weights of a muster checkpoint with h5py alone and checks their digest, as docs/checkpoint-format.md defines it.
Usage: read_checkpoint.py step-00001000, its model.h5, or a file of 'muster pack'"""

import hashlib
import os
import sys

import h5py


def check_sources(sources, folder):
    """HDF5 shows NaN, without an error, where a source file is missing. So look before anything is read."""
    for name, size in zip(sources["files"][...], sources["bytes"][...]):
        path = os.path.join(folder, name.decode())
        if not os.path.isfile(path) or os.path.getsize(path) != size:
            sys.exit(f"{path} is missing, or does not have its {size} bytes")


def read_weights(path):
    """All weights by name: NumPy arrays, fp32, whole."""
    path = os.path.join(path, "model.h5") if os.path.isdir(path) else path
    digest, weights = hashlib.sha256(b"muster tensors 1\n"), {}
    with h5py.File(path, "r") as model:
        if "sources" in model:  # else it is packed, and needs no other file
            check_sources(model["sources"], os.path.dirname(path))
        names = [name for name, item in model.items() if isinstance(item, h5py.Dataset)]
        for name in sorted(names, key=str.encode):
            tensor = weights[name] = model[name][...]
            digest.update(f"{name} f32 {' '.join(map(str, tensor.shape))}\n".encode())
            data = tensor.tobytes()
            for at in range(0, len(data), 4 * 4096):
                digest.update(hashlib.sha256(data[at : at + 4 * 4096]).digest())
        if digest.hexdigest() != model.attrs["weights"].decode():
            sys.exit(f"{path}: the weights do not have their digest")
    return weights, digest.hexdigest()


if __name__ == "__main__":
    read, found = read_weights(sys.argv[1])
    print(f"{len(read)} tensors, {sum(tensor.size for tensor in read.values())} elements, weights {found}")
