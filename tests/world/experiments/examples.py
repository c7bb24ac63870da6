"""The worked examples: a search over five seeds against the rates that people set by hand, on held-out pictures.

    python3 -m world.experiments.examples --bin lora-rates --device cuda:0 --jobs 6 --out OUT

Writes OUT/examples.json and OUT/examples.md, and sheets of sample pictures: columns are held-out captions, rows are the
drawn picture, all rates 0, all 1, and the searched rates of the first seed.
"""

import json
import time
from concurrent.futures import ThreadPoolExecutor

from . import compare, grid, sheet
from .program import BLOCKS, live_of, rates_of, uniform
from .setting import Setting, parser, per_picture

ALL = None
# The networks that each example is offered.
OFFERED = {
    "character_in_style": ALL,
    "layers_needed": ["character1"],
    "style_changed": ["character1", "style1"],
    "pose_changed": ["character1", "pose1"],
    "layers_of_a_character": ["character2"],
    "all_networks": ALL,
}
# Where layers are to be left out: below what size; the pictures that decide it are not those of the comparison.
PRUNED = {"layers_needed": 0.2, "layers_of_a_character": 0.2}
# Of the noise that the grid sees, and of the noise that all are compared under.
GRID_SEED, HELD_OUT_SEED = 1001, 2002


def run(setting, name, only_pictures):
    """All of one example."""
    offered = [it for it in OFFERED[name] or setting.networks if it in setting.networks]
    if OFFERED[name] and offered != OFFERED[name]:
        print(f"{name}: left out, its networks are not there", flush=True)
        return None
    with ThreadPoolExecutor() as pool:
        searches = [pool.submit(search, setting, name, offered, seed) for seed in setting.seeds]
        scales = None if only_pictures else pool.submit(best_scales, setting, name, offered)
        reports = [it.result() for it in searches]
        result = {"networks": offered, "searches": {}, "candidates": {}}
        if scales:
            result["grid"] = scales.result()
    candidates = candidates_of(setting, reports, result)
    pictures = sheet.make(setting, name, offered, candidates)
    if scales:
        measure(setting, name, offered, candidates, result)
    return result | {"pictures": pictures}


def search(setting, name, networks, seed):
    """The search of a seed: its report."""
    options, (folder, _) = setting.options(name), setting.train(name)
    if name in PRUNED:
        held_out, count = setting.pictures(name, "heldout", slice(0, 16))
        options |= {"validation_data_dir": held_out, "prune": PRUNED[name]}
        options |= {"validate_every_n_steps": options["max_train_steps"]}
        options["validation_samples_per_image"] = per_picture(setting.held_out_samples // 2, count)
    return setting.program.search(f"{name}-{seed}", networks, folder, setting.batch, seed, options)


def best_scales(setting, name, networks):
    """What the grid finds on the training pictures; as OUT has it, if it does."""
    done = setting.out / "searches" / f"{name}-grid.json"
    if done.exists():
        return json.loads(done.read_text())
    folder, count = setting.pictures(name, "train")
    samples = per_picture(setting.training_samples, count)
    scales = grid.SCALES[::2] if setting.quick else grid.SCALES
    with setting.program.evaluator(f"{name}-grid", networks, folder, GRID_SEED, samples) as evaluate:
        begun = time.time()
        found, losses = grid.best(lambda point: evaluate(point)["loss"], len(networks), scales)
        print(f"{name}: grid {found} after {losses} losses, {time.time() - begun:.0f} s", flush=True)
        result = {"scales": dict(zip(networks, found)), "losses": losses, "samples": evaluate.samples}
    done.parent.mkdir(exist_ok=True)
    done.write_text(json.dumps(result) + "\n")
    return result


def candidates_of(setting, reports, result):
    """{name: rates} of everything that is compared."""
    live, found = live_of(reports[0]["networks"]), {}
    for seed, report in zip(setting.seeds, reports):
        found[f"searched {seed}"] = rates_of(report["networks"])
        pruned = (report.get("conclusion") or {}).get("pruned")
        if pruned:
            found[f"pruned {seed}"] = rates_of(pruned)
    for rate in (0.0, 0.5, 1.0):
        found[f"all {rate:g}"] = uniform(rate, live)
    if "grid" in result:
        scales = list(result["grid"]["scales"].values())
        found["grid"] = [scales[slot // BLOCKS] if it else 0.0 for slot, it in enumerate(live)]
    return found


def measure(setting, name, networks, candidates, result):
    """Adds the held-out losses, and how those of the searches compare."""
    folder, count = setting.pictures(name, "heldout", slice(16, None) if name in PRUNED else slice(None))
    samples = per_picture(setting.held_out_samples, count)
    with setting.program.evaluator(f"{name}-held-out", networks, folder, HELD_OUT_SEED, samples) as evaluate:
        losses = {label: evaluate(rates) for label, rates in candidates.items()}
    for label, rates in candidates.items():
        result["candidates"][label] = losses[label] | {"rates": rates, "total": sum(map(abs, rates))}
    baselines = [label for label in candidates if label.startswith("all ") or label == "grid"]
    for seed in setting.seeds:
        ours = losses[f"searched {seed}"]
        row = {label: compare.outcome(ours, losses[label]) for label in baselines}
        if f"pruned {seed}" in losses:
            row["pruned"] = compare.outcome(losses[f"pruned {seed}"], ours)
        result["searches"][str(seed)] = row


def report(results):
    """Markdown of all examples."""
    rows, more, loss_of = [], [], lambda it: f"{it['loss']:.5f} ± {it['standard_error']:.5f}"
    for name, result in results.items():
        seeds, candidates = list(result["searches"]), result["candidates"]
        of = lambda kind: [candidates[f"{kind} {seed}"] for seed in seeds if f"{kind} {seed}" in candidates]
        searched = of("searched")
        for label in next(iter(result["searches"].values())):
            if label == "pruned":
                continue
            against = [result["searches"][seed][label] for seed in seeds]
            count = lambda what: f"{sum(it[what] for it in against)}/{len(against)}"
            lower, error = mean_of(against, "lower_by"), mean_of(against, "error")
            lower = f"{lower:+.5f} ± {error:.5f}"
            rows.append([name, label, loss_of(candidates[label]), lower, count("clear"), count("bars")])
        ours = {what: mean_of(searched, what) for what in ("loss", "standard_error")}
        rows.append([name, "**searched**", loss_of(ours), "", "", ""])
        more.append(extremes(name, result, searched, of("pruned")))
    headings = ["example", "rates", "held-out loss", "searched is lower by", "clear wins", "bars apart"]
    text = compare.table(headings, rows) + "\n"
    headings = ["example", "grid's scales", "largest rate of `useless`", "total rate"]
    headings += ["slots pruned", "loss that pruning adds"]
    return text + compare.table(headings, more)


def mean_of(items, what):
    return compare.mean(it[what] for it in items)


def extremes(name, result, searched, pruned):
    """What else is to be said of an example: a row."""
    networks = result["networks"]
    scales = ", ".join(f"{key} {scale:g}" for key, scale in result["grid"]["scales"].items() if scale)
    useless = "-"
    if "useless" in networks:
        first = networks.index("useless") * BLOCKS
        useless = ", ".join(f"{max(map(abs, it['rates'][first : first + BLOCKS])):.3f}" for it in searched)
    zeros = rise = "-"
    if pruned:
        zero = lambda it: sum(rate == 0.0 for rate in it["rates"])
        dead = zero(result["candidates"]["all 1"])
        zeros = ", ".join(str(zero(it) - dead) for it in pruned)
        rises = [row["pruned"] for row in result["searches"].values() if "pruned" in row]
        rise = ", ".join(f"{-it['lower_by']:+.5f} ± {it['error']:.5f}" for it in rises)
    return [name, scales or "all 0", useless, f"{mean_of(searched, 'total'):.2f}", zeros, rise]


def main():
    arguments = parser(__doc__.splitlines()[0])
    arguments.add_argument("--only", nargs="+", choices=list(OFFERED), default=list(OFFERED), help="these examples")
    arguments.add_argument("--only_pictures", action="store_true", help="search and sample, compare nothing")
    arguments = arguments.parse_args()
    setting = Setting(arguments)
    path = setting.out / "examples.json"
    # Examples that were measured before stay, so they can be measured one at a time.
    results = json.loads(path.read_text()) if path.exists() else {}
    with ThreadPoolExecutor() as pool:
        running = {name: pool.submit(run, setting, name, arguments.only_pictures) for name in arguments.only}
        for name, result in running.items():
            if result.result():
                results[name] = result.result()
                # What there is stays if time runs out.
                results = {name: results[name] for name in OFFERED if name in results}
                path.write_text(json.dumps(results, indent=1) + "\n")
    if not arguments.only_pictures:
        text = report(results)
        (setting.out / "examples.md").write_text(text)
        print(text)


if __name__ == "__main__":
    main()
