"""The UNet, and the loss that the base and the networks are trained with."""

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel

from . import vocabulary as v


def model(settings):
    """SDXL's UNet with fewer channels and transformers."""
    plan = settings.unet
    return UNet2DConditionModel(
        sample_size=settings.size // 8,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=plan.channels,
        layers_per_block=2,
        cross_attention_dim=plan.context,
        transformer_layers_per_block=plan.transformers,
        attention_head_dim=[channels // 64 for channels in plan.channels],  # diffusers' name for the number of heads
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=settings.text_2.hidden + 6 * 256,
    )


def alphas(device):
    """[1000] products of 1 - beta, scaled-linear from 0.00085 to 0.012."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return (1 - betas).cumprod(0).float().to(device)


def predict(unet, noisy, timesteps, context, pooled, sizes):
    """The noise in `noisy`; `sizes` [batch, 6] are original height and width, crop top and left, target."""
    conditions = {"text_embeds": pooled, "time_ids": sizes}
    return unet(noisy, timesteps, context, added_cond_kwargs=conditions, return_dict=False)[0]


class Loss:
    """Mean squared error of the noise over random pictures, captions, timesteps and noise."""

    def __init__(self, unet, encoders, data, batch, drop):
        self.unet, self.encoders, self.data, self.batch, self.drop = unet, encoders, data, batch, drop
        self.device = data["mean"].device
        self.alphas = alphas(self.device)
        self.empty = torch.from_numpy(v.tokens("")).long().to(self.device)

    def __call__(self):
        data, n, device = self.data, self.batch, self.device
        pick = torch.randint(len(data["mean"]), (n,), device=device)
        latents = data["mean"][pick].float()
        latents = latents + data["deviation"][pick].float() * torch.randn_like(latents)
        wording = torch.randint(data["tokens"].shape[1], (n,), device=device)
        tokens = data["tokens"][pick, wording].long()
        tokens = torch.where(torch.rand(n, 1, device=device) < self.drop, self.empty, tokens)
        timesteps = torch.randint(1000, (n,), device=device)
        noise = torch.randn_like(latents)
        alpha = self.alphas[timesteps][:, None, None, None]
        noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
        context, pooled = self.encoders(tokens)
        found = predict(self.unet, noisy, timesteps, context, pooled, data["sizes"][pick].float())
        return F.mse_loss(found.float(), noise)
