"""Sample pictures before and after a search: a sheet, and what the classifier sees."""

import json

from .. import scene
from .setting import EXAMPLES, WORLD

PICTURES, GUIDANCE, STEPS = 6, 2.5, 28


def make(setting, name, networks, candidates):
    """Samples an example's pictures, saves the sheet, returns scores {rates: {head: part right}}; as OUT has them, if it
    does."""
    done = setting.out / "sheets" / f"{name}.json"
    if done.exists():
        return json.loads(done.read_text())
    count = 2 if setting.quick else PICTURES
    rows = ["all 0", "all 1", f"searched {setting.seeds[0]}"]
    folder = setting.out / "samples" / name
    captions = [(EXAMPLES / name / "heldout" / f"{place:02}.txt").read_text().strip() for place in range(count)]
    steps = 4 if setting.quick else STEPS
    prompts = [f"{text} --d {100 + place} --l {GUIDANCE} --s {steps}" for place, text in enumerate(captions)]
    drawn = [EXAMPLES / name / "heldout" / f"{place:02}.png" for place in range(count)]
    sampled = {}
    for row in rows:
        sampled[row] = setting.program.sample(row.replace(" ", "-"), networks, prompts, candidates[row], folder)
    save([drawn, *sampled.values()], setting.out / "sheets" / f"{name}.png")
    (setting.out / "sheets" / f"{name}.txt").write_text("\n".join(captions) + "\n")
    found = scores(name, sampled)
    done.write_text(json.dumps(found) + "\n")
    return found


def save(rows, path):
    """Rows of pictures' paths as one PNG of 255 colours."""
    from PIL import Image

    side = Image.open(rows[0][0]).size[0]
    whole = Image.new("RGB", (side * len(rows[0]), side * len(rows)))
    for down, row in enumerate(rows):
        for right, picture in enumerate(row):
            whole.paste(Image.open(picture).convert("RGB"), (right * side, down * side))
    path.parent.mkdir(parents=True, exist_ok=True)
    whole.quantize(255).save(path, optimize=True)


def scores(name, sampled):
    """What the classifier sees in the pictures of each row; nothing if it is not among the files, or torch is not here."""
    packed = WORLD / "files" / "classifier.safetensors.gz"
    if not packed.exists():
        return {}
    try:
        import numpy as np
        import torch
        from PIL import Image
    except ImportError as missing:
        print(f"{name}: pictures are not scored, {missing}", flush=True)
        return {}
    from .. import check, classifier, settings, unpack

    reader = classifier.Classifier(norms=False)
    weights, _ = unpack.read(packed)
    reader.load_state_dict({key: torch.from_numpy(np.array(value, np.float32)) for key, value in weights.items()})
    reader.eval()
    # As the held-out pictures were drawn.
    shown = scene.many(name, len(next(iter(sampled.values()))), settings.load().seed + 1)
    found = {}
    for row, paths in sampled.items():
        pixels = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])
        pictures = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        found[row] = check.score(reader, pictures, shown)
    return found
