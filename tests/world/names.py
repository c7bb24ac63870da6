"""From diffusers' names of weights to those of SDXL's single-file checkpoint."""

import re

import torch

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
OUTSIDE = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}


def unet(name):
    """Original name of a UNet's layer or weight."""
    for theirs, original in OUTSIDE.items():
        if name == theirs or name.startswith(theirs + "."):
            return original + name[len(theirs) :]
    match = re.fullmatch(r"(down_blocks|up_blocks|mid_block)\.(?:(\d+)\.)?(\w+)\.(\d+)\.(.+)", name)
    side, level, kind, index, rest = match.groups()
    level, index = int(level or 0), int(index)
    if kind == "resnets":
        part, _, end = rest.partition(".")
        rest = RESNET[part] + ("." + end if end else "")
    if side == "mid_block":
        return f"middle_block.{1 if kind == 'attentions' else 2 * index}.{rest}"
    if kind == "downsamplers":
        return f"input_blocks.{3 * level + 3}.0.{rest.replace('conv', 'op')}"
    if kind == "upsamplers":  # behind the residual block and the transformers, which all levels with one have
        return f"output_blocks.{3 * level + 2}.2.{rest}"
    place = 3 * level + index + (1 if side == "down_blocks" else 0)
    blocks = "input_blocks" if side == "down_blocks" else "output_blocks"
    return f"{blocks}.{place}.{0 if kind == 'resnets' else 1}.{rest}"


def vae(name):
    """Original name of a weight of the autoencoder."""
    name = re.sub(r"up_blocks\.(\d)", lambda m: f"up.{3 - int(m[1])}", name)
    for theirs, original in (
        (r"down_blocks\.(\d)", r"down.\1"),
        (r"mid_block\.resnets\.0", "mid.block_1"),
        (r"mid_block\.resnets\.1", "mid.block_2"),
        (r"mid_block\.attentions\.0\.group_norm", "mid.attn_1.norm"),
        (r"mid_block\.attentions\.0\.to_([qkv])", r"mid.attn_1.\1"),
        (r"mid_block\.attentions\.0\.to_out\.0", "mid.attn_1.proj_out"),
        (r"resnets\.(\d)", r"block.\1"),
        (r"downsamplers\.0", "downsample"),
        (r"upsamplers\.0", "upsample"),
        (r"conv_shortcut", "nin_shortcut"),
        (r"conv_norm_out", "norm_out"),
    ):
        name = re.sub(theirs, original, name)
    return name


OPENCLIP = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


def openclip(weights):
    """The second encoder's weights under OpenCLIP's names: query, key and value in one, the projection for `x @ P`."""
    found, prefix = {}, "text_model.encoder.layers."
    for name, value in weights.items():
        if name == "text_projection.weight":
            found["text_projection"] = value.T
        elif name.endswith("token_embedding.weight"):
            found["token_embedding.weight"] = value
        elif name.endswith("position_embedding.weight"):
            found["positional_embedding"] = value
        elif "final_layer_norm" in name:
            found[name.replace("text_model.final_layer_norm", "ln_final")] = value
        else:
            layer, rest = name.removeprefix(prefix).split(".", 1)
            part, end = rest.rsplit(".", 1)
            block = f"transformer.resblocks.{layer}"
            if part in OPENCLIP:
                found[f"{block}.{OPENCLIP[part]}.{end}"] = value
            elif part == "self_attn.q_proj":
                all_three = [weights[f"{prefix}{layer}.self_attn.{which}_proj.{end}"] for which in "qkv"]
                found[f"{block}.attn.in_proj_{end}"] = torch.cat(all_three)
    return found
