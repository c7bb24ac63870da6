"""The trained base and autoencoder out of the packed files, to train networks anew without training the base."""

import torch
from safetensors.torch import save_file

from . import base, checkpoint, denoiser, text, unpack, vae
from .settings import HERE


def run(out, settings, _device):
    """The stage."""
    stored, _ = unpack.read(HERE / "files" / "world.safetensors.gz")
    stored = {name: torch.from_numpy(value.copy()) for name, value in stored.items()}
    unet, encoders, autoencoder = denoiser.model(settings), text.Encoders(settings), vae.model(settings)
    checkpoint.restore(stored, unet, encoders, autoencoder)
    base.save(out, unet, encoders)
    save_file({name: value.contiguous() for name, value in autoencoder.state_dict().items()}, out / vae.FILE)
