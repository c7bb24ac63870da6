"""Packs the model, the networks, the classifier and the pictures of the examples for the repository."""

import gzip
import shutil
import tarfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from . import base, captions, checkpoint, classifier, draw, lora, networks, sample, scene, unpack, vae

BUDGET = 20_000_000
HELD_OUT = 32


def rounded(value, bits):
    """f16 with only so many bits of the mantissa kept, half rounded up; vectors keep all."""
    value = value.half()
    if value.dim() < 2 or bits >= 10:
        return value
    cut = 10 - bits
    whole = value.contiguous().view(torch.int16).int() & 0xFFFF
    whole = ((whole + (1 << (cut - 1))) >> cut) << cut
    return torch.where(whole > 32767, whole - 65536, whole).to(torch.int16).view(torch.float16)


def packed(tensors, metadata):
    """The bytes of a packed file, as unpack.py describes it, of f16 and i32 tensors."""
    entries = {}
    for name, value in tensors.items():
        data = value.contiguous().numpy().tobytes()
        if value.dtype == torch.float16:
            entries[name] = ("F16", value.shape, data[1::2] + data[0::2])
        else:
            entries[name] = ("I32", value.shape, data)
    return gzip.compress(unpack.encode(entries, metadata | {"split": "f16"}), 9, mtime=0)


def with_bits(tensors, bits):
    """All floats rounded."""
    return {name: rounded(value, bits) if value.is_floating_point() else value for name, value in tensors.items()}


def fewest_bits(tensors, model, settings, device):
    """The fewest bits with which samples differ by no more than the floor allows, from those of all bits."""
    prompts = [captions.caption(s) for s in scene.many("plain", min(32, settings.check_pictures), settings.seed + 2)]
    truth = sample.pictures(model, prompts, settings, settings.seed)
    for bits in settings.mantissa_bits:
        checkpoint.restore(with_bits(tensors, bits), *model)
        error = (sample.pictures(model, prompts, settings, settings.seed) - truth).square().mean((1, 2, 3))
        decibels = (-10 * error.clamp(min=1e-10).log10()).median().item()
        print(f"pack: {bits} bits: samples differ by {decibels:.1f} dB (median)", flush=True)
        if decibels >= settings.psnr_floor:
            break
    return bits


def write_example(folder, name, settings):
    """A worked example's pictures and captions: `train` and `heldout`."""
    _, training = scene.EXAMPLES[name]
    for part, count, seed in (("train", training, settings.seed), ("heldout", HELD_OUT, settings.seed + 1)):
        place = folder / name / part
        place.mkdir(parents=True, exist_ok=True)
        for number, shown in enumerate(scene.many(name, count, seed)):
            pixels, _ = draw.framed(draw.picture(shown), None)
            Image.fromarray(np.ascontiguousarray(pixels)).quantize(128).save(place / f"{number:02}.png", optimize=True)
            (place / f"{number:02}.txt").write_text(captions.of_example(shown) + "\n")


def run(out, settings, device):
    """The stage: `files/` as it belongs into the repository, and `send/`: the model and one archive of the rest."""
    files = out / "files"
    shutil.rmtree(files, ignore_errors=True)
    files.mkdir()
    unet, encoders = base.load(out, settings, device)
    model = (unet, encoders, vae.load(out, settings, device))
    tensors = checkpoint.original(*model)
    bits = fewest_bits(tensors, model, settings, device)
    title = {"format": "pt", "modelspec.architecture": "stable-diffusion-xl-v1-base", "modelspec.title": "small world"}
    (files / "world.safetensors.gz").write_bytes(packed(with_bits(tensors, bits), title | {"mantissa_bits": str(bits)}))
    for name in scene.TRAINING:
        network = {key: rounded(value, max(bits, 5)) for key, value in load_file(networks.path(out, name)).items()}
        note = {"ss_network_module": "networks.lora", "ss_output_name": name}
        (files / f"{name}.safetensors.gz").write_bytes(packed(network, note))
    reader = {key: value.half() for key, value in load_file(out / classifier.FILE).items()}
    (files / classifier.FILE).with_suffix(".safetensors.gz").write_bytes(packed(reader, {}))
    for name in scene.EXAMPLES:
        write_example(files / "examples", name, settings)
    report(files)
    send(out, files)


def report(files):
    """Prints what everything takes."""
    total = 0
    for path in sorted(files.iterdir()):
        inside = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
        size = sum(p.stat().st_size for p in inside)
        total += size
        print(f"pack: {path.name}: {size / 1e6:.3f} MB in {len(inside)} files")
    print(f"pack: together {total / 1e6:.2f} MB" + (", TOO MUCH" if total > BUDGET else ""), flush=True)


def send(out, files):
    """Two files that hold everything to be kept."""
    folder = out / "send"
    folder.mkdir(exist_ok=True)
    shutil.copyfile(files / "world.safetensors.gz", folder / "world.safetensors.gz")
    with tarfile.open(folder / "rest.tar", "w") as archive:
        for path in sorted(files.rglob("*")):
            if path.is_file() and path.name != "world.safetensors.gz":
                archive.add(path, f"tests/world/files/{path.relative_to(files)}")
        for path in sorted((out / "sheets").glob("*")):
            archive.add(path, f"docs/world/{path.name}")
        for path in [*sorted(out.glob("log-*.jsonl")), *out.glob("check.json")]:
            archive.add(path, f"tests/world/logs/{path.name}")
