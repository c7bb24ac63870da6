"""Euler's method with classifier-free guidance, as diffusers' EulerDiscreteScheduler with SDXL's settings."""

import torch

from . import denoiser, vae
from . import vocabulary as v


def schedule(steps):
    """(timesteps [steps], noise levels [steps + 1]): leading spacing with offset 1."""
    alphas = denoiser.alphas("cpu").double()
    timesteps = torch.arange(steps - 1, -1, -1) * (1000 // steps) + 1
    sigmas = ((1 - alphas) / alphas).sqrt()[timesteps]
    return timesteps, torch.cat([sigmas, torch.zeros(1, dtype=torch.float64)])


@torch.no_grad()
def latents(unet, encoders, prompts, noise, steps, guidance, size=128):
    """Scaled latents [n, 4, h, w] for prompts, from standard normal `noise` of that shape."""
    device = noise.device
    tokens = torch.stack([torch.from_numpy(v.tokens(text)).long() for text in ["", *prompts]]).to(device)
    numbers = torch.tensor([size, size, 0, 0, size, size], dtype=torch.float32, device=device)
    timesteps, sigmas = schedule(steps)
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        context, pooled = encoders(tokens)
        n = len(prompts)
        context = torch.cat([context[:1].expand(n, -1, -1), context[1:]])
        pooled = torch.cat([pooled[:1].expand(n, -1), pooled[1:]])
        x = noise * (sigmas[0] ** 2 + 1).sqrt().float().item()
        for step, timestep in enumerate(timesteps):
            now, then = sigmas[step].item(), sigmas[step + 1].item()
            scaled = (x / (now * now + 1) ** 0.5).repeat(2, 1, 1, 1)
            times = timestep.to(device).expand(2 * n)
            found = denoiser.predict(unet, scaled, times, context, pooled, numbers.expand(2 * n, -1)).float()
            without, told = found.chunk(2)
            x = x + (without + guidance * (told - without)) * (then - now)
    return x


def pictures(model, prompts, settings, seed, batch=256):
    """Pictures 0..1 [n, 3, h, w] for prompts; `model` is (unet, encoders, vae). The noise of a picture depends on the
    seed and its place."""
    unet, encoders, autoencoder = model
    device = next(unet.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    side = settings.size // 8
    noise = torch.randn(len(prompts), 4, side, side, generator=generator).to(device)
    found = []
    for first in range(0, len(prompts), batch):
        some = slice(first, first + batch)
        x = latents(unet, encoders, prompts[some], noise[some], settings.sample_steps, settings.guidance, settings.size)
        found.append(vae.decode(autoencoder, x, settings.latent_scale))
    return torch.cat(found)
