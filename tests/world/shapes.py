"""Outlines of bodies and their parts, in units of the body's radius, y downwards, centred."""

from math import cos, pi, sin


def ellipse(x, y, rx, ry=None, corners=40):
    """A closed curve around a point."""
    ry = rx if ry is None else ry
    return [(x + rx * cos(2 * pi * i / corners), y + ry * sin(2 * pi * i / corners)) for i in range(corners)]


def spikes(count, outer, inner):
    """A star: corners outside and inside in turn, one pointing up."""
    radius = [outer, inner]
    return [(radius[i % 2] * sin(pi * i / count), -radius[i % 2] * cos(pi * i / count)) for i in range(2 * count)]


def heart():
    """The usual curve, one unit high and wide on each side."""
    points = [2 * pi * i / 48 for i in range(48)]
    return [
        (sin(t) ** 3 * 1.05, -(13 * cos(t) - 5 * cos(2 * t) - 2 * cos(3 * t) - cos(4 * t)) / 15.5 - 0.08)
        for t in points
    ]


def capsule(half, height):
    """A tall body, round above and below."""
    arc = [pi * i / 16 for i in range(17)]
    top = [(-half * cos(t), -height + half - half * sin(t)) for t in arc]
    return top + [(half * cos(t), height - half + half * sin(t)) for t in arc]


# Outline, where the head's top is, and where the eyes are.
BODIES = {
    "circle": (ellipse(0, 0, 1), -0.95, -0.2),
    "square": ([(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)], -0.9, -0.25),
    "triangle": ([(0, -1.1), (1.15, 0.9), (-1.15, 0.9)], -0.95, 0.2),
    "star": (spikes(5, 1.2, 0.62), -1.05, -0.1),
    "heart": (heart(), -0.5, -0.2),
    "diamond": ([(0, -1.2), (0.95, 0), (0, 1.2), (-0.95, 0)], -1.05, -0.15),
    "alien": ([(sin(pi * i / 3 + pi / 6), -cos(pi * i / 3 + pi / 6)) for i in range(6)], -0.85, -0.25),
    "monster": (spikes(11, 1.15, 0.86), -0.9, -0.2),
    "cactus": (capsule(0.62, 1.25), -1.2, -0.4),
}

HAT = [(-0.62, 0.08), (0.62, 0.08), (0.62, -0.1), (0.38, -0.1), (0.38, -0.65), (-0.38, -0.65), (-0.38, -0.1), (-0.62, -0.1)]
CROWN = [(-0.5, 0.1), (0.5, 0.1), (0.58, -0.5), (0.25, -0.2), (0, -0.6), (-0.25, -0.2), (-0.58, -0.5)]


def shifted(points, x, y):
    """The same outline elsewhere."""
    return [(px + x, py + y) for px, py in points]


def limb(x0, y0, x1, y1, half):
    """A straight limb of a thickness, as a four-cornered outline."""
    dx, dy = x1 - x0, y1 - y0
    length = (dx * dx + dy * dy) ** 0.5
    nx, ny = -dy / length * half, dx / length * half
    return [(x0 + nx, y0 + ny), (x1 + nx, y1 + ny), (x1 - nx, y1 - ny), (x0 - nx, y0 - ny)]
