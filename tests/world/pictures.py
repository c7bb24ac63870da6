"""Draws the sets of pictures, by all processors."""

import os
import random
import time
from dataclasses import asdict
from multiprocessing import get_context

import numpy as np

from . import captions, draw, scene
from . import vocabulary as v

# The heads of the classifier, and the values of each.
LABELS = {
    "character": v.ALL_CHARACTERS,
    "style": v.ALL_STYLES,
    "pose": v.ALL_POSES,
    "background": v.BACKGROUNDS,
    "shape": v.SHAPES,
    "colour": list(v.COLOURS),
    "eyes": v.EYES,
    "head": v.HEADS,
}
OF_FIGURES = ["shape", "colour", "eyes", "head"]


def labels(shown):
    """[8] places of a scene's values among `LABELS`; -1 where a picture doesn't show it."""
    values = asdict(shown)
    found = [names.index(values[head]) for head, names in LABELS.items()]
    for place, head in enumerate(LABELS):
        new = shown.character != v.PLAIN and head in OF_FIGURES
        if new or (head == "background" and shown.style in v.BARE_STYLES):
            found[place] = -1
    return found


def draw_some(job):
    """Draws scenes into rows of a file; returns their size numbers."""
    path, first, scenes, vary, seed = job
    rows = np.load(path, mmap_mode="r+")
    sizes = []
    for row, shown in enumerate(scenes, first):
        rng = random.Random(f"{seed}/frame/{row}") if vary else None
        rows[row], numbers = draw.framed(draw.picture(shown), rng)
        sizes.append(numbers)
    return sizes


def draw_set(out, name, kind, count, settings, vary=False, wording=None, wordings=None):
    """Writes `name.npy` (pictures [n, 128, 128, 3] u8) and `name.npz`: `sizes` [n, 6], `tokens` [n, wordings, 77],
    `labels` [n, 8]. `wording(scene, rng)` makes the captions. Returns the scenes and their first captions."""
    begun, wordings = time.time(), wordings or settings.captions
    wording = wording or captions.caption
    scenes = scene.many(kind, count, settings.seed)
    path = str(out / f"{name}.npy")
    np.lib.format.open_memmap(path, "w+", np.uint8, (count, draw.SIZE, draw.SIZE, 3)).flush()
    step = max(1, min(250, count // 16))
    jobs = [(path, first, scenes[first : first + step], vary, f"{settings.seed}/{name}") for first in range(0, count, step)]
    with get_context("fork").Pool(min(os.cpu_count() or 1, len(jobs))) as pool:
        sizes = [numbers for some in pool.imap(draw_some, jobs) for numbers in some]
    texts = [[wording(s, random.Random(f"{settings.seed}/{name}/{i}/{k}")) for k in range(wordings)] for i, s in enumerate(scenes)]
    np.savez(
        out / f"{name}.npz",
        sizes=np.array(sizes, np.int16),
        tokens=np.array([[v.tokens(text) for text in some] for some in texts]),
        labels=np.array([labels(s) for s in scenes], np.int8),
    )
    print(f"pictures {name}: {count} in {time.time() - begun:.1f} s", flush=True)
    return scenes, [some[0] for some in texts]


def run(out, settings, _device):
    """The stage: pictures for the base, the classifier and every network."""
    if settings.whole:
        draw_set(out, "base", "plain", settings.base_pictures, settings, vary=True)
        draw_set(out, "anything", "anything", settings.classifier_pictures, settings, wordings=1)
    for name in settings.only:
        wording = lambda shown, rng, name=name: captions.of_network(name, shown, rng)
        draw_set(out, f"train_{name}", name, settings.network_pictures, settings, wording=wording)
