"""From a scene to the outlines of its figure, back to front."""

from dataclasses import dataclass

from . import vocabulary as v
from .shapes import BODIES, CROWN, HAT, ellipse, limb, shifted

INK, WHITE, GOLD = (24, 22, 30), (250, 250, 250), (240, 190, 30)
OWN_COLOUR = {"alien": (0, 170, 160), "monster": (150, 24, 60), "cactus": (150, 205, 50)}


@dataclass
class Part:
    """One outline with its colour; `body` parts carry a style's pattern."""

    points: list
    colour: tuple
    body: bool = False


def colour_of(scene):
    """The body's colour."""
    return OWN_COLOUR.get(scene.character) or v.COLOURS[scene.colour]


def darker(colour, factor=0.65):
    """A shade of a colour."""
    return tuple(int(value * factor) for value in colour)


def parts(scene):
    """The figure in units of its radius."""
    kind = scene.shape if scene.character == v.PLAIN else scene.character
    outline, top, eye_y = BODIES[kind]
    colour = colour_of(scene)
    found = limbs(scene, darker(colour))
    behind, front = trimmings(scene, top, colour)
    return found + behind + [Part(outline, colour, True)] + front + face(scene, eye_y)


def limbs(scene, colour):
    """Arms and legs, which tell the poses."""
    arms, legs = (1.35, 0.55), (0.4, 1.6)
    if scene.pose == "jumping":
        arms, legs = (1.6, -0.1), (0.95, 1.35)
    elif scene.pose in v.NEW_POSES:
        arms, legs = (1.4, -0.75), (0.75, 1.55)
    found = []
    for side in (-1, 1):
        found.append(Part(limb(0.5 * side, 0.1, arms[0] * side, arms[1], 0.12), colour))
        found.append(Part(limb(0.35 * side, 0.5, legs[0] * side, legs[1], 0.14), colour))
    return found


def trimmings(scene, top, colour):
    """(behind the body, before it): what is on the head, and what only a new character has."""
    if scene.character == "alien":
        stalks = [Part(limb(0.3 * s, top, 0.6 * s, top - 0.65, 0.07), darker(colour)) for s in (-1, 1)]
        bulbs = [Part(ellipse(0.6 * s, top - 0.7, 0.2), (250, 222, 60)) for s in (-1, 1)]
        return stalks + bulbs, [Part(ellipse(0, 0.5, 0.36, 0.28), (250, 222, 60))]
    if scene.character == "monster":
        horns = [Part([(0.25 * s, top + 0.2), (0.75 * s, top + 0.25), (0.85 * s, top - 0.65)], (250, 140, 20)) for s in (-1, 1)]
        belly = Part(ellipse(0, 0.62, 0.5, 0.3), (245, 232, 200))
        return horns, [belly]
    if scene.character == "cactus":
        petals = [Part(ellipse(0.26 * x, top - 0.12 + 0.26 * y, 0.2), (226, 40, 150)) for x, y in ((-1, 0), (1, 0), (0, -1), (0, 1))]
        spots = [Part(ellipse(x, y, 0.1), (226, 40, 150)) for x, y in ((-0.35, 0.25), (0.3, 0.5), (-0.2, 0.8), (0.35, 0.95))]
        return [], petals + [Part(ellipse(0, top - 0.12, 0.14), GOLD)] + spots
    if scene.head == "hat":
        return [], [Part(shifted(HAT, 0, top + 0.1), (60, 60, 75))]
    if scene.head == "crown":
        return [], [Part(shifted(CROWN, 0, top + 0.1), GOLD)]
    if scene.head == "ears":
        return [Part(ellipse(0.38 * s, top - 0.3, 0.2, 0.6), colour) for s in (-1, 1)], []
    return [], []


def face(scene, y):
    """Eyes and mouth."""
    eye = lambda x, radius: [Part(ellipse(x, y, radius), WHITE), Part(ellipse(x, y, radius * 0.55), INK)]
    mouth = [Part(limb(-0.16, y + 0.42, 0.16, y + 0.42, 0.05), INK)]
    if scene.character == "alien":
        return eye(-0.52, 0.21) + eye(0, 0.21) + eye(0.52, 0.21)
    if scene.character == "monster":
        teeth = [Part([(x - 0.13, y + 0.62), (x + 0.13, y + 0.62), (x, y + 0.9)], WHITE) for x in (-0.27, 0, 0.27)]
        return eye(0, 0.4) + teeth
    if scene.character == "cactus":
        return eye(-0.27, 0.16) + eye(0.27, 0.16) + [Part(ellipse(0, y + 0.4, 0.12, 0.15), INK)]
    if scene.eyes == "one eye":
        return eye(0, 0.33) + mouth
    if scene.eyes == "two eyes":
        return eye(-0.3, 0.22) + eye(0.3, 0.22) + mouth
    return [Part(limb(x - 0.17, y, x + 0.17, y, 0.06), INK) for x in (-0.3, 0.3)] + mouth
