"""Writes packed files, as unpack.py describes and reads them."""

import gzip

import torch

from . import unpack

# What a tensor's bytes are called in a safetensors file.
DTYPES = {torch.float16: "F16", torch.float32: "F32", torch.int32: "I32", torch.int8: "I8"}


def quantized(tensors, levels):
    """Tensors of two and more axes as I8 up to `levels` with a scale for each row; vectors as f16."""
    found = {}
    for name, value in tensors.items():
        if value.is_floating_point() and value.dim() >= 2:
            scale = value.flatten(1).abs().amax(1).clamp(min=1e-12) / levels
            found[name] = (value / scale.view(-1, *[1] * (value.dim() - 1))).round().to(torch.int8)
            found[name + ".scale"] = scale.float()
        else:
            found[name] = value.half() if value.is_floating_point() else value
    return found


def packed(tensors, metadata):
    """The bytes of a packed file, as unpack.py describes it."""
    entries = {}
    for name, value in tensors.items():
        data = value.contiguous().numpy().tobytes()
        if value.dtype == torch.float16:
            data = data[1::2] + data[0::2]
        entries[name] = (DTYPES[value.dtype], value.shape, data)
    return gzip.compress(unpack.encode(entries, metadata), 9, mtime=0)
