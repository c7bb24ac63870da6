"""Packs the networks, the classifier and the pictures of the examples for the repository."""

import shutil
import tarfile

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from . import captions, classifier, container, draw, labels, model, networks, scene

BUDGET = 20_000_000
HELD_OUT = 96


def rounded(value, bits):
    """f16 with only so many bits of the mantissa kept, half rounded up."""
    cut = 10 - bits
    whole = value.half().contiguous().view(torch.int16).int() & 0xFFFF
    whole = ((whole + (1 << (cut - 1))) >> cut) << cut
    return torch.where(whole > 32767, whole - 65536, whole).to(torch.int16).view(torch.float16)


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


def run(out, settings, _device):
    """The stage: `files/` as it belongs into the repository, all but the model, and `send/rest.tar`."""
    files = out / "files"
    shutil.rmtree(files / "examples", ignore_errors=True)
    files.mkdir(exist_ok=True)
    for name in scene.TRAINING:
        network = load_file(networks.path(out, name))
        network = {key: rounded(value, settings.mantissa_bits) for key, value in network.items()}
        note = {"ss_network_module": "networks.lora", "ss_output_name": name}
        (files / f"{name}.safetensors.gz").write_bytes(container.packed(network, note))
    reader = {key: value.half() for key, value in load_file(out / classifier.FILE).items()}
    (files / f"{classifier.FILE}.gz").write_bytes(container.packed(reader, {}))
    for name in scene.EXAMPLES:
        write_example(files / "examples", name, settings)
    labels.run(files)
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
    """One archive of everything to be kept but the model."""
    folder = out / "send"
    folder.mkdir(exist_ok=True)
    with tarfile.open(folder / "rest.tar", "w") as archive:
        for path in sorted(files.rglob("*")):
            if path.is_file() and path.name != model.NAME:
                archive.add(path, f"tests/world/files/{path.relative_to(files)}")
        for path in sorted((out / "sheets").glob("*")):
            archive.add(path, f"docs/world/{path.name}")
        for path in [*sorted(out.glob("log-*.jsonl")), *out.glob("check.json")]:
            archive.add(path, f"tests/world/logs/{path.name}")
