"""Losses of the same pictures, noise and timesteps under different rates, compared."""

from math import sqrt

# How many standard errors of the difference, picture by picture, make a clear win.
CLEAR = 2


def mean(numbers):
    numbers = list(numbers)
    return sum(numbers) / len(numbers)


def difference(ours, theirs):
    """(theirs - ours, its standard error) over the pictures: what is common to both cancels."""
    apart = [b - a for a, b in zip(ours["losses"], theirs["losses"], strict=True)]
    centre, count = mean(apart), len(apart)
    variance = sum((it - centre) ** 2 for it in apart) / max(1, count - 1)
    return centre, sqrt(variance / count)


def outcome(ours, theirs):
    """How our loss compares. `bars`: loss plus error is below theirs minus its error, errors being those of a mean over
    the pictures by itself. `clear`: the difference of the same pictures exceeds two of its own standard errors."""
    lower, error = difference(ours, theirs)
    bars = ours["loss"] + ours["standard_error"] < theirs["loss"] - theirs["standard_error"]
    return {"lower_by": lower, "error": error, "bars": bars, "clear": lower > CLEAR * error, "lost": -lower > CLEAR * error}


def table(headings, rows):
    """A Markdown table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"
