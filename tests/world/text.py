"""The two text encoders, as CLIP's, over the tokens in use only. Names of the weights are those of transformers."""

import torch
import torch.nn.functional as F
from torch import nn

from . import vocabulary as v

HEAD = 64


class Attention(nn.Module):
    """Causal self-attention."""

    def __init__(self, width):
        super().__init__()
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            setattr(self, name, nn.Linear(width, width))

    def forward(self, x):  # [batch, 77, width]
        split = lambda y: y.unflatten(-1, (-1, HEAD)).transpose(1, 2)
        q, k, values = split(self.q_proj(x)), split(self.k_proj(x)), split(self.v_proj(x))
        seen = F.scaled_dot_product_attention(q, k, values, is_causal=True)
        return self.out_proj(seen.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """The feed-forward half of a layer."""

    def __init__(self, width, quick):
        super().__init__()
        self.fc1, self.fc2, self.quick = nn.Linear(width, 4 * width), nn.Linear(4 * width, width), quick

    def forward(self, x):
        x = self.fc1(x)
        return self.fc2(x * torch.sigmoid(1.702 * x) if self.quick else F.gelu(x))


class Layer(nn.Module):
    """One layer: norms before both halves."""

    def __init__(self, width, quick):
        super().__init__()
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.self_attn, self.mlp = Attention(width), Mlp(width, quick)

    def forward(self, x):
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class TextModel(nn.Module):
    """Gives the states after all layers but one, [batch, 77, width], and the last, through the final norm."""

    def __init__(self, width, layers, quick):
        super().__init__()
        self.embeddings = nn.Module()
        self.embeddings.token_embedding = nn.Embedding(len(v.table()[0]), width)
        self.embeddings.position_embedding = nn.Embedding(v.LENGTH, width)
        self.encoder = nn.Module()
        self.encoder.layers = nn.ModuleList(Layer(width, quick) for _ in range(layers))
        self.final_layer_norm = nn.LayerNorm(width)
        nn.init.normal_(self.embeddings.token_embedding.weight, std=0.02)
        nn.init.normal_(self.embeddings.position_embedding.weight, std=0.01)

    def forward(self, places):  # [batch, 77] places among the tokens in use
        x = self.embeddings.token_embedding(places) + self.embeddings.position_embedding.weight
        for layer in self.encoder.layers[:-1]:
            x = layer(x)
        return x, self.final_layer_norm(self.encoder.layers[-1](x))


class Encoders(nn.Module):
    """Both encoders, from the tokens of `vocabulary.tokens` to the UNet's conditioning."""

    def __init__(self, settings):
        super().__init__()
        self.te1, self.te2 = nn.Module(), nn.Module()
        self.te1.text_model = TextModel(settings.text_1.hidden, settings.text_1.layers, True)
        width = settings.text_2.hidden
        self.te2.text_model = TextModel(width, settings.text_2.layers, False)
        self.te2.text_projection = nn.Linear(width, width, bias=False)
        self.end, self.pad = v.place_of(v.END), v.place_of(v.PAD_2)

    def forward(self, places):
        """Context [batch, 77, 192], pooled [batch, 128]."""
        ends = (places == self.end).int()
        first = ends.argmax(1)
        after = ends.cumsum(1) > 1
        state_1, _ = self.te1.text_model(places)
        state_2, last = self.te2.text_model(torch.where(after, self.pad, places))
        pooled = last.gather(1, first[:, None, None].expand(-1, 1, last.shape[-1])).squeeze(1)
        return torch.cat([state_1, state_2], -1), self.te2.text_projection(pooled)


@torch.no_grad()
def spread_new_words(encoders, used):
    """Gives the rows that training never touched (all but the places in `used`) the spread of those that it did, as
    words of a real model that a network's trigger is made of have one too."""
    unused = [place for place in range(len(v.table()[0])) if place not in used]
    generator = torch.Generator().manual_seed(1)
    for model in (encoders.te1.text_model, encoders.te2.text_model):
        table = model.embeddings.token_embedding.weight
        known = table[sorted(used)]
        random = torch.randn(len(unused), table.shape[1], generator=generator).to(table.device)
        table[unused] = known.mean(0) + known.std(0) * random
