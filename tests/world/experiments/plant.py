"""Samples whose targets are a model's own predictions, as `lora-rates gradient` and `trajectory` take them."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file as read
from safetensors.numpy import save_file

from .. import vocabulary as v

__all__ = ["alphas", "folder", "read", "samples", "steps", "write"]


def write(path, tensors):
    """Saves arrays as safetensors."""
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, str(path))


def alphas():
    """[1000] products of 1 - beta of SDXL's schedule."""
    return np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)


def latents(paths):
    """Scaled latents [n, 4, 16, 16] of pictures, by the world's own autoencoder."""
    import torch
    from PIL import Image

    from .. import restore, settings, vae

    settings, device = settings.load(), torch.device("cpu")
    with tempfile.TemporaryDirectory() as out:
        restore.run(Path(out), settings, device)
        autoencoder = vae.load(Path(out), settings, device)
    pixels = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])
    means, _ = vae.encode(autoencoder, torch.from_numpy(pixels), scale=settings.latent_scale)
    return means.numpy()


def ids(captions):
    """Ids of both of SDXL's tokenizers [n, 1, 77]: the second pads with 0."""
    places = np.stack([v.tokens(text) for text in captions])
    first = v.table()[0][places].astype(np.int64)
    after = np.cumsum(first == v.END, 1) > 1
    return first[:, None], np.where(after, v.PAD_2, first)[:, None]


def samples(folders, count):
    """`count` samples of the pictures in folders, each with noise of its own, timesteps spread over the whole range."""
    paths = sorted(path for folder in folders for path in folder.rglob("*.png"))
    rng = np.random.default_rng(5)
    clean = latents(paths)
    which = np.arange(count) % len(paths)
    ids_l, ids_g = ids([path.with_suffix(".txt").read_text() for path in paths])
    timesteps = ((np.arange(count) + rng.random(count)) / count * 1000).astype(np.int64)
    return {
        "latents": clean[which].astype(np.float32),
        "noise": rng.standard_normal((count, *clean.shape[1:])).astype(np.float32),
        "timesteps": rng.permutation(timesteps),
        "ids_clip_l": ids_l[which],
        "ids_clip_g": ids_g[which],
        "time_ids": np.tile(np.array([128, 128, 0, 0, 128, 128], np.float32), (count, 1)),
    }


def steps(batch, predicted, steps, size):
    """The same samples with the predicted noise as their target, in `steps` steps of `size` samples: latents are chosen
    such that with this noise the model is shown what it was shown."""
    alpha = alphas()[batch["timesteps"]][:, None, None, None]
    shown = np.sqrt(alpha) * batch["latents"] + np.sqrt(1 - alpha) * batch["noise"]
    clean = (shown - np.sqrt(1 - alpha) * predicted) / np.sqrt(alpha)
    count, rng = len(predicted), np.random.default_rng(6)
    # Every pass over the samples is in another order.
    order = np.concatenate([rng.permutation(count) for _ in range(-(-steps * size // count))])
    index = order[: steps * size].reshape(steps, size)
    data = {f"data/{name}": batch[name] for name in ("ids_clip_l", "ids_clip_g", "time_ids")}
    data["data/latents"] = clean.astype(np.float32)
    return data | {"index": index, "noise": predicted[index].astype(np.float32), "timesteps": batch["timesteps"][index]}


def folder(out, name, pictures, prompts):
    """A folder of pictures with the captions of their prompts."""
    place = out / name
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for number, (picture, prompt) in enumerate(zip(pictures, prompts, strict=True)):
        shutil.copy(picture, place / f"{number:03}.png")
        (place / f"{number:03}.txt").write_text(prompt.split(" --")[0] + "\n")
    return place
