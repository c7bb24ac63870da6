"""The arguments that the experiments share, and the world in a folder."""

import argparse
import shutil
import subprocess
import sys
import threading
from pathlib import Path

from .. import scene
from .program import Program

WORLD = Path(__file__).resolve().parents[1]
EXAMPLES = WORLD / "files" / "examples"

# The searches; experiments change what they are about.
SEARCH = {
    "max_train_steps": 60,
    "learning_rate": 0.1,
    "lr_scheduler": "cosine",
    "timestep_sampling": "stratified",
    "application_loss_weight": 1e-4,
}
# Where many networks are offered, using one is to cost more than chance could gain by it; and smaller steps leave less of
# their noise in rates that belong at 0.
OWN = {
    "character_in_style": {"application_loss_weight": 2e-3, "learning_rate": 0.05, "max_train_steps": 150},
    "layers_needed": {"application_loss_weight": 1e-3},
    "style_changed": {"application_loss_weight": 1e-3, "learning_rate": 0.05},
    "all_networks": {"application_loss_weight": 1e-3},
}
BATCH = 8
QUICK = {"max_train_steps": 8}


def parser(description):
    """The arguments of every experiment."""
    arguments = argparse.ArgumentParser(description=description)
    built = WORLD.parents[1] / "target" / "release" / "lora-rates"
    arguments.add_argument("--bin", type=Path, default=built, metavar="PATH")
    arguments.add_argument("--device", default="cpu", help="cpu or cuda:K")
    arguments.add_argument("--out", type=Path, required=True, help="folder for everything that is made")
    arguments.add_argument("--world", type=Path, help="the unpacked world, if it is unpacked already")
    arguments.add_argument("--jobs", type=int, default=1, help="processes at a time")
    arguments.add_argument("--seeds", type=int, default=5, help="searches of each kind")
    arguments.add_argument("--batch", type=int, default=64, help="samples that an evaluation computes together")
    arguments.add_argument("--steps", type=int, help="steps of a search, if not those of setting.py")
    arguments.add_argument("--quick", action="store_true", help="only show that everything works")
    return arguments


class Setting:
    """What the arguments come to: the program, the networks that there are, and the sizes of things."""

    def __init__(self, arguments):
        # The program runs in this folder, so paths are whole.
        self.quick, self.out = arguments.quick, arguments.out.resolve()
        self.copying = threading.Lock()
        world = arguments.world or self.out / "world"
        if not (world / "world.safetensors").exists():
            subprocess.run([sys.executable, str(WORLD / "unpack.py"), str(world)], check=True, stdout=subprocess.DEVNULL)
        self.program = Program(arguments.bin, arguments.device, world, self.out, arguments.jobs, arguments.batch)
        self.networks = [name for name in scene.TRAINING if (world / f"{name}.safetensors").exists()]
        missing = [name for name in scene.TRAINING if name not in self.networks]
        if missing:
            print(f"not in {world}, so not offered: {', '.join(missing)}", flush=True)
        self.seeds = [1] if self.quick else list(range(1, arguments.seeds + 1))
        self.batch = 4 if self.quick else BATCH
        self.steps = {"max_train_steps": arguments.steps} if arguments.steps else {}
        self.search = SEARCH | (QUICK if self.quick else {}) | self.steps
        # Samples of an evaluation on training pictures and on held-out ones.
        self.training_samples, self.held_out_samples = (16, 8) if self.quick else (64, 384)

    def pictures(self, name, part, which=slice(None), repeats=1):
        """A folder of an example's pictures: of `train` or `heldout` those that `which` takes, so often an epoch."""
        found = sorted((EXAMPLES / name / part).glob("*.png"))[which]
        if self.quick:
            found = found[:4]
        folder = self.out / "pictures" / f"{name}-{part}-{which.start or 0}-{which.stop or 'end'}-{repeats}"
        inner = folder / f"{repeats}_picture"
        # Searches that run already read here, so a file is there whole or not at all.
        with self.copying:
            inner.mkdir(parents=True, exist_ok=True)
            for picture in found:
                for path in (picture, picture.with_suffix(".txt")):
                    if not (inner / path.name).exists():
                        shutil.copy(path, inner / f"{path.name}.part")
                        (inner / f"{path.name}.part").rename(inner / path.name)
        return folder, len(found)

    def options(self, example):
        """The options of an example's search."""
        own = {} if self.quick else OWN.get(example, {})
        return self.search | own | self.steps

    def train(self, name):
        """An example's training pictures, repeated so that a batch is full; and how many there are."""
        count = len(list((EXAMPLES / name / "train").glob("*.png")))
        return self.pictures(name, "train", repeats=max(1, self.batch // count))


def per_picture(samples, pictures):
    """Samples of each picture that make about so many together."""
    return max(1, samples // pictures)
