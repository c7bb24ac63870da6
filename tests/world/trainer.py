"""Training: the whole step, its random numbers included, is one CUDA graph; on a CPU the same step runs directly."""

import json
import math
import time

import torch


def fuse(module, *blocks):
    """Before training on a GPU: fuses the small operations within the parts of these classes (torch.compile), where most
    of the time goes to them. Parts of one shape are compiled once, so it takes about a minute; the whole module would
    take three. A fused module computes every new batch size slowly at first, so it is not for other uses."""
    torch._dynamo.config.recompile_limit = 128
    torch._dynamo.config.suppress_errors = True  # what can't be compiled runs as it is
    for part in module.modules():
        if isinstance(part, blocks):
            part.compile(dynamic=False)


class Trainer:
    """Runs `loss()` (no arguments, gives a scalar) down for a number of steps or seconds, whichever ends first.

    The learning rate rises over `warmup` steps and falls as a cosine of the part of the steps or of the time that is
    gone, so that a run cut short by the clock ends as softly as a whole one."""

    def __init__(self, name, parameters, loss, plan, out, device):
        self.name, self.loss, self.plan, self.device = name, loss, plan, device
        self.parameters = [p for p in parameters if p.requires_grad]
        self.gpu = device.type == "cuda"
        self.rate = torch.zeros((), device=device) if self.gpu else 0.0
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=self.rate,
            betas=(0.9, 0.99),
            weight_decay=plan.weight_decay,
            fused=self.gpu,
            **({"capturable": True} if self.gpu else {}),
        )
        if self.gpu:
            self.rate = self.optimizer.param_groups[0]["lr"]  # the tensor that the graph reads
        self.average = [p.detach().clone() for p in self.parameters] if plan.ema else None
        self.total = torch.zeros((), device=device)
        self.log = open(out / f"log-{name}.jsonl", "a")

    def step(self):
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.gpu, cache_enabled=False):
            loss = self.loss()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.total += loss.detach()
        if self.average is not None:
            with torch.no_grad():
                torch._foreach_lerp_(self.average, self.parameters, 1 - self.plan.ema)

    def eager(self):
        self.optimizer.zero_grad(set_to_none=True)
        self.step()

    def capture(self):
        """A function that does one step: the replay of a graph, or the step itself where no graph can be made."""
        if not self.gpu:
            return self.eager
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self.eager()
        torch.cuda.current_stream().wait_stream(stream)
        self.optimizer.zero_grad(set_to_none=True)
        try:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self.step()
            return graph.replay
        except RuntimeError as error:
            print(f"{self.name}: no CUDA graph ({error}), going on without", flush=True)
            torch.cuda.synchronize()
            return self.eager

    def set_rate(self, step, elapsed):
        plan = self.plan
        part = min(1.0, max(step / plan.steps, elapsed / self.seconds))
        rate = plan.learning_rate * min(1.0, (step + 1) / plan.warmup) * (0.5 + 0.5 * math.cos(math.pi * part))
        if self.gpu:
            self.rate.fill_(rate)
        else:
            for group in self.optimizer.param_groups:
                group["lr"] = rate
        return rate

    def run(self, quiet=False):
        """Trains, and leaves the average of the weights in the parameters. Returns the last mean loss."""
        begun = time.time()
        step_once, step, mean, elapsed = self.capture(), 0, float("nan"), 0.0
        # What compiling took is missing from the time to train in.
        self.seconds = max(0.3 * self.plan.seconds, self.plan.seconds - (time.time() - begun))
        begun = time.time()
        chunk = 20 if self.gpu else 1
        report, since = max(1, self.plan.steps // 60), 0
        self.total.zero_()
        while step < self.plan.steps and elapsed < self.seconds:
            for _ in range(min(chunk, self.plan.steps - step)):
                rate = self.set_rate(step, elapsed)
                step_once()
                step, since = step + 1, since + 1
            if self.gpu:
                torch.cuda.synchronize()
            elapsed = time.time() - begun
            if self.average is not None and step <= self.plan.warmup:
                # The first weights don't belong into the average.
                torch._foreach_copy_(self.average, [p.detach() for p in self.parameters])
            if since >= report or step >= self.plan.steps or elapsed >= self.seconds:
                mean = self.total.item() / since
                line = {"step": step, "seconds": round(elapsed, 2), "loss": round(mean, 6), "rate": rate}
                self.log.write(json.dumps(line) + "\n")
                if not quiet:
                    print(f"{self.name}: {line}", flush=True)
                self.total.zero_()
                since = 0
                if not math.isfinite(mean):
                    raise SystemExit(f"{self.name}: the loss is {mean} at step {step}; lower its learning_rate in settings.toml")
        if self.average is not None:
            with torch.no_grad():
                torch._foreach_copy_(self.parameters, self.average)
        self.log.close()
        print(f"{self.name}: {step} of {self.plan.steps} steps in {elapsed:.1f} of {self.plan.seconds} s, loss {mean:.5f}", flush=True)
        return mean
