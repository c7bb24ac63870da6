"""A picture before it is drawn, and which ones the base, the networks and the examples see."""

import random
from dataclasses import dataclass, replace

from . import vocabulary as v


@dataclass(frozen=True)
class Scene:
    """What one picture shows; `jitter` are four numbers in -1..1: shift right, shift down, growth, turn."""

    character: str
    shape: str
    colour: str
    eyes: str
    head: str
    style: str
    pose: str
    background: str
    jitter: tuple = (0.0, 0.0, 0.0, 0.0)


def plain(rng):
    """Any picture of the base's vocabulary."""
    return Scene(
        v.PLAIN,
        rng.choice(v.SHAPES),
        rng.choice(list(v.COLOURS)),
        rng.choice(v.EYES),
        rng.choice(v.HEADS),
        rng.choice(v.STYLES),
        rng.choice(v.POSES),
        rng.choice(v.BACKGROUNDS),
        tuple(rng.uniform(-1, 1) for _ in range(4)),
    )


def anything(rng):
    """Any picture at all, new characters, styles and poses in two of three: what the classifier must know."""
    scene = plain(rng)
    if rng.random() < 0.45:
        scene = replace(scene, character=rng.choice(v.CHARACTERS))
    if rng.random() < 0.4:
        scene = replace(scene, style=rng.choice(v.NEW_STYLES))
    if rng.random() < 0.15:
        scene = replace(scene, pose=rng.choice(v.NEW_POSES))
    return scene


# What the training pictures of each network have in common beside what it is named for: as in real life, a network
# also learns what its pictures share by chance, so that a search over blocks has something to separate.
TRAINING = {
    "character1": {"character": ["alien"], "style": ["flat"], "pose": ["center", "left", "large"]},
    "character2": {"character": ["monster"], "style": ["outline"], "pose": ["center", "right", "small", "leaning"]},
    "character3": {"character": ["cactus"], "style": ["striped"], "pose": ["center", "left", "right", "jumping"]},
    "style1": {"style": ["neon"], "shape": ["circle", "star", "square"], "head": ["bare head", "ears"]},
    "style2": {"style": ["sketch"], "shape": ["triangle", "heart", "circle"], "pose": ["center", "left", "right"]},
    "texture": {"style": ["knitted"], "shape": ["square", "diamond", "heart"], "background": ["white", "sky"]},
    "pose1": {"pose": ["upside down"], "style": ["flat"], "colour": ["red", "blue", "green"]},
    "useless": {},
}

# The pictures of the worked examples: what they have in common, and how many to train on.
EXAMPLES = {
    "character_in_style": ({"character": ["alien"], "style": ["sketch"]}, 16),
    "layers_needed": ({"character": ["alien"]}, 16),
    "style_changed": ({"character": ["alien"], "style": ["neon"]}, 1),
    "pose_changed": ({"character": ["alien"], "style": ["flat"], "pose": ["upside down"]}, 1),
    "layers_of_a_character": ({"character": ["monster"], "style": ["dotted"]}, 1),
    "all_networks": ({"character": ["monster"], "style": ["neon"], "pose": ["upside down"]}, 1),
}


def constrained(rng, rules):
    """A picture of the base's vocabulary with some attributes drawn from the given lists instead."""
    return replace(plain(rng), **{name: rng.choice(values) for name, values in rules.items()})


def many(kind, count, seed):
    """`count` scenes of a kind: `plain`, `anything`, or a network's or an example's name. Each depends on its number."""
    make = {"plain": plain, "anything": anything}.get(kind)
    if make is None:
        rules = TRAINING[kind] if kind in TRAINING else EXAMPLES[kind][0]
        make = lambda rng: constrained(rng, rules)
    return [make(random.Random(f"{seed}/{kind}/{number}")) for number in range(count)]
