"""`python3 -m world STAGE ... --out DIR`: see README.md."""

import argparse
import importlib
import time
from pathlib import Path

from . import scene
from . import settings as settings_file

STAGES = ["pictures", "vae", "base", "model", "networks", "classifier", "check", "pack"]


def main():
    parser = argparse.ArgumentParser(prog="world", description=__doc__)
    parser.add_argument("stages", nargs="+", choices=[*STAGES, "all", "restore"])
    parser.add_argument("--out", type=Path, required=True, help="folder of everything that the stages make")
    parser.add_argument("--seconds", type=float, help="stop each training of these stages after so many seconds")
    parser.add_argument("--device", default=None, help="cuda or cpu; the GPU by default if there is one")
    parser.add_argument("--only", nargs="+", metavar="NETWORK", help="draw for, train and check these networks only")
    parser.add_argument("--tiny", action="store_true", help="only show that every stage works")
    arguments = parser.parse_args()
    settings = settings_file.load(arguments.tiny)
    if arguments.seconds is not None:
        for training in (settings.vae, settings.base, settings.network, settings.classifier):
            training.seconds = arguments.seconds
    unknown = set(arguments.only or []) - set(scene.TRAINING)
    if unknown:
        parser.error(f"--only: no network is named {', '.join(sorted(unknown))}; there are {', '.join(scene.TRAINING)}")
    settings.only = arguments.only or list(scene.TRAINING)
    settings.whole = arguments.only is None
    arguments.out.mkdir(parents=True, exist_ok=True)
    for stage in STAGES if "all" in arguments.stages else arguments.stages:
        begun = time.time()
        module = importlib.import_module(f"{__package__}.{stage}")
        module.run(arguments.out, settings, device(arguments.device))
        print(f"stage {stage}: {time.time() - begun:.1f} s", flush=True)


def device(name):
    """The device named, or the best there is."""
    import torch

    if torch.cuda.is_available():
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


if __name__ == "__main__":
    main()
