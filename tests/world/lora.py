"""Networks: small factors beside the layers of the model, in kohya's format."""

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from . import names


def layers(unet, encoders, convolutions, text):
    """(kohya's name, layer) of everything that a network adds to: the linear layers of the transformers; with
    `convolutions` those of the residual blocks and changes of resolution; with `text` those of both encoders."""
    for name, layer in unet.named_modules():
        linear = isinstance(layer, nn.Linear) and ".attentions." in name
        conv = convolutions and isinstance(layer, nn.Conv2d) and name not in ("conv_in", "conv_out")
        if linear or conv:
            yield "lora_unet_" + names.unet(name).replace(".", "_"), layer
    if text:
        for prefix, encoder in (("lora_te1_", encoders.te1), ("lora_te2_", encoders.te2)):
            for name, layer in encoder.named_modules():
                if isinstance(layer, nn.Linear) and name != "text_projection":
                    yield prefix + name.replace(".", "_"), layer


class Network:
    """One network, attached to a model while it is in use: `y = W x + rate * alpha / rank * up(down(x))`."""

    def __init__(self, unet, encoders, settings, device, convolutions=False, text=False):
        self.alpha, self.rate = settings.alpha, 1.0
        self.down, self.up, self.hooks = {}, {}, []
        for name, layer in layers(unet, encoders, convolutions, text):
            conv = isinstance(layer, nn.Conv2d)
            rank = settings.conv_rank if conv and layer.kernel_size[0] > 1 else settings.rank
            if conv:
                down = nn.Conv2d(layer.in_channels, rank, layer.kernel_size, layer.stride, layer.padding, bias=False)
                up = nn.Conv2d(rank, layer.out_channels, 1, bias=False)
            else:
                down = nn.Linear(layer.in_features, rank, bias=False)
                up = nn.Linear(rank, layer.out_features, bias=False)
            nn.init.zeros_(up.weight)
            self.down[name], self.up[name] = down.to(device), up.to(device)
            self.hooks.append(layer.register_forward_hook(self.adder(name, self.alpha / rank)))

    def adder(self, name, scale):
        down, up = self.down[name], self.up[name]
        return lambda _layer, taken, given: given + up(down(taken[0])) * (scale * self.rate)

    def parameters(self):
        return [p for part in (self.down, self.up) for layer in part.values() for p in layer.parameters()]

    def detach(self):
        for hook in self.hooks:
            hook.remove()

    def save(self, path, metadata):
        tensors = {}
        for name in self.down:
            tensors[f"{name}.lora_down.weight"] = self.down[name].weight.detach().half().contiguous().cpu()
            tensors[f"{name}.lora_up.weight"] = self.up[name].weight.detach().half().contiguous().cpu()
            tensors[f"{name}.alpha"] = torch.tensor(self.alpha, dtype=torch.float16)
        save_file(tensors, path, metadata)

    @classmethod
    def load(cls, path, unet, encoders, settings, device):
        """Attaches a saved network."""
        tensors = load_file(path, device=str(device))
        convolutions = any("in_layers" in name for name in tensors)
        network = cls(unet, encoders, settings, device, convolutions, any("lora_te1" in name for name in tensors))
        for name in network.down:
            network.down[name].weight.data.copy_(tensors[f"{name}.lora_down.weight"])
            network.up[name].weight.data.copy_(tensors[f"{name}.lora_up.weight"])
            network.down[name].requires_grad_(False)
            network.up[name].requires_grad_(False)
        return network
