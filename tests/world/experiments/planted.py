"""Known rates, found again: how far from them a search from 0.5 ends, against how the loss bends with each.

    python3 -m world.experiments.planted --bin lora-rates --device cuda:0 --jobs 6 --out OUT

`predictions`: what the model itself predicts with the planted rates is the target (`lora-rates gradient`), and `lora-rates
trajectory` searches on it. The planted rates are then the minimum exactly, its loss is 0.
`pictures`: `lora-rates sample` makes pictures with the planted rates, without guidance, and `lora-rates search` searches
on them. A sampler's pictures follow the model's predictions only about, so the minimum is near the planted rates only.
Both without penalty. Writes OUT/planted.json and OUT/planted.md.
"""

import json
import random
from concurrent.futures import ThreadPoolExecutor

from . import compare, plant
from .program import BLOCKS, NAMES, live_of, rates_of
from .setting import EXAMPLES, Setting, parser, per_picture

NETWORKS, EXAMPLE = ["character1", "style2"], "character_in_style"
VALUES = [0.0, 0.0, 0.25, 0.5, 0.75, 1.0]
# How far rates are moved to measure the curvature, as `lora-rates search --curvature` moves them.
SHIFT = 0.25
CLOSE = 0.1
STEPS, DISTINCT = 300, 256


def planted_rates(live):
    """20 N known rates."""
    rng = random.Random("planted")
    return [rng.choice(VALUES) if it else 0.0 for it in live]


def live_slots(setting):
    """Which slots have a module: what a search says of them; its few steps are not used."""
    folder, _ = setting.pictures(EXAMPLE, "train", slice(0, 1))
    return live_of(setting.program.search("planted-live", NETWORKS, folder, 1, 1, {"max_train_steps": 1})["networks"])


def by_predictions(setting, rates):
    """(found rates, curvatures) where the targets are the model's own predictions."""
    program, out = setting.program, setting.out / "planted"
    out.mkdir(exist_ok=True)
    folders = [setting.pictures(EXAMPLE, part)[0] for part in ("train", "heldout")]
    batch = plant.samples(folders, 16 if setting.quick else DISTINCT)
    plant.write(out / "batch.safetensors", batch)
    (out / "rates.json").write_text(json.dumps([rates[i : i + BLOCKS] for i in range(0, len(rates), BLOCKS)]))
    model = program.model(NETWORKS)
    words = ["--batch", str(out / "batch.safetensors"), "--rates", str(out / "rates.json")]
    program.run("gradient", [*model, *words, "--output", str(out / "predicted.safetensors")], out / "gradient.log")
    predicted = plant.read(out / "predicted.safetensors")["pred"]
    steps = setting.search["max_train_steps"] if setting.quick else STEPS
    plant.write(out / "steps.safetensors", plant.steps(batch, predicted, steps, setting.batch))
    words = ["--steps", str(out / "steps.safetensors"), "--output", str(out / "course.safetensors")]
    words += ["--lr_scheduler", "cosine", "--application_loss_weight", "0", "--optimizer_args", "weight_decay=0"]
    program.run("trajectory", [*model, *words], out / "trajectory.log")
    found = [float(rate) for rate in plant.read(out / "course.safetensors")["rates"][-1]]
    folder, count = setting.pictures(EXAMPLE, "heldout")
    samples = per_picture(setting.held_out_samples, count)
    with program.evaluator("planted", NETWORKS, folder, 1, samples) as evaluate:
        loss, bends = evaluate(rates)["loss"], {}
        for slot, live in enumerate(live_slots_of(rates, found)):
            if live:
                moved = [evaluate(rates[:slot] + [rates[slot] + by] + rates[slot + 1 :])["loss"] for by in (SHIFT, -SHIFT)]
                bends[slot] = (sum(moved) - 2 * loss) / SHIFT**2
    return found, bends


def live_slots_of(rates, found):
    """A slot that is not searched stays at 0 in both."""
    return [not (a == 0.0 and b == 0.0) for a, b in zip(rates, found)]


def by_pictures(setting, rates, jobs):
    """(found rates, curvatures) where the model sampled the pictures."""
    count, steps = (4, 4) if setting.quick else (96, 50)
    paths = [path for part in ("train", "heldout") for path in (EXAMPLES / EXAMPLE / part).glob("*.txt")]
    texts = sorted(path.read_text().strip() for path in paths)
    prompts = [f"{texts[place % len(texts)]} --l 1 --s {steps} --d {place}" for place in range(count)]
    share = -(-count // (1 if setting.quick else jobs))
    parts = [prompts[first : first + share] for first in range(0, count, share)]
    folder = setting.out / "planted" / "sampled"
    sample = lambda part: setting.program.sample(f"part{part[0]}", NETWORKS, part[1], rates, folder)
    with ThreadPoolExecutor() as pool:
        paths = [path for some in pool.map(sample, enumerate(parts)) for path in some]
    held_out = count // 4
    place = setting.out / "planted"
    train = plant.folder(place, "train", paths[held_out:], prompts[held_out:])
    held = plant.folder(place, "heldout", paths[:held_out], prompts[:held_out])
    options = setting.search | {"application_loss_weight": 0, "optimizer_args": "weight_decay=0", "curvature": True}
    options |= {} if setting.quick else {"max_train_steps": STEPS}
    options |= {"validation_data_dir": held, "validate_every_n_steps": options["max_train_steps"]}
    options["validation_samples_per_image"] = per_picture(setting.held_out_samples, held_out)
    report = setting.program.search("planted", NETWORKS, train, setting.batch, 1, options)
    order = [(network["name"], block) for network in report["networks"] for block in NAMES]
    bends = {order.index((it["network"], it["block"])): it["curvature"] for it in report["conclusion"]["curvature"]}
    return rates_of(report["networks"]), bends


def summary(rates, found, bends):
    """Every slot, the ones that bend most first, and the bound above which all are close."""
    slots = []
    for slot, curvature in sorted(bends.items(), key=lambda it: -it[1]):
        name = f"{NETWORKS[slot // BLOCKS]} {NAMES[slot % BLOCKS]}"
        apart = abs(found[slot] - rates[slot])
        slots.append({"slot": name, "planted": rates[slot], "found": found[slot], "apart": apart, "curvature": curvature})
    bound = max([0.0, *(it["curvature"] for it in slots if it["apart"] > CLOSE)])
    return {"bound": bound, "above": sum(it["curvature"] > bound for it in slots), "slots": slots}


def main():
    arguments = parser(__doc__.splitlines()[0])
    arguments.add_argument("--kinds", nargs="+", choices=["predictions", "pictures"], default=["predictions", "pictures"])
    arguments = arguments.parse_args()
    setting = Setting(arguments)
    rates = planted_rates(live_slots(setting))
    results, text = {}, ""
    for kind in arguments.kinds:
        found = by_predictions(setting, rates) if kind == "predictions" else by_pictures(setting, rates, arguments.jobs)
        result = results[kind] = summary(rates, *found)
        slots = result["slots"]
        close = sum(it["apart"] <= CLOSE for it in slots)
        text += f"\n{kind}: {close} of {len(slots)} slots within {CLOSE}, "
        text += f"among them all {result['above']} of a curvature above {result['bound']:.2e}\n\n"
        row = lambda it: [it["slot"], f"{it['curvature']:.2e}", it["planted"], f"{it['found']:.3f}", f"{it['apart']:.3f}"]
        text += compare.table(["slot", "curvature", "planted", "found", "apart"], map(row, slots))
    (setting.out / "planted.json").write_text(json.dumps(results, indent=1) + "\n")
    (setting.out / "planted.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
