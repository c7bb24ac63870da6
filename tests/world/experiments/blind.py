"""Random and Bayesian search over the same rates, with ten times the gradient search's evaluations of the model.

    python3 -m world.experiments.blind --bin lora-rates --device cuda:0 --jobs 6 --out OUT

Both see the loss on the training pictures under fixed noise, and draw every live rate from 0..1. An evaluation is a
sample through the model; a gradient counts as three. Each time that a blind search finds a lower training loss, its
rates are noted. A dozen of these, the last among them, are later measured on held-out pictures, which is not counted; where
one is as low as the gradient search's, those before it are too. With the same OUT as `examples`, its searches are taken, and
blind searches that ended are not repeated. Writes OUT/blind.json and OUT/blind.md.
"""

import json
import random
import time
from concurrent.futures import ThreadPoolExecutor

import optuna

from . import compare
from .examples import HELD_OUT_SEED, OFFERED, search
from .program import live_of, rates_of, uniform
from .setting import Setting, parser, per_picture

OF_A_GRADIENT = 3
TIMES = 10
# Samples of one trial.
SAMPLES = 64
# Rates of one search that are measured on held-out pictures.
MEASURED = 12


def random_search(loss, slots, trials, seed):
    """Draws every rate evenly from 0..1; the first trial is all 0.5, where the gradient search begins."""
    rng = random.Random(f"blind/{seed}")
    loss([0.5] * slots)
    for _ in range(trials - 1):
        loss([rng.random() for _ in range(slots)])


def bayesian_search(loss, slots, trials, seed):
    """Optuna's tree-structured Parzen estimator, from all 0.5 too."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    study.enqueue_trial({f"rate{slot}": 0.5 for slot in range(slots)})
    study.optimize(lambda trial: loss([trial.suggest_float(f"rate{slot}", 0, 1) for slot in range(slots)]), n_trials=trials)


METHODS = {"random": random_search, "Bayesian (TPE)": bayesian_search}


def blind(setting, name, networks, live, budget, method, seed):
    """The rates that a blind search holds for the best, one after the other: [(evaluations, loss, rates)]."""
    folder, count = setting.pictures(name, "train")
    samples = per_picture(setting.training_samples if setting.quick else SAMPLES, count)
    best = []
    label = f"{name}-{method.split()[0]}-{seed}"
    done = setting.out / "blind" / f"{label}-{budget}.json"
    if done.exists():
        return json.loads(done.read_text())
    with setting.program.evaluator(label, networks, folder, 3000 + seed, samples) as evaluate:

        def loss(found):
            left = iter(found)
            rates = [next(left) if it else 0.0 for it in live]
            value = evaluate(rates)["loss"]
            if not best or value < best[-1][1]:
                best.append((evaluate.samples, value, rates))
            return value

        begun = time.time()
        METHODS[method](loss, sum(live), max(2, budget // (samples * count)), seed)
        print(f"{label}: {evaluate.samples} evaluations, {time.time() - begun:.0f} s", flush=True)
        done.parent.mkdir(exist_ok=True)
        done.write_text(json.dumps([best, evaluate.samples]) + "\n")
        return best, evaluate.samples


def course_of(evaluate, best, target):
    """Held-out losses of some of a blind search's rates, in their order; of all up to the first that is at the target."""
    names = ("evaluations", "training_loss", "held_out_loss")
    count = min(len(best), MEASURED)
    chosen = sorted({round((len(best) - 1) * (place + 1) / count) for place in range(count)})
    course = {}

    def measure(place):
        at, loss, rates = best[place]
        course[place] = dict(zip(names, (at, loss, evaluate(rates)["loss"])))
        return course[place]["held_out_loss"] <= target

    reached = [place for place in chosen if measure(place)]
    if reached:
        next((place for place in range(reached[0]) if place not in course and measure(place)), None)
    return [course[place] for place in sorted(course)]


def run(setting, name):
    """All rows of the table."""
    networks = [it for it in OFFERED[name] or setting.networks if it in setting.networks]
    with ThreadPoolExecutor() as pool:
        reports = list(pool.map(lambda seed: search(setting, name, networks, seed), setting.seeds))
        live = live_of(reports[0]["networks"])
        spent = OF_A_GRADIENT * setting.options(name)["max_train_steps"] * setting.batch
        budget = spent if setting.quick else TIMES * spent
        pairs = [(method, seed) for method in METHODS for seed in setting.seeds]
        begin = lambda pair: blind(setting, name, networks, live, budget, *pair)
        found = dict(zip(pairs, pool.map(begin, pairs)))
    folder, count = setting.pictures(name, "heldout")
    samples, rows = per_picture(setting.held_out_samples, count), []
    with setting.program.evaluator(f"{name}-blind", networks, folder, HELD_OUT_SEED, samples) as evaluate:
        start = evaluate(uniform(0.5, live))["loss"]
        for seed, report in zip(setting.seeds, reports):
            target = evaluate(rates_of(report["networks"]))["loss"]
            for method in METHODS:
                best, used = found[method, seed]
                rows.append(row_of(evaluate, method, seed, start, target, spent, best, used))
    return rows


def row_of(evaluate, method, seed, start, target, spent, best, used):
    """What a blind search came to against the gradient search of the same seed."""
    course = course_of(evaluate, best, target)
    reached = next((it["evaluations"] for it in course if it["held_out_loss"] <= target), None)
    lowest = min(it["held_out_loss"] for it in course)
    row = {"method": method, "seed": seed, "all_half": start, "gradient_loss": target, "gradient_evaluations": spent}
    return row | {"reached": reached, "evaluations": used, "lowest_loss": lowest, "course": course}


def main():
    arguments = parser(__doc__.splitlines()[0])
    arguments.add_argument("--example", choices=list(OFFERED), default="character_in_style", help="whose pictures")
    arguments = arguments.parse_args()
    setting = Setting(arguments)
    rows = run(setting, arguments.example)
    (setting.out / "blind.json").write_text(json.dumps(rows, indent=1) + "\n")
    cells = []
    for row in rows:
        spent, reached = row["gradient_evaluations"], row["reached"]
        times = f"{reached / spent:.1f}" if reached else f"never in {row['evaluations'] / spent:.1f}"
        part = (row["all_half"] - row["lowest_loss"]) / (row["all_half"] - row["gradient_loss"])
        losses = [f"{row['gradient_loss']:.5f}", spent, f"{row['lowest_loss']:.5f}"]
        cells.append([row["method"], row["seed"], *losses, f"{part:.0%}", times])
    headings = ["search", "seed", "gradient's held-out loss", "its evaluations", "lowest held-out loss"]
    headings += ["part of the gradient's gain from all 0.5", "times its evaluations until as low"]
    text = compare.table(headings, cells)
    (setting.out / "blind.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
