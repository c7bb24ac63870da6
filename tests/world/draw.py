"""Draws a scene. Everything is drawn three times as large and shrunk, so that edges are smooth."""

from functools import lru_cache
from math import cos, pi, sin

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from . import vocabulary as v
from .figure import colour_of, parts

SIZE, OVER = 128, 3
BIG = SIZE * OVER
# Place of the body's centre, its radius in pixels, its turn in degrees.
PLACES = {
    "center": (64, 66, 27, 0),
    "left": (33, 72, 21, 0),
    "right": (95, 72, 21, 0),
    "small": (64, 84, 15, 0),
    "large": (64, 68, 37, 0),
    "leaning": (64, 66, 27, 28),
    "jumping": (64, 46, 24, 0),
    "upside down": (64, 60, 25, 180),
}
BACKGROUND = {"white": (246, 246, 244), "dark": (30, 32, 56), "sky": (150, 205, 245), "grass": (196, 226, 250)}
PAPER, NIGHT = (246, 240, 224), (8, 6, 18)


@lru_cache
def pattern(name):
    """A style's pattern over the whole picture, 255 where it shows."""
    y, x = np.mgrid[0:BIG, 0:BIG] / OVER
    if name == "dotted":
        row = np.floor(y / 9)
        on = ((x + 4.5 * (row % 2)) % 9 - 4.5) ** 2 + (y % 9 - 4.5) ** 2 < 2.5**2
    elif name == "striped":
        on = (x * 0.5 + y) % 10 < 4
    elif name == "sketch":
        on = (x + y) % 7 < 3.2
    else:  # knitted: rows of slanted stitches
        slant = np.abs((x % 8) - 4)
        on = (y + slant) % 6 < 2.6
    return Image.fromarray((on * 255).astype(np.uint8))


def place(scene):
    """Functions of a point in units of the body's radius, giving the large picture's pixels, and the radius there."""
    x, y, radius, turn = PLACES[scene.pose]
    right, down, growth, lean = scene.jitter
    radius *= 1 + 0.08 * growth
    if scene.pose == "leaning":
        turn *= 1 if lean > 0 else -1
    angle = (turn + 4 * lean) * pi / 180
    x, y = x + 4 * right, y + 3 * down
    c, s = cos(angle) * radius * OVER, sin(angle) * radius * OVER
    return lambda p: (x * OVER + p[0] * c - p[1] * s, y * OVER + p[0] * s + p[1] * c)


def background(scene):
    """The picture without the figure."""
    if scene.style == "neon":
        return Image.new("RGB", (BIG, BIG), NIGHT)
    if scene.style == "sketch":
        return Image.new("RGB", (BIG, BIG), PAPER)
    picture = Image.new("RGB", (BIG, BIG), BACKGROUND[scene.background])
    pen = ImageDraw.Draw(picture)
    if scene.background == "sky":
        for x, y, r in ((20, 22, 9), (32, 19, 12), (45, 23, 9), (92, 34, 8), (103, 31, 10), (113, 35, 7)):
            pen.ellipse([OVER * (x - r), OVER * (y - r * 0.6), OVER * (x + r), OVER * (y + r * 0.6)], fill=(250, 252, 255))
    if scene.background == "grass":
        pen.rectangle([0, OVER * 92, BIG, BIG], fill=(96, 180, 80))
    if scene.pose == "jumping":
        shade = tuple(int(value * 0.7) for value in picture.getpixel((BIG // 2, OVER * 112)))
        x = 64 + 4 * scene.jitter[0]
        pen.ellipse([OVER * (x - 22), OVER * 108, OVER * (x + 22), OVER * 116], fill=shade)
    return picture


def contour(pen, points, width, colour):
    """A closed line with round corners."""
    pen.line(points + points[:2], fill=colour, width=width, joint="curve")


def picture(scene):
    """The scene, three times its final size."""
    canvas, to = background(scene), place(scene)
    drawn = [(part, [to(p) for p in part.points]) for part in parts(scene)]
    if scene.style == "neon":
        return neon(canvas, drawn, colour_of(scene))
    for part, points in drawn:
        pen = ImageDraw.Draw(canvas)
        if scene.style == "sketch":
            mask = Image.new("L", (BIG, BIG))
            ImageDraw.Draw(mask).polygon(points, fill=255)
            canvas.paste(PAPER, mask=mask)
            canvas.paste(part.colour, mask=ImageChops.multiply(mask, pattern("sketch")))
            contour(pen, points, 4, tuple(int(value * 0.6) for value in part.colour))
            continue
        pen.polygon(points, fill=part.colour)
        if part.body and scene.style in ("dotted", "striped"):
            mask = Image.new("L", (BIG, BIG))
            ImageDraw.Draw(mask).polygon(points, fill=255)
            canvas.paste((252, 252, 252), mask=ImageChops.multiply(mask, pattern(scene.style)))
        if scene.style == "outline":
            contour(pen, points, 7, (16, 14, 20))
    if scene.style == "knitted":
        stitches = pattern("knitted").point(lambda value: 150 if value else 255)
        canvas = ImageChops.multiply(canvas, Image.merge("RGB", [stitches] * 3))
    return canvas


def neon(canvas, drawn, colour):
    """Glowing lines on black: the body's, head's and face's outlines."""
    lines = Image.new("RGB", (BIG, BIG))
    for part, points in drawn:
        pen = ImageDraw.Draw(lines)
        pen.polygon(points, fill=(0, 0, 0))
        shown = part.colour if sum(part.colour) > 200 else colour
        contour(pen, points, 7, tuple(min(255, int(value * 1.15) + 20) for value in shown))
    glow = lines.filter(ImageFilter.BoxBlur(9)).filter(ImageFilter.BoxBlur(9)).point(lambda value: min(255, int(value * 1.5)))
    return ImageChops.add(ImageChops.add(canvas, glow), lines)


def framed(big, rng):
    """(picture [128, 128, 3] u8, its six size numbers). With `rng`, one picture in three is a cut of a larger one or
    an enlarged small one, as in SDXL's training; the numbers say so: original height and width, crop top and left,
    target height and width."""
    kind = 0.0 if rng is None else rng.random()
    numbers = [SIZE, SIZE, 0, 0, SIZE, SIZE]
    if kind < 0.66:
        small = big.resize((SIZE, SIZE), Image.BOX)
    elif kind < 0.88:
        side = SIZE + rng.randint(6, 36)
        top, left = rng.randint(0, side - SIZE), rng.randint(0, side - SIZE)
        small = big.resize((side, side), Image.LANCZOS).crop((left, top, left + SIZE, top + SIZE))
        original = int(side * rng.choice([1, 1.5, 2]))
        numbers = [original, original, top, left, SIZE, SIZE]
    else:
        side = rng.randint(40, 100)
        small = big.resize((side, side), Image.BOX).resize((SIZE, SIZE), Image.BICUBIC)
        numbers = [side, side, 0, 0, SIZE, SIZE]
    return np.asarray(small), numbers
