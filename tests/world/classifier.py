"""A small network that reads a picture's attributes, to score what the models make."""

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from . import base, vae
from .pictures import LABELS
from .trainer import Trainer

FILE = "classifier.safetensors"
CHANNELS = [3, 24, 32, 64, 96, 64]  # five convolutions of stride 2: 128 pixels to 4


class Classifier(nn.Module):
    """Pictures 0..1 [n, 3, 128, 128] to the logits of all heads, one after the other."""

    def __init__(self, norms=True):
        super().__init__()
        blocks = []
        for inputs, outputs in zip(CHANNELS, CHANNELS[1:]):
            norm = nn.BatchNorm2d(outputs) if norms else nn.Identity()
            blocks.append(nn.Sequential(nn.Conv2d(inputs, outputs, 3, 2, 1), norm, nn.ReLU()))
        self.blocks = nn.Sequential(*blocks)
        self.heads = nn.Linear(CHANNELS[-1] * 16, sum(map(len, LABELS.values())))

    def forward(self, pictures):
        return self.heads(self.blocks(pictures * 2 - 1).flatten(1))

    def read(self, pictures):
        """{head: places of the values seen [n]}."""
        with torch.no_grad():
            return {head: logits.argmax(1) for head, logits in split(self(pictures)).items()}

    @torch.no_grad()
    def folded(self):
        """The same with its norms folded into the convolutions."""
        plain = Classifier(norms=False)
        plain.heads.load_state_dict(self.heads.state_dict())
        for ours, theirs in zip(self.blocks, plain.blocks):
            conv, norm = ours[0], ours[1]
            factor = norm.weight / (norm.running_var + norm.eps).sqrt()
            theirs[0].weight.copy_(conv.weight * factor[:, None, None, None])
            theirs[0].bias.copy_((conv.bias - norm.running_mean) * factor + norm.bias)
        return plain.eval()


def split(logits):
    """{head: its logits}."""
    return dict(zip(LABELS, logits.split([len(names) for names in LABELS.values()], 1)))


def load(out, device):
    """The trained classifier, norms folded."""
    model = Classifier(norms=False)
    model.load_state_dict(load_file(out / FILE))
    return model.to(device).eval().requires_grad_(False)


def disturbed(pictures):
    """A random shift by up to 3 pixels, blur, brightness and noise."""
    n, device = len(pictures), pictures.device
    weight = torch.rand(n, 1, 1, 1, device=device)
    blurred = F.avg_pool2d(pictures, 3, 1, 1, count_include_pad=False)
    pictures = pictures + weight * (blurred - pictures)
    shift = (torch.rand(n, 2, 1, device=device) - 0.5) * (12 / 128)
    turn = torch.eye(2, device=device).expand(n, 2, 2)
    grid = F.affine_grid(torch.cat([turn, shift], 2), list(pictures.shape), align_corners=False)
    pictures = F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
    gain = 1 + 0.2 * (torch.rand(n, 3, 1, 1, device=device) - 0.5)
    return pictures * gain + 0.04 * torch.randn_like(pictures) * torch.rand(n, 1, 1, 1, device=device)


def loss_of(model, pictures, labels):
    """Mean cross entropy of the heads, each over the pictures that show it."""
    logits = split(model(disturbed(pictures)).float())
    losses = []
    for place, head in enumerate(logits):
        told = labels[:, place]
        total = F.cross_entropy(logits[head], told, ignore_index=-1, reduction="sum")
        losses.append(total / (told >= 0).sum().clamp(min=1))
    return torch.stack(losses).mean()


def run(out, settings, device):
    """The stage: trained on pictures after the autoencoder, with a little noise in the latents."""
    torch.manual_seed(settings.seed)
    autoencoder = vae.load(out, settings, device)
    data = base.dataset(out, "anything", autoencoder, settings, device)
    spread = data["deviation"].float() + 0.06
    latents = data["mean"].float() + spread * torch.randn_like(spread)
    pictures = (vae.decode(autoencoder, latents, settings.latent_scale) * 255).round().byte()
    labels, held = data["labels"].long(), len(pictures) // 16
    model = Classifier().to(device)
    print(f"classifier: {sum(p.numel() for p in model.parameters())} weights", flush=True)

    def loss():
        pick = torch.randint(held, len(pictures), (settings.classifier.batch,), device=device)
        return loss_of(model, pictures[pick].float() / 255, labels[pick])

    Trainer("classifier", model.parameters(), loss, settings.classifier, out, device).run()
    model.eval()
    found, told = model.read(pictures[:held].float() / 255), labels[:held]
    for place, head in enumerate(LABELS):
        shown = told[:, place] >= 0
        print(f"classifier: {head} {(found[head] == told[:, place])[shown].float().mean():.4f} of {int(shown.sum())}")
    save_file({k: w.detach().contiguous().cpu() for k, w in model.folded().state_dict().items()}, out / FILE)
