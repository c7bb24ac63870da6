#!/usr/bin/env python3
"""Writes the small world's model and networks as ordinary safetensors files (standard library only).

    python3 unpack.py DIR    # DIR/world.safetensors, a checkpoint with SDXL's original key names, and DIR/NAME.safetensors

A packed file is a gzip'd safetensors file. Its metadata say `"split": "f16"`: the bytes of every F16 tensor are all
its high bytes, then all its low ones (which compresses better). Tensors named `X.rows` are the used rows of a table
`X` of 49408; the I32 tensor `token_rows` says which; the other rows are zero.
"""

import gzip
import json
import os
import struct
import sys

VOCABULARY = 49408
HERE = os.path.dirname(os.path.abspath(__file__))


def read(path):
    """(tensors {name: (dtype, shape, bytes)}, metadata) of a packed file, bytes in their usual order."""
    with gzip.open(path) as file:
        (length,) = struct.unpack("<Q", file.read(8))
        head, data = json.loads(file.read(length)), file.read()
    metadata, tensors = head.pop("__metadata__", {}), {}
    for name, note in head.items():
        first, last = note["data_offsets"]
        tensors[name] = (note["dtype"], note["shape"], joined(note["dtype"], data[first:last]))
    return tensors, metadata


def joined(dtype, data):
    """A tensor's bytes with high and low ones together again."""
    if dtype != "F16":
        return data
    half = len(data) // 2
    whole = bytearray(len(data))
    whole[1::2], whole[0::2] = data[:half], data[half:]
    return bytes(whole)


def whole_tables(tensors):
    """The tensors with every token table in full."""
    tensors = dict(tensors)
    if "token_rows" not in tensors:
        return tensors
    _, (count,), data = tensors.pop("token_rows")
    places = struct.unpack(f"<{count}i", data)
    for name in [name for name in tensors if name.endswith(".rows")]:
        dtype, (_, width), rows = tensors.pop(name)
        table = bytearray(VOCABULARY * width * 2)
        for row, place in enumerate(places):
            table[place * width * 2 : (place + 1) * width * 2] = rows[row * width * 2 : (row + 1) * width * 2]
        tensors[name.removesuffix(".rows")] = (dtype, [VOCABULARY, width], bytes(table))
    return tensors


def encode(tensors, metadata):
    """The bytes of a safetensors file."""
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
        metadata.pop("split", None)
        path = os.path.join(folder, name.removesuffix(".gz"))
        with open(path, "wb") as file:
            file.write(encode(whole_tables(tensors), metadata))
        print(path)


if __name__ == "__main__":
    main()
