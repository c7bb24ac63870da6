"""Packs the trained model for the repository: the one large file, so that what it costs to round is seen at once."""

import shutil

import torch

from . import base, captions, check, checkpoint, container, sample, scene, unpack, vae

NAME = "world.safetensors.gz"


def write_model(path, tensors, model, settings):
    """Packs the model with the fewest levels with which samples differ from those of the trained weights by no more
    than the floor allows."""
    scenes = scene.many("plain", min(32, settings.check_pictures), settings.seed + 2)
    prompts = [captions.caption(s) for s in scenes]
    truth = sample.pictures(model, prompts, settings, settings.seed)
    note = {"format": "pt", "modelspec.architecture": "stable-diffusion-xl-v1-base", "modelspec.title": "small world"}
    for levels in settings.levels:
        path.write_bytes(container.packed(container.quantized(tensors, levels), note | {"levels": str(levels)}))
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


def run(out, settings, device):
    """The stage: `files/world.safetensors.gz`, and a copy of it and of a sheet of samples, before and after, in
    `send/`."""
    unet, encoders = base.load(out, settings, device)
    model = (unet, encoders, vae.load(out, settings, device))
    path = out / "files" / NAME
    path.parent.mkdir(exist_ok=True)
    write_model(path, checkpoint.original(*model), model, settings)
    (out / "send").mkdir(exist_ok=True)
    shutil.copy(path, out / "send")
    shutil.copy(out / "sheets" / "packed.png", out / "send")
