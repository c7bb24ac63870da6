#!/usr/bin/env python3
"""A rival for `lora-rates bench`: the same search step in PyTorch, on diffusers' SDXL UNet with random weights.

    pytorch_search.py [--batch 1,4,8] [--networks 1,4] [--modes eager,best] [--json FILE] [--check] [--tiny] ...

A step: noise the latents, predict (bf16 on a GPU, frozen weights), squared error, gradient by the rates (f32, 20 for
each network), penalty, AdamW. Text and VAE are not computed: their outputs are random and made once.

  eager  the reference's way: on each layer one network after the other, y = W x + sum of rate * scale * up(down(x))
  best   what PyTorch can do: networks stacked along rank, channels-last, the fastest attention, compiled blocks, and
         the whole step as one CUDA graph. Tried in the order of --levels; the first that works within --limit counts.

Every configuration runs in a process of its own: memory starts empty, and what hangs can be ended. Exit status 1 if a
configuration gave no figure for another reason than memory, or if --check found a difference.
"""

import argparse
import contextlib
import gc
import json
import os
import pathlib
import resource
import signal
import statistics
import subprocess
import sys
import time

import torch
import torch.nn.functional as F
from rival_model import PENALTY, Search

# What is compiled, by class name, and whether the step is captured as a CUDA graph (never on the CPU).
LEVELS = {"compiled": (("BasicTransformerBlock", "ResnetBlock2D"), True), "blocks": (("BasicTransformerBlock",), True),
          "graph": ((), True), "plain": ((), False)}


def capture(step, warm):
    """`step` as a CUDA graph. It must read and write tensors that stay in place, and never wait for the GPU."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # Compiling, choosing algorithms and making AdamW's state can't be captured.
        for _ in range(warm):
            step()
    torch.cuda.current_stream().wait_stream(side)
    forget_peak()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=side):
        step()
    graph.replay()  # The first time it is sent to the GPU.
    return graph


def forget_peak():
    """From here on the peak is counted anew: what compiling and choosing algorithms took is not the step's."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def fastest_attention(batch):
    """The attention backends, the fastest at SDXL's largest layer first."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    q, k, v, out = torch.randn(4, batch, 10, 4096, 64, device="cuda", dtype=torch.bfloat16).unbind()

    def both():
        leaves = [x.detach().requires_grad_() for x in (q, k, v)]
        torch.autograd.grad(F.scaled_dot_product_attention(*leaves), leaves, out)
    times = {}
    for backend in (SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION):
        try:
            with sdpa_kernel(backend):
                times[backend] = min(seconds_of(both) for _ in range(5))
        except RuntimeError as error:
            print(f"{backend.name}: {error}", file=sys.stderr)
    return sorted(times, key=times.get) + [SDPBackend.MATH]


def synchronize():
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def seconds_of(work):
    """Seconds until the device has done it."""
    synchronize()
    begin = time.perf_counter()
    work()
    synchronize()
    return time.perf_counter() - begin


def prepare(options, job, dtype, penalty=PENALTY):
    """The search of a job, and the function that makes a step of it."""
    compiled, graph = LEVELS[job["level"]] if job["mode"] == "best" else ((), False)
    if compiled:
        # A block is compiled anew for each of its shapes; the default limit would give up after eight.
        torch._dynamo.config.recompile_limit = 64
    search = Search(options, job["mode"], job["networks"], job["batch_size"], dtype, compiled, penalty)
    if graph and options.device.startswith("cuda"):
        return search, capture(search.step, options.warm).replay
    for _ in range(options.warm):
        search.step()
    forget_peak()
    return search, search.step


def measure(options, job):
    """Times the steps of one configuration."""
    begin = time.perf_counter()
    cuda = options.device.startswith("cuda")
    with contextlib.ExitStack() as stack:
        if cuda and job["mode"] == "best":
            torch.backends.cudnn.benchmark = True
            order = fastest_attention(job["batch_size"])
            stack.enter_context(torch.nn.attention.sdpa_kernel(order, set_priority=True))
            job["attention"] = order[0].name
        search, step = prepare(options, job, torch.bfloat16 if cuda else torch.float32)
        job["setup_seconds"] = time.perf_counter() - begin
        times, until = [], time.perf_counter() + options.seconds
        while len(times) < options.steps and (len(times) < 3 or time.perf_counter() < until):
            times.append(seconds_of(lambda: (search.draw(), step())))
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    median = statistics.median(times)
    return job | dict(
        layers=len(search.layers), steps=len(times), loss=search.loss.item(), step_seconds=median,
        fastest=min(times), slowest=max(times), images_per_second=job["batch_size"] / median,
        peak_bytes=torch.cuda.max_memory_allocated() if cuda else resident,
        reserved_bytes=torch.cuda.max_memory_reserved() if cuda else resident)


def check(options, job):
    """The relative error of a level's gradient against eager's, both in f32 on the same batch, at uneven rates."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False

    def gradient(mode):
        # Without the penalty, whose part of the gradient is the same for both and would hide an error.
        search, step = prepare(options, job | dict(mode=mode), torch.float32, penalty=0)
        count = search.rates.numel()
        search.rates.data.copy_(torch.linspace(-0.3, 1.2, count, device=options.device).view_as(search.rates))
        step()
        return search.rates.grad.double().cpu(), search.loss.item()
    (eager, eager_loss), (best, best_loss) = gradient("eager"), gradient("best")
    return job | dict(error_of_gradient=((best - eager).norm() / eager.norm()).item(), norm=eager.norm().item(),
                      error_of_loss=abs(best_loss / eager_loss - 1))


def ceiling(options, job):
    """Operations per second of a large square product: the fastest of eight."""
    cuda = options.device.startswith("cuda")
    side, dtype = (8192, torch.bfloat16) if cuda else (1024, torch.float32)
    a, b = (torch.rand(side, side, device=options.device, dtype=dtype) * 2 - 1 for _ in range(2))
    rate = 2 * side**3 / min(seconds_of(lambda: a @ b) for _ in range(8))
    name = torch.cuda.get_device_name() if cuda else "CPU"
    what = f"{side}^3 product, {str(dtype)[6:]}"
    return job | dict(matmul_rate=rate, what=what, device=name, torch=torch.__version__)


def count(options, job):
    """Operations of a step for one image by number of networks, products alone, counted on tensors without memory."""
    from torch.utils.flop_counter import FlopCounterMode

    options.device, operations = "meta", {}
    for networks in options.networks:
        search = Search(options, "best", networks, 1, torch.bfloat16)
        with FlopCounterMode(display=False) as counter:
            search.step()
        operations[networks] = counter.get_total_flops()
    return job | dict(operations=operations)


def child(options, job):
    """Does one job and prints its result as the last line."""
    try:
        result = {"measure": measure, "check": check, "ceiling": ceiling, "count": count}[job.pop("do")](options, job)
    except (RuntimeError, MemoryError) as error:
        # A graph or a library reports a lack of memory by other classes than PyTorch's allocator does.
        signs = ("out of memory", "can't allocate memory", "alloc_failed")
        lack = isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in signs)
        print(error, file=sys.stderr)
        result = job | dict(error="out of memory" if lack else f"{type(error).__name__}: {error}".splitlines()[0])
    print("\n" + json.dumps(result))


def ask(options, **job):
    """Has a job done by a process of its own, which ends at the limit with all that it started."""
    command = [sys.executable, __file__, *sys.argv[1:], "--job", json.dumps(job)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        lines = process.communicate(timeout=options.limit)[0].splitlines()
        return json.loads(lines[-1]) if process.returncode == 0 else job | dict(error=f"ended by {process.returncode}")
    except subprocess.TimeoutExpired:
        return job | dict(error=f"not done in {options.limit:g} s")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def attempts(options, mode, networks, batch, too_slow):
    """One configuration: its result, from the first level that works, or the fastest of all with --all-levels."""
    results = []
    for level in options.levels if mode == "best" else [None]:
        if level in too_slow:
            continue
        result = ask(options, do="measure", mode=mode, level=level, networks=networks, batch_size=batch)
        results.append(result)
        if "error" not in result and not options.all_levels:
            break
        if "error" in result:
            print(f"{mode} {level or ''} batch {batch} networks {networks}: {result['error']}", file=sys.stderr)
            if "not done" in result["error"] and level:
                too_slow.add(level)
    done = [result for result in results if "error" not in result]
    last = dict(mode=mode, level=None, networks=networks, batch_size=batch, error="no level was left to try")
    return max(done, key=lambda result: result["images_per_second"]) if done else (results or [last])[-1]


def line(row, ceiling_rate, operations):
    """A configuration as a line of the table."""
    head = f"{row['mode']:6} {row['batch_size']:5} {row['networks']:8}"
    if "error" in row:
        return f"{head}  {row['error']}"
    speed, count = row["images_per_second"], operations.get(row["networks"])
    share = f"{count * speed / ceiling_rate:6.1%}" if count and ceiling_rate else "     -"
    memory = f"{row['peak_bytes'] / 1e9:8.2f} {row['reserved_bytes'] / 1e9:9.2f}"
    spread = f"{row['fastest']:.4f} {row['step_seconds']:.4f} {row['slowest']:.4f}"
    how = ", ".join(row[key] for key in ("level", "attention") if row.get(key))
    return f"{head} {speed:9.3f} {memory} {share}  {spread}  {how}"


def run_table(options):
    """All configurations; the file of --json is written anew after each, so what was measured is never lost."""
    top = ask(options, do="ceiling")
    rate = top.get("matmul_rate")
    reached = f"{top['what']}, {rate / 1e12:.2f} TFLOP/s on {top['device']}" if rate else top["error"]
    print(f"ceiling: {reached}")
    counted = ask(options, do="count").get("operations", {})
    operations = {networks: counted.get(str(networks)) for networks in options.networks}
    for networks, total in operations.items():
        print(f"a step with {networks} networks: " + (f"{total / 1e12:.3f} TFLOP an image" if total else "not counted"))
    print("images/s at the median step; GB that tensors held at most, and that PyTorch's allocator had taken (on a CPU")
    print("the process); share of the ceiling's rate; seconds of the fastest, median and slowest step; how")
    print("mode   batch networks  images/s  peak GB  taken GB  share  seconds", flush=True)
    rows, too_slow = [], set()
    for networks in options.networks:
        for batch in options.batch:
            for mode in options.modes:
                rows.append(attempts(options, mode, networks, batch, too_slow))
                print(line(rows[-1], rate, operations), flush=True)
                if options.json:
                    options.json.write_text(json.dumps(dict(ceiling=top, operations=operations, rows=rows), indent=1))
    return all(row.get("error", "out of memory") == "out of memory" for row in rows)


def run_check(options):
    """Compares gradients at the first batch size and number of networks, for each level."""
    good, allowed = True, 1e-3 if options.device.startswith("cuda") else 1e-4
    for level in options.levels:
        result = ask(options, do="check", level=level, networks=options.networks[0], batch_size=options.batch[0])
        error = result.get("error_of_gradient", float("nan"))
        good &= error < allowed  # False for not a number, too.
        print(f"best ({level}) against eager in f32: " + (result["error"] if "error" in result else (
            f"relative error of the gradient {error:.1e} (allowed {allowed:.0e}; its norm {result['norm']:.2e}), "
            f"of the loss {result['error_of_loss']:.1e}")))
    return good


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    def words(text):
        return text.replace(",", " ").split()

    def numbers(text):
        return [int(word) for word in words(text)]
    cuda = torch.cuda.device_count() > 0
    parser.add_argument("--batch", type=numbers, default=[1, 4, 8], help="images of a step: 1,4,8")
    parser.add_argument("--networks", type=numbers, default=[1, 4], help="numbers of networks: 1,4")
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--resolution", type=int, default=1024, help="side of the images in pixels")
    parser.add_argument("--projections", action="store_true",
                        help="networks on proj_in and proj_out too (722 layers): `lora-rates bench` has them on 700")
    parser.add_argument("--modes", type=words, default=["eager", "best"])
    parser.add_argument("--levels", type=words, default=list(LEVELS) if cuda else ["plain"],
                        help=f"ways of mode best, in the order of trying: {' '.join(LEVELS)}")
    parser.add_argument("--all-levels", action="store_true", help="try every level and keep the fastest")
    parser.add_argument("--steps", type=int, default=10, help="timed steps at most")
    parser.add_argument("--warm", type=int, default=3, help="steps before those, at least 1")
    parser.add_argument("--seconds", type=float, default=20, help="timed seconds at most, if 3 steps are done")
    parser.add_argument("--limit", type=float, default=240, help="seconds of a process with start and compiling")
    parser.add_argument("--device", default="cuda" if cuda else "cpu", help="cpu, cuda or cuda:K")
    parser.add_argument("--json", type=pathlib.Path, help="write the results to this file")
    parser.add_argument("--tiny", action="store_true", help="a model of a tenth of the width, for a CPU")
    parser.add_argument("--check", action="store_true", help="compare the gradients of best and eager, time nothing")
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    for name, known in (("modes", ("eager", "best")), ("levels", LEVELS)):
        if unknown := set(getattr(options, name)) - set(known):
            parser.error(f"--{name}: unknown {' '.join(unknown)}; known: {' '.join(known)}")
    options.warm = max(options.warm, 1)
    return options


def main():
    options = parse(sys.argv[1:])
    if options.job:
        if options.device.startswith("cuda"):
            torch.cuda.set_device(torch.device(options.device).index or 0)
        child(options, options.job)
    elif not (run_check if options.check else run_table)(options):
        sys.exit(1)


if __name__ == "__main__":
    main()
