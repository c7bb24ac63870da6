"""The arithmetic of run_gpu.sh: `lora-rates bench` by engine beside the rival pytorch_search.py, as one table.

    compare_gpu.py report FOLDER     prints the table; exit status 1 if a configuration failed other than for memory
    compare_gpu.py line FILE         prints one output of `lora-rates bench` as a line
    compare_gpu.py gradients A B     compares the gradients of two such outputs, B the truth; exit status 1 if a network's
                                     cosine is under 0.999 or its relative error over 2e-2

FOLDER holds ours/ENGINE-bBATCH-nNETWORKS.json (what the program printed), the same with .log (what it said on standard
error) and rival.json (what pytorch_search.py --json wrote).
"""

import json
import math
import pathlib
import re
import sys

OURS = re.compile(r"(\w+)-b(\d+)-n(\d+)")


def read_bench(text):
    """What `lora-rates bench --json` printed, as a list of dicts: THE ONE PLACE that knows the program's output.

    Expected: one JSON object for each configuration, one after the other, with line breaks anywhere between or inside
    them, and nothing else on standard output. Keys used: engine, batch_size, networks, images_per_second (at the median
    step), peak_bytes (on top of what the device held before), and if there, operations (of a step, products alone),
    matmul_rate (operations per second of a large product). An empty list means that nothing was measured.
    """
    decoder, objects = json.JSONDecoder(), []
    while text := text.lstrip():
        found, end = decoder.raw_decode(text)
        objects.append(found)
        text = text[end:]
    return objects


def why(path):
    """Why a run of ours printed no figures, from what it said."""
    log = path.with_suffix(".log")
    said = log.read_text(errors="replace").strip() if log.exists() else ""
    if "out of memory" in said.lower() or "OUT_OF_MEMORY" in said:
        return "out of memory"
    return said.splitlines()[-1][-100:] if said else "failed without a word"


def ours(folder):
    """Rows of ours by (batch, networks, engine)."""
    rows = {}
    for path in sorted(folder.glob("ours/*.json")):
        engine, batch, networks = OURS.fullmatch(path.stem).groups()
        try:
            found = read_bench(path.read_text())
        except ValueError as error:
            found = [{"error": f"output not understood: {error}"}]
        # By the file's name: engine auto may say which one it took.
        rows[int(batch), int(networks), engine] = found[0] if found else {"error": why(path)}
    return rows


def theirs(folder):
    """Rows of the rival by (batch, networks, mode), operations of an image by number of networks, and the ceiling."""
    path = folder / "rival.json"
    if not path.exists():
        return {}, {}, None
    found = json.loads(path.read_text())
    rows = {(row["batch_size"], row["networks"], row["mode"]): row for row in found["rows"]}
    return rows, {int(networks): total for networks, total in found["operations"].items()}, found["ceiling"]


def cell(row):
    """Images a second and the most gigabytes; or what went wrong, in a word."""
    if row is None:
        return "-"
    if "error" in row:
        return "no memory" if row["error"] == "out of memory" else "failed"
    return f"{row['images_per_second']:.3f} {row['peak_bytes'] / 1e9:6.1f}"


def speed(row):
    return row["images_per_second"] if row and "error" not in row else None


def ratio(one, other):
    return f"{speed(one) / speed(other):.2f}" if speed(one) and speed(other) else "-"


def print_columns(rows):
    """Rows of text, right-aligned under the first."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        print("  ".join(text.rjust(width) for text, width in zip(row, widths)))


def report(folder):
    folder = pathlib.Path(folder)
    mine, (rivals, operations, top) = ours(folder), theirs(folder)
    rows = mine | rivals
    engines, modes = (list(dict.fromkeys(key[2] for key in part)) for part in (mine, rivals))
    for (_, networks, _), row in mine.items():
        if row.get("operations"):
            operations[networks] = row["operations"] / row["batch_size"]
    rates = [row["matmul_rate"] for row in mine.values() if row.get("matmul_rate")]
    ceiling = max(rates + [(top or {}).get("matmul_rate", 0)])
    print(f"ceiling: {ceiling / 1e12:.2f} TFLOP/s, the fastest large matrix product that any part of this run measured")

    def share(row, networks):
        count = operations.get(networks)
        return f"{count * speed(row) / ceiling:.1%}" if count and ceiling and speed(row) else "-"
    pairs = [(engine, mode) for engine in engines for mode in modes]
    table = [["batch", "networks"] + engines + modes + [f"{a}/{b}" for a, b in pairs]
             + [f"{name} share" for name in engines + modes]]
    for batch, networks in sorted({key[:2] for key in rows}, key=lambda pair: pair[::-1]):
        row = {name: rows.get((batch, networks, name)) for name in engines + modes}
        table.append([str(batch), str(networks)] + [cell(one) for one in row.values()]
                     + [ratio(row[a], row[b]) for a, b in pairs] + [share(one, networks) for one in row.values()])
    print_columns(table)
    print("each program: images/s at the median step, then GB at most (ours: what the device gave, with the\n"
          "allocator's pages and both text encoders; eager, best: PyTorch's tensors alone); a/b: images/s of\n"
          "a over that of b; share: operations of a step, products alone, over its time, against the ceiling")
    ways = [f"{row['level']} at batch {batch}, networks {networks}" for (batch, networks, mode), row in rivals.items()
            if mode == "best" and speed(row)]
    print("best was reached by " + "; ".join(ways) if ways else "no figure of best")
    failed = {key: row["error"] for key, row in rows.items() if row.get("error", "out of memory") != "out of memory"}
    for (batch, networks, name), error in failed.items():
        print(f"failed: {name}, batch {batch}, networks {networks}: {error}")
    return not failed


def line(path):
    """One run of ours, as it ends."""
    path = pathlib.Path(path)
    engine, batch, networks = OURS.fullmatch(path.stem).groups()
    try:
        found = read_bench(path.read_text())
    except ValueError:
        found = []
    what = why(path)
    if found:
        what = f"{found[0]['images_per_second']:.3f} images/s, {found[0]['peak_bytes'] / 1e9:.2f} GB at most"
    print(f"{engine}, batch {batch}, networks {networks}: {what}", flush=True)
    return True


def gradients(one, truth):
    found = [read_bench(pathlib.Path(path).read_text())[0] for path in (one, truth)]
    names = [f"{row['engine']}, {row['mixed_precision']}" for row in found]
    within = True
    for network in range(found[1]["networks"]):
        mine, true = (row["gradient"][20 * network:20 * (network + 1)] for row in found)
        size = math.hypot(*true)
        error = math.dist(mine, true) / size
        cosine = sum(map(lambda a, b: a * b, mine, true)) / size / math.hypot(*mine)
        within &= cosine >= 0.999 and error <= 2e-2
        print(f"network {network}: cosine {cosine:.6f}, relative error {error:.2e} ({names[0]} against {names[1]})")
    print(f"loss {found[0]['loss']:.8f} against {found[1]['loss']:.8f}; "
          f"the same bits in every step: {found[0]['repeatable']}")
    return within


if __name__ == "__main__":
    sys.exit(not {"report": report, "line": line, "gradients": gradients}[sys.argv[1]](*sys.argv[2:]))
