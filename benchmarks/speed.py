"""Speed of plain PyTorch, ours, and the matrix products alone, in turn on one machine.

    python benchmarks/speed.py                    the paper's MNIST model: train, evaluate, sample
    python benchmarks/speed.py --convolutional    the same of the models with convolutions
    python benchmarks/speed.py --beyond           training with what DRAW has beyond the paper
    python benchmarks/speed.py --growth           growing steps, batch and image size; recomputation
    python benchmarks/speed.py --side-by-side     two trainings at once, each against one alone
    python benchmarks/speed.py --markdown FILE --json FILE --repeats 7

Each contestant runs in its own process, with its own memory, and they alternate, so that drift of
the machine's speed affects all alike.  Times are medians in seconds per batch.

plain     examples/draw_minimal.py: eager PyTorch in float32, as ports write it; of what that has
          not, the package's formulas without kernels
autocast  the same under torch.autocast, which multiplies in bfloat16
compiled  the package's formulas without kernels, the parts of a step under torch.compile
ours      with the settings that the commands make for themselves (GOMP_SPINCOUNT)
floor     only the matrix products of a training step, by PyTorch's library in the best layout:
          forward and input gradients step by step, weight gradients over all T·B rows at once.
          Ours may be faster, as its products exploit that the weights are used T times.
          Of DRAW alone
"""

import argparse
import json
import multiprocessing
import os
import platform
import resource
import statistics
import subprocess
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch


@dataclass(frozen=True)
class Case:
    """One case to time; the defaults are the paper's MNIST model."""

    mode: str = "train"
    attention: bool = True
    steps: int = 64
    batch: int = 128
    size: int = 28
    recompute: int = 0
    """Ours checkpoints every K-th state only; the textbook version cannot."""
    model: str = "draw"
    prior: str = "standard"
    features: int = 0

    @property
    def published(self):
        """Whether it is DRAW as in the paper, of which there is a textbook version."""
        return self.model == "draw" and self.prior == "standard" and not self.features

    @property
    def contestants(self):
        floors = ("floor float32", "floor bfloat16") if self.published else ()
        return ("plain", "autocast", "compiled", "ours float32", "ours bfloat16", *floors)

    def __str__(self):
        kind = "attention" if self.attention else "no attention"
        kind = kind if self.model == "draw" else self.model
        kind += ", learned prior" if self.prior == "learned" else ""
        kind += ", convolutions of x" if self.features else ""
        text = f"{self.mode}, {kind}, T = {self.steps}, B = {self.batch}, {self.size}×{self.size}"
        return text + (f", recompute {self.recompute}" if self.recompute else "")


MODES = ("train", "evaluate", "sample")
BASE = [Case(mode, attention) for mode in MODES for attention in (True, False)]
CONVOLUTIONAL = [
    Case(mode, steps=16, batch=64, model=model)
    for mode in MODES
    for model in ("conv_draw", "stem_draw", "patch_draw")
]
BEYOND = [Case(prior="learned"), Case(features=32), Case(prior="learned", features=32)]
GROWTH = [
    *(Case(steps=t) for t in (16, 32, 128)),
    *(Case(recompute=k) for k in (4, 8, 16)),
    Case(steps=128, recompute=11),
    *(Case(batch=b) for b in (32, 512)),
    *(Case(batch=32, steps=16, size=s) for s in (28, 64, 128, 256)),
]


def package(case, precision="float32"):
    """Return a model of the package, without kernels, and what its modes run."""
    from drawnet import models
    from drawnet.models import sequential

    torch.manual_seed(0)
    config = models.config(case.model)(steps=case.steps)
    if case.model == "draw":
        windows = {} if case.attention else {"read": 0, "write": 0}
        config = replace(config, prior=case.prior, features=case.features, **windows)
    model = models.build(config, (1, case.size, case.size))
    model.precision = {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
    x = (torch.rand(case.batch, *model.shape) < 0.13).float()
    eps = torch.randn(case.steps, case.batch, *model.latents)
    optimizer = torch.optim.Adam(model.parameters(), 1e-4, fused=True)

    def train():
        loss = sequential.bound(model, x, eps, recompute=case.recompute).total.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    @torch.no_grad()
    def evaluate():
        sequential.bound(model, x, eps)

    def sample():
        for _ in sequential.generate(model, eps):
            pass

    return model, {"train": train, "evaluate": evaluate, "sample": sample}[case.mode]


def ours(case, precision):
    from drawnet import kernels
    from drawnet.training.loop import tune_allocator

    tune_allocator()  # as the training loop does
    model, run = package(case, precision)
    kernels.install(model)
    return run


def compiled(case, _):
    model, run = package(case)
    for name in ("infer", "prior", "advance"):
        setattr(model, name, torch.compile(getattr(model, name)))
    return run


def plain(case, _):
    return textbook(case) if case.published else package(case)[1]


def textbook(case):
    from textbook import DRAW

    torch.manual_seed(0)
    read, write = (2, 5) if case.attention else (0, 0)
    model = DRAW((1, case.size, case.size), case.steps, read, write)
    with torch.no_grad():  # small initial weights, as in a textbook
        for p in model.parameters():
            p.mul_(0.5)
    x = (torch.rand(case.batch, 1, case.size, case.size) < 0.13).float()
    eps = torch.randn(case.steps, case.batch, 100)
    optimizer = torch.optim.Adam(model.parameters(), 1e-4)

    def train():
        distortion, rate = model(x, eps)
        optimizer.zero_grad()
        (distortion + rate.sum(0)).mean().backward()
        optimizer.step()

    @torch.no_grad()
    def evaluate():
        model(x, eps)

    return {"train": train, "evaluate": evaluate, "sample": lambda: model.sample(eps)}[case.mode]


def autocast(case, _):
    run = plain(case, _)

    def rounded():
        with torch.autocast("cpu", torch.bfloat16):
            run()

    return rounded


def products(case):
    """Return (inputs, outputs) of every matrix of the model that a step of this mode uses."""
    units, latents, pixels = 256, 100, case.size**2
    write = 25 + 5 if case.attention else pixels
    maps = [(latents + units, 4 * units), (units, write)]
    if case.mode != "sample":
        read = 8 if case.attention else 2 * pixels
        maps += [(read + 2 * units, 4 * units), (units, 2 * latents)]
        maps += [(units, 5)] if case.attention else []
    return maps


def floor(case, precision):
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
    shapes = [(-(-k // 16) * 16, n) for k, n in products(case)]
    w = [torch.randn(n, k).to(dtype) for k, n in shapes]
    x = [torch.randn(case.batch, k).to(dtype) for k, _ in shapes]
    g = [torch.randn(case.batch, n).to(dtype) for _, n in shapes]
    rows = case.steps * case.batch
    far = case.mode == "train"
    xs = [torch.randn(rows, k).to(dtype) for k, _ in shapes] if far else []
    gs = [torch.randn(rows, n).to(dtype) for _, n in shapes] if far else []

    def run():
        for _ in range(case.steps):
            for x_, w_ in zip(x, w, strict=True):
                x_ @ w_.T
            if far:
                for g_, w_ in zip(g, w, strict=True):
                    g_ @ w_
        for x_, g_ in zip(xs, gs, strict=True):
            g_.T @ x_

    return run


def built(name, case):
    """Return the function that a contestant runs."""
    build, _, precision = name.partition(" ")
    builders = (ours, plain, autocast, compiled, floor)
    return {b.__name__: b for b in builders}[build](case, precision)


def contestant(pipe, name, case):
    """Run in a process: build, warm up, then run once for every message."""
    run = built(name, case)
    run(), run()
    pipe.send("ready")
    while pipe.recv():
        start = time.perf_counter()
        run()
        pipe.send(time.perf_counter() - start)
    pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def start(name, case):
    """Start a contestant's process; return its pipe when it is ready."""
    context = multiprocessing.get_context("spawn")
    pipe, far = context.Pipe()
    if name.startswith("ours"):  # as drawnet/__init__.py, before PyTorch is imported
        os.environ["GOMP_SPINCOUNT"] = "1000"
    context.Process(target=contestant, args=(far, name, case), daemon=True).start()
    os.environ.pop("GOMP_SPINCOUNT", None)
    pipe.recv()
    return pipe


def side_by_side(case, repeats):
    """Return the seconds of each round alone, and of two processes at once (ours, bfloat16)."""
    pipes = [start("ours bfloat16", case) for _ in range(2)]
    alone, together = [], []
    for _ in range(repeats):
        pipes[0].send(True)
        alone.append(pipes[0].recv())
        rounds = []
        for _ in range(5):  # both at work from end to end
            for pipe in pipes:
                pipe.send(True)
            rounds += [pipe.recv() for pipe in pipes]
        together.append(statistics.median(rounds))
    for pipe in pipes:
        pipe.send(False)
        pipe.recv()
    return alone, together


def duel(case, repeats):
    """Return {contestant: (seconds of each round, peak MiB)}."""
    pipes = {name: start(name, case) for name in case.contestants}
    times = {name: [] for name in pipes}
    for _ in range(repeats):
        for name, pipe in pipes.items():
            pipe.send(True)
            times[name].append(pipe.recv())
            time.sleep(0.02)  # let the previous one's spinning threads sleep
    peaks = {}
    for name, pipe in pipes.items():
        pipe.send(False)
        peaks[name] = pipe.recv()
    return {name: (times[name], peaks[name]) for name in pipes}


def row(case, result):
    """Format one line of the table."""
    median = {name: statistics.median(seconds) for name, (seconds, _) in result.items()}
    book = result["plain"][0]
    cells = [str(case), *(f"{median[name]:.3f}" for name in ("plain", "autocast", "compiled"))]
    for precision in ("float32", "bfloat16"):
        mine = result[f"ours {precision}"][0]
        ratio = statistics.median(b / m for b, m in zip(book, mine, strict=True))
        seconds, floor = median[f"ours {precision}"], median.get(f"floor {precision}")
        cells += [f"{seconds:.3f}", f"**{ratio:.2f}×**", f"{floor / seconds:.0%}" if floor else ""]
    cells += [f"{case.batch / median['ours bfloat16']:,.0f}"]
    peaks = ("plain", "ours float32", "ours bfloat16")
    cells += [" / ".join(f"{result[name][1]:,.0f}" for name in peaks)]
    return "| " + " | ".join(cells) + " |"


HEAD = """\
| case | plain | autocast | compiled | float32 | × | of the floor | bfloat16 | × | of the floor | \
images/s | peak MiB: plain / float32 / bfloat16 |
|---|---|---|---|---|---|---|---|---|---|---|---|
"""


def machine():
    """Describe the machine and the commit in a line."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    name = (names or [platform.processor()])[0]
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True).stdout.strip() or "no git"
    return (
        f"{name}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}, commit {commit}"
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--convolutional", action="store_true")
    parser.add_argument("--beyond", action="store_true")
    parser.add_argument("--side-by-side", action="store_true")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    if args.side_by_side:
        print(machine(), "\n")
        for case in (Case(), Case(attention=False)):
            alone, together = side_by_side(case, args.repeats)
            share = statistics.median(a / b for a, b in zip(alone, together, strict=True))
            one, two = statistics.median(alone), statistics.median(together)
            print(
                f"{case}: {one:.3f} s alone, {two:.3f} s beside another, {share:.0%} of the speed"
            )
        return
    table, records = HEAD, []
    print(machine(), HEAD, sep="\n\n", end="", flush=True)
    groups = {"growth": GROWTH, "convolutional": CONVOLUTIONAL, "beyond": BEYOND}
    cases = next((cases for name, cases in groups.items() if getattr(args, name)), BASE)
    for case in (c for c in cases if args.only in str(c)):
        result = duel(case, args.repeats if case.size < 128 else min(3, args.repeats))
        line = row(case, result)
        print(line, flush=True)
        table += line + "\n"
        times = {n: {"seconds": s, "peak_mib": p} for n, (s, p) in result.items()}
        records.append({"case": asdict(replace(case)), **times})
    if args.markdown:
        args.markdown.write_text(f"{machine()}; medians of {args.repeats}\n\n{table}")
    if args.json:
        args.json.write_text(json.dumps({"machine": machine(), "cases": records}, indent=1))


if __name__ == "__main__":
    main()
