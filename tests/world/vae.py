"""The picture autoencoder: trained freely, then scaled so that its latents fit SDXL's factor."""

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from diffusers.models.resnet import ResnetBlock2D
from safetensors.torch import load_file, save_file

from .trainer import Trainer, fuse

FILE = "vae.safetensors"
# Weight of the divergence from a normal distribution, per number of a latent.
KL = 3e-4


def model(settings):
    """SDXL's autoencoder with fewer channels."""
    channels = settings.vae_model.channels
    return AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=channels,
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=32,
        scaling_factor=settings.latent_scale,
        sample_size=settings.size,
    )


def load(out, settings, device):
    """The trained autoencoder."""
    vae = model(settings)
    vae.load_state_dict(load_file(out / FILE))
    return vae.to(device).eval().requires_grad_(False)


def floats(pictures):
    """u8 [n, h, w, 3] to -1..1 [n, 3, h, w]."""
    return pictures.permute(0, 3, 1, 2).float() / 127.5 - 1


def moments(vae, pictures):
    """Mean and logarithm of the variance, [n, 4, h/8, w/8] each."""
    mean, logvar = vae.quant_conv(vae.encoder(pictures)).chunk(2, 1)
    return mean, logvar.clamp(-30, 20)


def loss_of(vae, pictures):
    """Absolute and squared error, errors of the differences of neighbours (sharp edges), and the divergence."""
    mean, logvar = moments(vae, pictures)
    again = vae.decoder(vae.post_quant_conv(mean + (0.5 * logvar).exp() * torch.randn_like(mean))).float()
    wrong = again - pictures
    edges = (wrong[..., 1:] - wrong[..., :-1]).abs().mean() + (wrong[..., 1:, :] - wrong[..., :-1, :]).abs().mean()
    mean, logvar = mean.float(), logvar.float()
    divergence = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
    return wrong.abs().mean() + 2 * wrong.square().mean() + 0.5 * edges + KL * divergence


@torch.no_grad()
def fold(vae, pictures, scale):
    """Moves and scales each channel of the latents to mean 0 and deviation 1 / scale, in the two 1x1 convolutions
    next to them: what comes out of the decoder stays the same."""
    means, variances = encode(vae, pictures, scaled=False)
    centre = means.mean((0, 2, 3))
    spread = (means.var((0, 2, 3)) + variances.mean((0, 2, 3))).sqrt()
    factor = 1 / (scale * spread)
    outer, inner = vae.quant_conv, vae.post_quant_conv
    outer.weight[:4] *= factor[:, None, None, None]
    outer.bias[:4] = (outer.bias[:4] - centre) * factor
    outer.bias[4:] += 2 * factor.log()
    inner.bias += inner.weight[:, :, 0, 0] @ centre
    inner.weight /= factor[None, :, None, None]


@torch.no_grad()
def encode(vae, pictures, scaled=True, scale=None, batch=250):
    """Mean and variance of the latents of u8 pictures; `scaled` gives mean and standard deviation times `scale`."""
    means, spreads = [], []
    for some in pictures.split(batch):
        with torch.autocast(pictures.device.type, torch.bfloat16, enabled=pictures.is_cuda):
            mean, logvar = moments(vae, floats(some))
        means.append(mean.float() * (scale if scaled else 1))
        spreads.append((logvar.float() * 0.5).exp() * scale if scaled else logvar.float().exp())
    return torch.cat(means), torch.cat(spreads)


@torch.no_grad()
def decode(vae, latents, scale, batch=250):
    """Pictures 0..1 [n, 3, h, w] of scaled latents."""
    pictures = []
    for some in latents.split(batch):
        with torch.autocast(latents.device.type, torch.bfloat16, enabled=latents.is_cuda):
            pictures.append(vae.decoder(vae.post_quant_conv(some / scale)).float())
    return (torch.cat(pictures) / 2 + 0.5).clamp(0, 1)


def run(out, settings, device):
    """The stage."""
    torch.manual_seed(settings.seed)
    pictures = torch.cat([torch.from_numpy(np.load(out / f"{name}.npy")) for name in ("anything", "base")]).to(device)
    learning = model(settings).to(device)
    if device.type == "cuda":
        fuse(learning, ResnetBlock2D)

    def loss():
        pick = torch.randint(len(pictures), (settings.vae.batch,), device=device)
        return loss_of(learning, floats(pictures[pick]))

    Trainer("vae", learning.parameters(), loss, settings.vae, out, device).run()
    vae = model(settings).to(device)
    vae.load_state_dict(learning.state_dict())
    vae.requires_grad_(False)
    fold(vae, pictures[:4000], settings.latent_scale)
    shown = pictures[:500]
    mean, deviation = encode(vae, shown, scale=settings.latent_scale)
    again = decode(vae, mean, settings.latent_scale)
    error = F.mse_loss(again, floats(shown) / 2 + 0.5, reduction="none").mean((1, 2, 3))
    print(f"vae: {(-10 * error.log10()).mean():.2f} dB, latents' deviation {mean.std():.3f}, noise {deviation.mean():.3f}")
    save_file({name: value.contiguous().cpu() for name, value in vae.state_dict().items()}, out / FILE)
