"""Packs the model, the networks, the classifier and the pictures of the examples for the repository."""

import gzip
import shutil
import tarfile

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from . import base, captions, check, checkpoint, classifier, draw, lora, networks, sample, scene, unpack, vae

BUDGET = 20_000_000
HELD_OUT = 32


# What a tensor's bytes are called in a safetensors file.
DTYPES = {torch.float16: "F16", torch.float32: "F32", torch.int32: "I32", torch.int8: "I8"}


def rounded(value, bits):
    """f16 with only so many bits of the mantissa kept, half rounded up."""
    cut = 10 - bits
    whole = value.half().contiguous().view(torch.int16).int() & 0xFFFF
    whole = ((whole + (1 << (cut - 1))) >> cut) << cut
    return torch.where(whole > 32767, whole - 65536, whole).to(torch.int16).view(torch.float16)


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


def write_model(path, tensors, model, settings):
    """Packs the model with the fewest levels with which samples differ from those of the trained weights by no more
    than the floor allows."""
    scenes = scene.many("plain", min(32, settings.check_pictures), settings.seed + 2)
    prompts = [captions.caption(s) for s in scenes]
    truth = sample.pictures(model, prompts, settings, settings.seed)
    note = {"format": "pt", "modelspec.architecture": "stable-diffusion-xl-v1-base", "modelspec.title": "small world"}
    for levels in settings.levels:
        path.write_bytes(packed(quantized(tensors, levels), note | {"levels": str(levels)}))
        stored = {name: torch.from_numpy(value.copy()) for name, value in unpack.read(path)[0].items()}
        checkpoint.restore(stored, *model)
        again = sample.pictures(model, prompts, settings, settings.seed)
        error = (again - truth).square().mean((1, 2, 3)).clamp(min=1e-10)
        decibels, size = (-10 * error.log10()).median().item(), path.stat().st_size / 1e6
        print(f"pack: {levels} levels, {size:.2f} MB: samples differ by {decibels:.1f} dB (median)", flush=True)
        if decibels >= settings.psnr_floor:
            break
    rows = torch.stack([truth, again])[:, :16].flatten(0, 1)
    check.sheet(path.parents[1] / "sheets" / "packed.png", rows.split(8))


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
    write_model(files / "world.safetensors.gz", checkpoint.original(*model), model, settings)
    for name in scene.TRAINING:
        network = {key: rounded(value, settings.mantissa_bits) for key, value in load_file(networks.path(out, name)).items()}
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
