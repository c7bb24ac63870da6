"""The arithmetic of run_scaling.sh: waits for workers, records a search's steps with their times, prints the table."""

import json
import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import time
import urllib.request

PARTS = ("compute", "update", "commit", "total")


def metrics(url):
    """All samples of a Prometheus page, by name with labels."""
    with urllib.request.urlopen(url, timeout=10) as page:
        lines = page.read().decode().splitlines()
    samples = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
    return {name: float(value) for name, value in samples}


def wait(url, count, seconds):
    """Waits until so many workers are connected."""
    for _ in range(int(seconds) * 5):
        try:
            samples = metrics(url)
            if sum(value for name, value in samples.items() if name.startswith("lora_rates_workers{")) >= int(count):
                return
        except OSError:
            pass
        time.sleep(0.2)
    sys.exit(f"{count} workers did not come in {seconds} s")


def ask(program, coordinator, *command):
    """The JSON lines that a command of lora-rates prints."""
    command = [program, *command, "--coordinator", coordinator, "--json"]
    return [json.loads(line) for line in subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.splitlines()]


def accepted(program, coordinator):
    """How many microbatches of each worker have been accepted, by its id."""
    return {it["worker_id"]: it["accepted"] for it in ask(program, coordinator, "workers")}


def record(path, url, count, warm, steps, kill, program, coordinator, *search):
    """Runs a search until `count` workers have taken part, then the warm-up's steps, then those that count; writes them with
    their times, and what the coordinator's metrics say of those that count. Then cancels the search."""
    count, warm, steps, kill = int(count), int(warm), int(steps), int(kill)
    before, start, lines, first = accepted(program, coordinator), {}, [], None
    command = [program, "search", "--coordinator", coordinator, "--json", *search]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        for line in running.stdout:
            event = json.loads(line)
            if event.get("event") != "step":
                continue
            lines.append({"at": time.monotonic(), "step": event["step"], "loss": event["loss"],
                          "rates": event["rates"], "samples": event["samples"]})
            if first is None:
                now = accepted(program, coordinator)
                if sum(now[worker] > before.get(worker, 0) for worker in now) >= count:
                    first = len(lines) + warm
            elif len(lines) == first:
                start = metrics(url)
            elif len(lines) == first + 2 and kill:
                os.kill(kill, signal.SIGKILL)
            elif len(lines) == first + steps:
                break
        end = metrics(url)
        for it in ask(program, coordinator, "list"):
            if it["state"] == "running":
                ask(program, coordinator, "cancel", it["search_id"])
        running.stdout.read()
    if first is None or len(lines) < first + steps:
        sys.exit(f"{path}: the search ended after {len(lines)} steps; its log says why")
    parts = {part: delta(start, end, part) for part in PARTS}
    pathlib.Path(path).write_text(json.dumps({"steps": lines, "first": first, "parts": parts}))


def delta(before, after, part):
    """Mean seconds of a part of the step between two readings."""
    def read(samples, what):
        pattern = re.compile(r'lora_rates_step_seconds_%s\{.*part="%s".*\}' % (what, part))
        return sum(value for name, value in samples.items() if pattern.match(name))
    count = read(after, "count") - read(before, "count")
    return (read(after, "sum") - read(before, "sum")) / count if count else float("nan")


def report(scratch):
    """The table over all searches in a folder."""
    runs = {}
    for path in sorted(pathlib.Path(scratch).glob("n*.jsonl")):
        found = re.fullmatch(r"n(\d+)-w(\d+)-a(\d+)(-kill)?", path.stem)
        runs[tuple(int(part) for part in found.groups()[:3]) + (bool(found[4]),)] = json.loads(path.read_text())
    speed = {}
    print("networks workers images/step images/s  efficiency  s/step  compute  update  commit  other  fastest, median, slowest step")
    for key in sorted(runs):
        networks, workers, accumulation, killed = key
        timed = runs[key]["steps"][runs[key]["first"] - 1:]
        gaps = [b["at"] - a["at"] for a, b in zip(timed, timed[1:])]
        gap = sum(gaps) / len(gaps)
        samples = statistics.mean(step["samples"] for step in timed[1:])
        speed[key] = samples / gap
        alone = speed.get((networks, 1, 1, False)), speed.get((networks, 1, accumulation, False))
        shares = ["-" if rate is None else f"{speed[key] / workers / rate:.1%}" for rate in alone]
        parts = runs[key]["parts"]
        other = gap - parts["compute"] - parts["update"] - parts["commit"]
        line = f"{networks:8} {workers:7} {samples:11.0f} {speed[key]:8.3f}  {shares[0]:>6} {shares[1]:>6}"
        line += f" {gap:7.3f} {parts['compute']:8.4f} {parts['update']:7.5f} {parts['commit']:7.5f} {other:6.4f}"
        line += f"  {min(gaps):.3f} {statistics.median(gaps):.3f} {max(gaps):.3f}"
        print(line + ("  a worker was killed" if killed else ""))
    print("efficiency: against one worker with its own batch, and against one worker with the same total batch")
    for key in sorted(runs):
        networks, workers, accumulation, killed = key
        rival = runs.get((networks, 1, accumulation, False))
        if rival is None or (workers == 1 and not killed):
            continue
        pairs = list(zip(rival["steps"], runs[key]["steps"]))
        largest = max(abs(a - b) for one, two in pairs for a, b in zip(one["rates"], two["rates"]))
        moved = max(abs(rate - 0.5) for rate in rival["steps"][-1]["rates"] if rate)
        what = "bit-equal" if largest == 0 else f"largest difference of a rate {largest:.2e} (rates moved {moved:.2e})"
        print(f"trajectory of {networks} networks, {workers} workers{' with a kill' * killed} against one: {what}")


if __name__ == "__main__":
    {"wait": wait, "record": record, "report": report}[sys.argv[1]](*sys.argv[2:])
