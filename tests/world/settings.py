"""The settings file, as attributes."""

import tomllib
from pathlib import Path
from types import SimpleNamespace

HERE = Path(__file__).resolve().parent


def load(tiny=False):
    """Reads settings.toml; `tiny` puts its section `[tiny]` over the rest. Returns a namespace of namespaces."""
    values = tomllib.loads((HERE / "settings.toml").read_text())
    small = values.pop("tiny")
    if tiny:
        for name, value in small.items():
            if isinstance(value, dict):
                values[name] |= value
            else:
                values[name] = value
    spread = {name: SimpleNamespace(**value) if isinstance(value, dict) else value for name, value in values.items()}
    return SimpleNamespace(**spread)
