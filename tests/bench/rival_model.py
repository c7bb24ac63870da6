"""The rival's model and its step: diffusers' SDXL UNet with random weights, random networks on it, and AdamW on the rates."""

import re

import torch
import torch.nn.functional as F
from torch import nn

SEED, SLOTS, LEARNING_RATE, PENALTY, SCALE = 0, 20, 0.1, 1e-4, 1.0
IN00, MID, OUT00 = 1, 10, 11  # Places among BASE, IN00..IN08, MID, OUT00..OUT08.
# diffusers calls the number of heads attention_head_dim.
FULL = dict(block_out_channels=(320, 640, 1280), transformer_layers_per_block=(1, 2, 10),
            attention_head_dim=(5, 10, 20), cross_attention_dim=2048,
            projection_class_embeddings_input_dim=1280 + 6 * 256)
TINY = dict(block_out_channels=(32, 64, 128), transformer_layers_per_block=(1, 1, 2), attention_head_dim=(1, 1, 2),
            cross_attention_dim=192, projection_class_embeddings_input_dim=128 + 6 * 256)


class Chained(nn.Module):
    """A linear layer with networks called one by one. `rates`: a scalar for each network, set before each step."""

    def __init__(self, base, downs, ups, slot):
        super().__init__()
        self.base, self.downs, self.ups, self.slot, self.rates = base, downs, ups, slot, ()

    def forward(self, x):  # [..., inputs] -> [..., outputs]
        y = self.base(x)
        for rate, down, up in zip(self.rates, self.downs, self.ups):
            y = y + F.linear(F.linear(x, down), up) * rate
        return y


class Stacked(nn.Module):
    """The same as two thin products for all networks. `vector`: [networks * rank], set before each step."""

    def __init__(self, base, downs, ups, slot):
        super().__init__()
        self.base, self.slot, self.vector = base, slot, None
        self.register_buffer("down", torch.cat(downs))  # [networks * rank, inputs]
        self.register_buffer("up", torch.cat(ups, dim=1).t().contiguous())  # [networks * rank, outputs]

    def forward(self, x):
        tokens = x.reshape(-1, x.shape[-1])
        h = F.linear(tokens, self.down) * self.vector
        y = F.linear(tokens, self.base.weight, self.base.bias)
        # In place: the product adds to y as it is written, without a copy of y or a pass of its own.
        return y.addmm_(h, self.up).view(*x.shape[:-1], -1)


def slot_of(name):
    """The place of a diffusers layer's rate: down_blocks.i.attentions.j is IN(3i + j + 1), up_blocks OUT(3i + j)."""
    if name.startswith("mid_block."):
        return MID
    way, block, layer = re.match(r"(down|up)_blocks\.(\d+)\.attentions\.(\d+)\.", name).groups()
    return (IN00 + 1 if way == "down" else OUT00) + 3 * int(block) + int(layer)


def make_unet(options, dtype):
    """SDXL's UNet with random weights, made where it is used."""
    from diffusers import UNet2DConditionModel

    torch.manual_seed(SEED)
    torch.set_default_dtype(dtype)
    with torch.device(options.device):
        unet = UNet2DConditionModel(
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), use_linear_projection=True,
            addition_embed_type="text_time", addition_time_embed_dim=256, **(TINY if options.tiny else FULL))
    torch.set_default_dtype(torch.float32)
    return unet.eval().requires_grad_(False)


def attach(unet, layer_class, networks, options):
    """Puts random networks on every linear layer of the transformers, drawn as `lora-rates bench` draws them."""
    layers = []
    for name, base in list(unet.named_modules()):
        inside = ".transformer_blocks." in name or (options.projections and re.search(r"\.proj_(in|out)$", name))
        if not (isinstance(base, nn.Linear) and inside):
            continue
        rank, inputs, outputs = options.rank, base.in_features, base.out_features
        downs = [base.weight.new_empty(rank, inputs).uniform_(-(inputs**-0.5), inputs**-0.5) for _ in range(networks)]
        ups = [base.weight.new_empty(outputs, rank).uniform_(-0.1, 0.1) * rank**-0.5 for _ in range(networks)]
        layers.append(layer_class(base, downs, ups, slot_of(name)))
        parent, _, child = name.rpartition(".")
        setattr(unet.get_submodule(parent), child, layers[-1])
    return layers


class Search:
    """A model, its networks and rates, and tensors that stay in place so that a graph can read them."""

    def __init__(self, options, mode, networks, batch, dtype, compiled=(), penalty=PENALTY):
        self.options, self.dtype, self.penalty, self.stacked = options, dtype, penalty, mode == "best"
        self.unet = make_unet(options, dtype)
        self.layers = attach(self.unet, Stacked if self.stacked else Chained, networks, options)
        self.format = torch.channels_last if self.stacked else torch.contiguous_format
        self.unet.to(memory_format=self.format)
        for module in self.unet.modules():
            if type(module).__name__ in compiled:
                module.compile(dynamic=False)
        self.rates = nn.Parameter(torch.full((networks, SLOTS), 0.5, device=options.device))
        # Capturable: the count of steps stays on the GPU, as a graph needs it.
        capturable = options.device.startswith("cuda")
        self.optimizer = torch.optim.AdamW([self.rates], lr=LEARNING_RATE, capturable=capturable)
        self.loss = None
        self.make_inputs(batch)

    def make_inputs(self, batch):
        config, side, pixels = self.unet.config, self.options.resolution // 8, float(self.options.resolution)
        place = dict(device=self.options.device)
        self.latents, self.noise = (torch.randn(batch, 4, side, side, **place) for _ in range(2))
        self.timesteps = torch.randint(0, 1000, (batch,), **place)
        self.context = torch.randn(batch, 77, config.cross_attention_dim, **place).to(self.dtype)
        pooled = torch.randn(batch, config.projection_class_embeddings_input_dim - 6 * 256, **place).to(self.dtype)
        sizes = torch.tensor([[pixels, pixels, 0, 0, pixels, pixels]], **place).expand(batch, 6).contiguous()
        self.conditions = dict(text_embeds=pooled, time_ids=sizes)
        self.alphas = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, **place) ** 2, 0)
        used = {layer.slot for layer in self.layers}
        self.live = torch.tensor([float(slot in used) for slot in range(SLOTS)], **place)

    def draw(self):
        """New noise and timesteps, in place and outside any graph."""
        self.noise.normal_()
        self.timesteps.random_(0, 1000)

    def spread(self, rates):
        """Gives each layer what it multiplies by; `rates` is [networks, 20]. Once a step, not once a layer."""
        rates = rates * SCALE
        if self.stacked:
            wide = rates.t().unsqueeze(2).expand(-1, -1, self.options.rank).reshape(SLOTS, -1)
            vectors = wide.to(self.dtype).unbind()
            for layer in self.layers:
                layer.vector = vectors[layer.slot]
        else:
            rows = [row.unbind() for row in rates.unbind()]
            for layer in self.layers:
                layer.rates = tuple(row[layer.slot] for row in rows)

    def step(self):
        """One step of the search; leaves the gradient in `rates.grad` and the mean squared error in `loss`."""
        # A leaf of this step's own: its node in the gradient's graph belongs to the stream that is captured.
        rates = self.rates.detach().requires_grad_()
        self.spread(rates)
        alpha = self.alphas[self.timesteps].view(-1, 1, 1, 1)
        noisy = alpha.sqrt() * self.latents + (1 - alpha).sqrt() * self.noise
        (predicted,) = self.unet(noisy.to(self.dtype, memory_format=self.format), self.timesteps, self.context,
                                 added_cond_kwargs=self.conditions, return_dict=False)
        loss = (predicted.float() - self.noise).square().mean((1, 2, 3)).mean()
        penalty = ((rates.abs() + 10 * F.relu(-rates)) * self.live).sum()
        (self.rates.grad,) = torch.autograd.grad(loss + self.penalty * penalty, rates)
        self.optimizer.step()
        self.loss = loss.detach()
