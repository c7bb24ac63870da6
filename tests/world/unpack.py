#!/usr/bin/env python3
"""Writes the small world's model and networks as ordinary safetensors files of half precision (needs only numpy).

    python3 unpack.py DIR    # DIR/world.safetensors, a checkpoint with SDXL's original key names, and DIR/NAME.safetensors

A packed file is a gzip'd safetensors file that differs from an ordinary one in three ways:
- The bytes of every F16 tensor are all its high bytes, then all its low ones, which compresses better.
- An I8 tensor `X` with an F32 tensor `X.scale` [rows] is the F16 tensor `X`: every number times its row's (first
  axis') scale, in single precision, then rounded to the nearest half.
- `X.rows` are the used rows of a table `X` of 49408; the I32 tensor `token_rows` says which; all others are zero.
"""

import gzip
import json
import os
import struct
import sys

import numpy as np

VOCABULARY = 49408
HERE = os.path.dirname(os.path.abspath(__file__))


def read(path):
    """(tensors {name: array}, metadata) of a packed file, halves put together and scales applied."""
    with gzip.open(path) as file:
        (length,) = struct.unpack("<Q", file.read(8))
        head, data = json.loads(file.read(length)), file.read()
    metadata, stored = head.pop("__metadata__", {}), {}
    for name, note in head.items():
        first, last = note["data_offsets"]
        stored[name] = array(note["dtype"], data[first:last]).reshape(note["shape"])
    tensors = {}
    for name, value in stored.items():
        if name.endswith(".scale") and name.removesuffix(".scale") in stored:
            continue
        if value.dtype == np.int8:
            scale = stored[name + ".scale"].reshape(-1, *[1] * (value.ndim - 1))
            value = (value.astype(np.float32) * scale).astype(np.float16)
        tensors[name] = value
    return tensors, metadata


def array(dtype, data):
    """A tensor's bytes as a flat array."""
    if dtype == "F16":
        high, low = np.frombuffer(data, np.uint8).reshape(2, -1)
        return (high.astype(np.uint16) << 8 | low).view(np.float16)
    return np.frombuffer(data, {"I8": np.int8, "I32": "<i4", "F32": "<f4"}[dtype])


def whole_tables(tensors):
    """The tensors with every token table in full."""
    tensors = dict(tensors)
    places = tensors.pop("token_rows", None)
    for name in [name for name in tensors if name.endswith(".rows")]:
        rows = tensors.pop(name)
        table = np.zeros((VOCABULARY, rows.shape[1]), np.float16)
        table[places] = rows
        tensors[name.removesuffix(".rows")] = table
    return tensors


def encode(tensors, metadata):
    """The bytes of a safetensors file of {name: (dtype, shape, bytes)}."""
    head, at = {"__metadata__": metadata}, 0
    for name, (dtype, shape, data) in tensors.items():
        head[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + len(data)]}
        at += len(data)
    raw = json.dumps(head, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    return struct.pack("<Q", len(raw)) + raw + b"".join(data for _, _, data in tensors.values())


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        raise SystemExit(__doc__)
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    for name in sorted(os.listdir(os.path.join(HERE, "files"))):
        if not name.endswith(".safetensors.gz"):
            continue
        tensors, metadata = read(os.path.join(HERE, "files", name))
        halves = {name: ("F16", value.shape, value.tobytes()) for name, value in whole_tables(tensors).items()}
        path = os.path.join(folder, name.removesuffix(".gz"))
        with open(path, "wb") as file:
            file.write(encode(halves, metadata))
        print(path)


if __name__ == "__main__":
    main()
