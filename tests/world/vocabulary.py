"""What the world is made of, and which tokens of CLIP's vocabulary its captions use.

Every word is one token, so tokenizing is a look-up of `word</w>`.
"""

import json
import re
from functools import lru_cache
from pathlib import Path

import numpy as np

SHAPES = ["circle", "square", "triangle", "star", "heart", "diamond"]
COLOURS = {
    "red": (214, 40, 40),
    "orange": (250, 140, 20),
    "yellow": (250, 222, 60),
    "green": (46, 160, 67),
    "blue": (45, 90, 220),
    "purple": (132, 56, 180),
    "pink": (250, 140, 196),
}
EYES = ["one eye", "two eyes", "closed eyes"]
HEADS = ["bare head", "hat", "ears", "crown"]
STYLES = ["flat", "outline", "dotted", "striped"]
POSES = ["center", "left", "right", "small", "large", "leaning", "jumping"]
BACKGROUNDS = ["white", "dark", "sky", "grass"]
# What the base never sees.
CHARACTERS = ["alien", "monster", "cactus"]
NEW_STYLES = ["neon", "sketch", "knitted"]
NEW_POSES = ["upside down"]

PLAIN = "figure"  # the character of the base's pictures: a shape with eyes
ALL_CHARACTERS = [PLAIN, *CHARACTERS]
ALL_STYLES = [*STYLES, *NEW_STYLES]
ALL_POSES = [*POSES, *NEW_POSES]
# Styles that leave nothing of the background.
BARE_STYLES = ["neon", "sketch"]

# The words of captions beside those above.
GLUE = "a an the one with and on in style background picture drawing of , plain little no".split()
# Random captions of the network that is to learn nothing.
NOISE = "night meadow groot wool glow up far close standing drawn middle nothing side head image".split()

START, END, PAD_2 = 49406, 49407, 0
LENGTH = 77
CLIP = Path(__file__).resolve().parents[2] / "common" / "assets" / "clip" / "vocab.json"


def words():
    """All words that captions may use, each once, in a fixed order."""
    lists = [SHAPES, COLOURS, EYES, HEADS, ALL_STYLES, ALL_POSES, BACKGROUNDS, CHARACTERS, GLUE, NOISE]
    return list(dict.fromkeys(word for names in lists for name in names for word in name.split()))


@lru_cache
def table():
    """(rows, index): CLIP's ids in use, ascending, and from a word to its place among them."""
    clip = json.loads(CLIP.read_text())
    ids = {word: clip[word + "</w>"] for word in words()}
    rows = sorted({START, END, PAD_2, *ids.values()})
    place = {token: index for index, token in enumerate(rows)}
    return np.array(rows, np.int32), {word: place[token] for word, token in ids.items()}


def place_of(token):
    """The place of one of CLIP's ids among those in use."""
    return int(np.searchsorted(table()[0], token))


def tokens(caption):
    """[77] places of a caption's tokens: start, words, end, then end again as padding (as the first encoder pads)."""
    index = table()[1]
    inner = [index[word] for word in re.findall(r"[a-z]+|,", caption)][: LENGTH - 2]
    end = place_of(END)
    return np.array([place_of(START), *inner] + [end] * (LENGTH - 1 - len(inner)), np.int16)
