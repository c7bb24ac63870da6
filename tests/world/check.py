"""What the base and the networks have learned: pictures sampled, looked at by the classifier, and kept as sheets."""

import json

import numpy as np
import torch
from PIL import Image

from . import base, captions, classifier, lora, networks, sample, scene, vae
from .pictures import LABELS, labels

# The head that a network's success is read from.
NAMED_FOR = {"character": "character", "style": "style", "texture": "style", "pose": "pose"}


def sheet(path, rows):
    """Saves rows of pictures 0..1 [n, 3, h, w] as one PNG of 255 colours."""
    strips = [torch.cat(list(row), 2) for row in rows]
    pixels = (torch.cat(strips, 1).permute(1, 2, 0).cpu().numpy() * 255).round().astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).quantize(255).save(path, optimize=True)


def score(reader, pictures, scenes):
    """{head: part of the pictures that show what they should}, and `all`, the mean over what is to be seen."""
    told = torch.tensor([labels(s) for s in scenes], device=pictures.device)
    found = reader.read(pictures)
    right, shown, result = 0, 0, {}
    for place, head in enumerate(LABELS):
        seen = told[:, place] >= 0
        hits = (found[head] == told[:, place])[seen]
        if len(hits):
            result[head] = round(hits.float().mean().item(), 4)
        right, shown = right + int(hits.sum()), shown + len(hits)
    return result | {"all": round(right / shown, 4)}


def trials(name, count, seed):
    """(prompts, scenes) for a network: half as in its training pictures, half with everything else free, as far as the
    prompt can say it."""
    prompts, scenes = [], []
    for kind, told in (("as trained", captions.TOLD[name]), ("free", None)):
        rules = scene.TRAINING[name]
        first = next(iter(rules))
        mine = rules if kind == "as trained" else {first: rules[first]}
        for number in range(count // 2):
            shown = scene.constrained(scene.random.Random(f"{seed}/{name}/{kind}/{number}"), mine)
            scenes.append(shown)
            prompts.append(captions.caption(shown, None, told))
    return prompts, scenes


def run(out, settings, device):
    """The stage."""
    unet, encoders = base.load(out, settings, device)
    model = (unet, encoders, vae.load(out, settings, device))
    reader = classifier.load(out, device)
    seed, results, path = settings.seed + 1, {}, out / "check.json"
    if not settings.whole and path.exists():
        results = json.loads(path.read_text())
    # With `--only`, what is known of the base stays.
    if "base" not in results:
        scenes = scene.many("plain", settings.check_pictures, seed)
        prompts = [captions.caption(s) for s in scenes]
        pictures = sample.pictures(model, prompts, settings, seed)
        results["base"] = score(reader, pictures, scenes)
        print("check: base", results["base"], flush=True)
        sheet(out / "sheets" / "base.png", pictures[: len(pictures) // 8 * 8][:48].split(8))
        (out / "sheets" / "base.txt").write_text("\n".join(prompts[:48]) + "\n")
    for name in settings.only:
        results[name] = check_network(name, model, reader, out, settings, seed, device)
        # What there is stays if time runs out.
        path.write_text(json.dumps(results, indent=1) + "\n")


def check_network(name, model, reader, out, settings, seed, device):
    """Scores with the network at rate 0 and 1, `as trained` and `free`; of the useless one, the base's prompts."""
    count = settings.check_network_pictures
    if name == "useless":
        scenes = scene.many("plain", count, seed)
        prompts = [captions.caption(s) for s in scenes]
    else:
        prompts, scenes = trials(name, count, seed)
    before = sample.pictures(model, prompts, settings, seed)
    network = lora.Network.load(networks.path(out, name), model[0], model[1], settings, device)
    after = sample.pictures(model, prompts, settings, seed)
    network.detach()
    half, result = len(scenes) // 2, {}
    for kind, some in (("as trained", slice(None, half)), ("free", slice(half, None))):
        result[kind] = {
            "rate 0": score(reader, before[some], scenes[some]),
            "rate 1": score(reader, after[some], scenes[some]),
        }
    head = next((head for start, head in NAMED_FOR.items() if name.startswith(start)), "all")
    told = {kind: (r["rate 0"][head], r["rate 1"][head], "all", r["rate 1"]["all"]) for kind, r in result.items()}
    print(f"check: {name}, {head} at rate 0 and 1: {told}", flush=True)
    shown = list(range(min(8, half))) + list(range(half, half + min(8, half)))
    first, second = shown[: len(shown) // 2], shown[len(shown) // 2 :]
    sheet(out / "sheets" / f"{name}.png", [before[first], after[first], before[second], after[second]])
    (out / "sheets" / f"{name}.txt").write_text("\n".join(prompts[i] for i in shown) + "\n")
    return result
