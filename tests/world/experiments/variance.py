"""What the gradient varies by under each way to draw timesteps and noise, at rates 0.5 and at searched ones.

    python3 -m world.experiments.variance --bin lora-rates --device cuda:0 --jobs 2 --out OUT

With the same OUT as `examples`, its search is taken. Writes OUT/variance.json and OUT/variance.md.
"""

import json
from concurrent.futures import ThreadPoolExecutor

from . import compare
from .examples import OFFERED, search
from .program import live_of, rates_of, uniform
from .setting import Setting, parser

# Pairs of epochs: their number is what the measured variances are uncertain by, about sqrt(2 / steps) each.
PAIRS = 48


def measure(setting, label, networks, folder, batch, rates):
    """The lines of `lora-rates variance` at these rates."""
    program, path = setting.program, setting.out / f"variance-{label}.json"
    path.write_text(json.dumps(rates) + "\n")
    words = [*program.model(networks), *program.data(folder, batch, 1), "--rates", str(path), "--json"]
    words += ["--pairs", "2" if setting.quick else str(PAIRS)]
    return [json.loads(line) for line in program.run("variance", words, path.with_suffix(".log")).splitlines()]


def main():
    arguments = parser(__doc__.splitlines()[0])
    arguments.add_argument("--example", choices=list(OFFERED), default="character_in_style", help="whose pictures")
    arguments = arguments.parse_args()
    setting, name = Setting(arguments), arguments.example
    networks = [it for it in OFFERED[name] or setting.networks if it in setting.networks]
    report = search(setting, name, networks, setting.seeds[0])["networks"]
    folder, count = setting.train(name)
    asked = {}
    for what, rates in (("0.5", uniform(0.5, live_of(report))), ("searched", rates_of(report))):
        # A batch of all pictures is an epoch of one step; one of a quarter leaves steps between mirrored noise.
        for batch in sorted({setting.batch, max(1, setting.batch // 4)}):
            asked[what, batch] = (setting, f"{what}-{batch}", networks, folder, batch, rates)
    with ThreadPoolExecutor() as pool:
        found = dict(zip(asked, pool.map(lambda it: measure(*it), asked.values())))
    rows = []
    for (what, batch), lines in found.items():
        for line in lines:
            ratios = [f"{line[kind] / lines[0][kind]:.3f}" for kind in ("step", "pair")]
            way = [line["timestep_sampling"], line["noise_sampling"]]
            rows.append([what, batch, *way, f"{line['step']:.2e}", *ratios, line["samples"]])
    headings = ["rates", "batch", "timesteps", "noise", "variance of a step's gradient", "to the first"]
    headings += ["over two epochs, to the first", "samples"]
    text = compare.table(headings, rows)
    written = [{"rates": what, "batch": batch, "ways": lines} for (what, batch), lines in found.items()]
    (setting.out / "variance.json").write_text(json.dumps(written, indent=1) + "\n")
    (setting.out / "variance.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
