"""The base model: both text encoders and the UNet, trained together."""

import numpy as np
import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from safetensors.torch import load_file, save_file

from . import denoiser, text, vae
from .trainer import Trainer, fuse

FILE = "base.safetensors"
DROPPED = 0.1  # part of the captions replaced by the empty one


def dataset(out, name, autoencoder, settings, device):
    """A set of pictures as latents on the device, with tokens, sizes and labels."""
    pictures = torch.from_numpy(np.load(out / f"{name}.npy")).to(device)
    notes = np.load(out / f"{name}.npz")
    mean, deviation = vae.encode(autoencoder, pictures, scale=settings.latent_scale)
    data = {key: torch.from_numpy(notes[key]).to(device) for key in ("tokens", "sizes", "labels")}
    return data | {"mean": mean.half(), "deviation": deviation.half()}


def load(out, settings, device):
    """(unet, encoders) as trained."""
    unet, encoders = denoiser.model(settings), text.Encoders(settings)
    weights = load_file(out / FILE)
    for prefix, part in (("unet.", unet), ("text.", encoders)):
        part.load_state_dict({k.removeprefix(prefix): w for k, w in weights.items() if k.startswith(prefix)})
        part.to(device).eval().requires_grad_(False)
    return unet, encoders


def save(out, unet, encoders):
    """Writes what `load` reads."""
    parts = {"unet": unet, "text": encoders}
    weights = {f"{prefix}.{name}": w for prefix, part in parts.items() for name, w in part.state_dict().items()}
    save_file({name: w.contiguous().cpu() for name, w in weights.items()}, out / FILE)


def run(out, settings, device):
    """The stage."""
    torch.manual_seed(settings.seed)
    data = dataset(out, "base", vae.load(out, settings, device), settings, device)
    if (out / FILE).exists():
        print(f"base: goes on from {out / FILE}", flush=True)
        torch.manual_seed(settings.seed + 1)
        unet, encoders = load(out, settings, device)
    else:
        unet, encoders = denoiser.model(settings).to(device), text.Encoders(settings).to(device)
    for part in (unet, encoders):
        part.train().requires_grad_(True)
        if device.type == "cuda":
            fuse(part, ResnetBlock2D, BasicTransformerBlock, text.Layer)
    count = lambda part: sum(p.numel() for p in part.parameters()) / 1e6
    print(f"base: UNet of {count(unet):.1f} million weights, text encoders of {count(encoders):.2f}", flush=True)
    loss = denoiser.Loss(unet, encoders, data, settings.base.batch, DROPPED)
    Trainer("base", [*unet.parameters(), *encoders.parameters()], loss, settings.base, out, device).run()
    text.spread_new_words(encoders, set(data["tokens"].unique().tolist()) | {encoders.pad})
    save(out, unet, encoders)
