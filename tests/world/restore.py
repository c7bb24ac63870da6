"""Everything out of the packed files, to train networks anew, or the base further, without beginning at the beginning."""

import shutil

import torch
from safetensors.torch import save_file

from . import base, checkpoint, classifier, denoiser, networks, scene, text, unpack, vae
from .settings import HERE


def run(out, settings, _device):
    """The stage."""
    stored, _ = packed("world")
    unet, encoders, autoencoder = denoiser.model(settings), text.Encoders(settings), vae.model(settings)
    checkpoint.restore(stored, unet, encoders, autoencoder)
    base.save(out, unet, encoders)
    save_file({name: value.contiguous() for name, value in autoencoder.state_dict().items()}, out / vae.FILE)
    for name in scene.TRAINING:
        tensors, metadata = packed(name)
        save_file(tensors, networks.path(out, name), metadata)
    reader, _ = packed("classifier")
    save_file({name: value.float() for name, value in reader.items()}, out / classifier.FILE)
    shutil.copy(HERE / "logs" / "check.json", out)


def packed(name):
    """(tensors, metadata) of a packed file."""
    tensors, metadata = unpack.read(HERE / "files" / f"{name}.safetensors.gz")
    return {key: torch.from_numpy(value.copy()) for key, value in tensors.items()}, metadata
