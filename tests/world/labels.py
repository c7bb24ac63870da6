"""The words beside the rows of the demonstration's picture, drawn once so that the program needs no font."""

from PIL import Image, ImageDraw, ImageFont

ROWS = ["your pictures", "no network:\nall rates 0", "all rates 1", "the rates that\nthe search found"]
WIDTH, HEIGHT = 132, 128


def run(files):
    """Writes `labels.png`: one label for each row, below each other."""
    sheet = Image.new("L", (WIDTH, HEIGHT * len(ROWS)), 255)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(16)
    for row, words in enumerate(ROWS):
        pen.multiline_text((WIDTH - 10, HEIGHT * (row + 0.5)), words, 40, font, anchor="rm", align="right", spacing=6)
    sheet.save(files / "labels.png", optimize=True)
