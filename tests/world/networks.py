"""The networks, each trained on a folder of its own on top of the base."""

import torch

from . import base, denoiser, lora, scene, vae
from .trainer import Trainer

CONVOLUTIONS, TEXT = {"texture"}, {"character3"}


def path(out, name):
    """A network's file."""
    return out / f"{name}.safetensors"


def run(out, settings, device):
    """The stage."""
    unet, encoders = base.load(out, settings, device)
    autoencoder = vae.load(out, settings, device)
    for number, name in enumerate(scene.TRAINING):
        if name not in settings.only:
            continue
        torch.manual_seed(settings.seed + number)
        data = base.dataset(out, f"train_{name}", autoencoder, settings, device)
        network = lora.Network(unet, encoders, settings, device, name in CONVOLUTIONS, name in TEXT)
        loss = denoiser.Loss(unet, encoders, data, settings.network.batch, 0.0)
        trainer = Trainer(name, network.parameters(), loss, settings.network, out, device)
        trainer.run(quiet=True)
        metadata = {"ss_network_dim": str(settings.rank), "ss_network_alpha": str(settings.alpha), "ss_output_name": name}
        network.save(path(out, name), metadata)
        network.detach()
