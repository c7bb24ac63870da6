"""The trained parts as one dictionary under SDXL's original names, and back."""

import torch

from . import names
from . import vocabulary as v

UNET, VAE = "model.diffusion_model.", "first_stage_model."
TEXT_1, TEXT_2 = "conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."


def original(unet, encoders, vae):
    """{original name: f32 tensor}; token tables hold the used rows, as `X.rows`, and `token_rows` says which."""
    found = {UNET + names.unet(name): value for name, value in unet.state_dict().items()}
    for name, value in vae.state_dict().items():
        if ".attentions." in name and value.dim() == 2:
            value = value[:, :, None, None]  # stored as a 1x1 convolution
        found[VAE + names.vae(name)] = value
    found |= {TEXT_1 + name: value for name, value in encoders.te1.state_dict().items()}
    found |= {TEXT_2 + name: value for name, value in names.openclip(encoders.te2.state_dict()).items()}
    tables = [name for name in found if name.endswith("token_embedding.weight")]
    found |= {name + ".rows": found.pop(name) for name in tables}
    found["token_rows"] = torch.from_numpy(v.table()[0])
    return {name: value.detach().contiguous().cpu() for name, value in found.items()}


@torch.no_grad()
def restore(tensors, unet, encoders, vae):
    """Puts the tensors of `original` back into the parts; raises KeyError if one is missing."""
    for name, value in unet.state_dict().items():
        value.copy_(tensors[UNET + names.unet(name)])
    for name, value in vae.state_dict().items():
        value.copy_(tensors[VAE + names.vae(name)].reshape(value.shape))
    for name, value in encoders.te1.state_dict().items():
        key = TEXT_1 + name
        value.copy_(tensors[key + ".rows" if name.endswith("token_embedding.weight") else key])
    state = encoders.te2.state_dict()
    for place, which in enumerate("qkv"):
        for name, value in state.items():
            if f".{which}_proj." in name:
                layer, end = name.split(".")[3], name.rsplit(".", 1)[1]
                joined = tensors[f"{TEXT_2}transformer.resblocks.{layer}.attn.in_proj_{end}"]
                value.copy_(joined.chunk(3)[place])
    sources = {id(value): name for name, value in state.items()}
    for key, value in names.openclip(state).items():
        name = key + ".rows" if key == "token_embedding.weight" else key
        if "in_proj" not in key:
            target = value if id(value) in sources else state["text_projection.weight"].T
            target.copy_(tensors[TEXT_2 + name])
