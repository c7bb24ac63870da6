"""The command `lora-rates` on the small world, as a user runs it."""

import json
import subprocess
import threading
import time
from pathlib import Path

BLOCKS = 20
NAMES = ["BASE", *(f"IN{i:02}" for i in range(9)), "MID", *(f"OUT{i:02}" for i in range(9))]


class Program:
    """Runs the command; at most `jobs` of it at a time, the others wait."""

    def __init__(self, binary, device, world, out, jobs, batch):
        self.binary, self.world, self.out = str(binary.resolve()), world.resolve(), out.resolve()
        self.device, self.batch, self.free = device, batch, threading.Semaphore(jobs)
        self.out.mkdir(parents=True, exist_ok=True)

    def model(self, networks):
        """What every command wants: the model, the networks, the device."""
        files = [str(self.world / f"{name}.safetensors") for name in networks]
        model = str(self.world / "world.safetensors")
        return ["--pretrained_model_name_or_path", model, "--network_weights", *files, "--device", self.device]

    def data(self, pictures, batch, seed):
        """The pictures of a folder."""
        words = ["--train_data_dir", str(pictures), "--caption_extension", ".txt", "--resolution", "128"]
        return [*words, "--min_bucket_reso", "64", "--train_batch_size", str(batch), "--seed", str(seed)]

    def run(self, command, words, log):
        """Runs a command to its end; returns its standard output. Its standard error goes to a file."""
        with self.free, open(log, "w") as errors:
            words = [self.binary, command, *words]
            pipes = {"stdout": subprocess.PIPE, "stderr": errors, "stdin": subprocess.DEVNULL}
            done = subprocess.run(words, cwd=self.out, text=True, **pipes)
        if done.returncode:
            end = Path(log).read_text().strip().splitlines()[-1:]
            raise SystemExit(f"lora-rates {command} failed, see {log}: {''.join(end)}")
        return done.stdout

    def search(self, name, networks, pictures, batch, seed, options):
        """A search's report, NAME.json; `options` are further ones by name. A finished search is read, not repeated."""
        report = self.out / "searches" / f"{name}.json"
        if not report.exists() or not json.loads(report.read_text())["finished"]:
            report.parent.mkdir(exist_ok=True)
            words = [*self.model(networks), *self.data(pictures, batch, seed), *as_words(options)]
            place = ["--output_dir", str(report.parent), "--output_name", name, "--overwrite"]
            begun = time.time()
            self.run("search", [*words, *place], report.with_suffix(".log"))
            print(f"searched {name}: {time.time() - begun:.0f} s", flush=True)
        return json.loads(report.read_text())

    def evaluator(self, name, networks, pictures, seed, samples_per_image):
        """A running `lora-rates evaluate` over the pictures of a folder."""
        words = [*self.model(networks), *self.data(pictures, self.batch, seed)]
        words += ["--validation_samples_per_image", str(samples_per_image)]
        return Evaluator([self.binary, "evaluate", *words], self.out, self.out / f"evaluate-{name}.log", self.free)

    def sample(self, name, networks, prompts, rates, folder):
        """Pictures' paths, a prompt line each, at rates."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.txt").write_text("\n".join(prompts) + "\n")
        (folder / f"{name}.json").write_text(json.dumps([rates[i : i + BLOCKS] for i in range(0, len(rates), BLOCKS)]))
        words = [*self.model(networks), "--rates", str(folder / f"{name}.json"), "--resolution", "128"]
        words += ["--sample_prompts", str(folder / f"{name}.txt"), "--output_dir", str(folder), "--output_name", name]
        self.run("sample", words, folder / f"{name}.log")
        return [next(folder.glob(f"{name}_{place:02}_*.png")) for place in range(len(prompts))]


class Evaluator:
    """Losses under rates, always of the same pictures, noise and timesteps."""

    def __init__(self, words, folder, log, free):
        self.free, self.log, self.samples = free, log, 0
        free.acquire()
        with open(log, "w") as errors:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": errors}
            self.process = subprocess.Popen(words, cwd=folder, text=True, **pipes)

    def __call__(self, rates):
        """{loss, standard_error, losses: by picture} under N or 20 N rates; `samples` counts what was computed."""
        try:
            self.process.stdin.write(json.dumps([float(rate) for rate in rates]) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        line = self.process.stdout.readline()
        if not line:
            end = Path(self.log).read_text().strip().splitlines()[-1:]
            raise SystemExit(f"lora-rates evaluate failed, see {self.log}: {''.join(end)}")
        answer = json.loads(line)
        self.samples += answer["samples"]
        return {name: answer[name] for name in ("loss", "standard_error", "losses", "samples")}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.free.release()


def as_words(options):
    """A dictionary as words of a command line."""
    words = []
    for name, value in options.items():
        words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return words


def rates_of(networks):
    """20 N rates of a report's `networks`, 0 where there is no module."""
    return [network["rates"][name] or 0.0 for network in networks for name in NAMES]


def live_of(networks):
    """Which of the 20 N slots have a module."""
    return [network["rates"][name] is not None for network in networks for name in NAMES]


def uniform(rate, live):
    """One rate wherever there is a module."""
    return [rate if it else 0.0 for it in live]
