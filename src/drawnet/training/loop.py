"""The training loop: one position, counted in examples, from which everything else follows.

images -> stream -> binarise -> objective -> mean over the world -> optimiser -> metrics.jsonl
"""

import contextlib
import ctypes
import gc
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from drawnet import kernels as accelerator
from drawnet import models
from drawnet.data import Dataset, GeneratedImages, manifest, pipeline
from drawnet.errors import UserError, expand
from drawnet.evaluation import likelihood
from drawnet.evaluation.likelihood import per_image
from drawnet.models.base import ImplicitModel, LossOptions, Terms
from drawnet.models.sequential import StepModel
from drawnet.nn.noise import Noise, stream
from drawnet.training import budget, checkpoint, distributed, provenance
from drawnet.training.config import Run
from drawnet.training.console import log, progress, say
from drawnet.training.device import CPU, Device, choose
from drawnet.training.loggers import Logger, LoggerName, Loggers, require
from drawnet.training.run_dir import interruptible, locked, open_metrics
from drawnet.training.schedule import kl_weight, schedule
from drawnet.training.state import Progress, Session, check_alike

SAMPLES = 64
"""Images on a sample sheet."""
SOON = 60.0
"""Seconds of training after which a run has its first checkpoint, and with it a model, at the latest."""

# ---- one step -----------------------------------------------------------------------------------


def not_finite(model: nn.Module, loss: Tensor) -> str:
    """The name of the first thing that is not finite: the loss or a parameter's gradient."""
    if not loss.isfinite():
        return "the loss"
    named = ((n, p.grad) for n, p in model.named_parameters() if p.grad is not None)
    return next((f"the gradient of {n}" for n, g in named if not g.isfinite().all()), "the norm")


def train_step(
    session: Session, pixels: Tensor | GeneratedImages, levels: int, y: Tensor | None = None
) -> dict[str, float]:
    """Advance by one batch: the model's metrics and the gradient's norm.

    pixels: images, or what generates them: then every epoch sees new ones.
    y: encoded labels of all the images, for a model with classes.
    """
    run, model, progress = session.run, session.model, session.progress
    rank, world, device = distributed.rank(), distributed.world(), model.device
    noise = Noise(run.seed, progress.examples_seen, rank, world, device)
    local = run.batch // world
    order = stream(run.seed, progress.examples_seen, run.batch, len(pixels))
    places = numbers = order[rank * local :][:local]
    if isinstance(pixels, GeneratedImages):
        position = progress.examples_seen + rank * local + torch.arange(local)
        numbers = places + position - position % len(pixels)  # epoch · n + place
    mine, uniform = pipeline.take(pixels, numbers, device), None
    if run.data.binarise == "dynamic":
        uniform = noise.uniform("binarise", *mine.shape)
    elif run.data.binarise == "static":
        uniform = pipeline.fixed_noise("train", numbers.tolist(), mine.shape[1:]).to(device)
    x = pipeline.to_float(mine, levels, uniform)
    x = pipeline.crop(x, model.shape, noise.uniform("window", local, 2))
    labels = x.new_zeros(local, 0) if y is None else pipeline.take(y, places, device)
    options = LossOptions(run.recompute, kl_weight(run, progress.examples_seen))
    metrics: dict[str, float] = {}
    culprits: list[str] = []
    for group, parameters in model.parameter_groups().items():
        terms = partial(model.loss, x, labels, noise, options._replace(group=group))
        metrics |= update(session, group, parameters, terms, culprits)
    finish_step(session, culprits)
    return metrics


def update(
    session: Session,
    group: str,
    parameters: list[nn.Parameter],
    terms: Callable[[], Terms],
    culprits: list[str],
) -> dict[str, float]:
    """One step down a parameter group's loss; one that is not finite is skipped, and why noted."""
    run = session.run
    losses, metrics = terms()
    loss = losses.mean()
    session.optimizer.zero_grad(set_to_none=True)
    loss.backward(inputs=parameters if group else None)

    means = torch.stack([loss.detach(), *(per_image(m.detach()).mean() for m in metrics.values())])
    gradients = [p.grad for p in parameters if p.grad is not None]
    distributed.mean([means, *gradients])
    norm = nn.utils.get_total_norm(gradients)
    length, mean, *rest = torch.cat([norm[None], means]).tolist()  # the one wait for the device
    if math.isfinite(length + mean):
        nn.utils.clip_grads_with_norm_(parameters, run.clip, norm)
        for settings in session.optimizer.param_groups:
            settings |= schedule(run, session.progress.examples_seen)
        session.optimizer.step()
    else:
        culprits.append(not_finite(session.model, means[0]))
    return dict(zip(metrics, rest, strict=True)) | {f"norm {group}".strip(): length}


def tune_allocator() -> None:
    """Prepare a process for many like iterations.

    The C library keeps freed memory for the next iteration, instead of returning some 100 MB to the
    system each time; Python's collector skips the objects that exist already.
    """
    gc.freeze()
    with contextlib.suppress(OSError, AttributeError, TypeError):  # another system's library
        libc = ctypes.CDLL(None)
        libc.mallopt(-3, 2**25)  # M_MMAP_THRESHOLD
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


def finish_step(session: Session, culprits: list[str]) -> None:
    """Move the average and the position on; count what was skipped, and stop at the limit."""
    run, progress = session.run, session.progress
    if not culprits:
        steps = progress.examples_seen // run.batch
        decay = min(run.ema, (1 + steps) / (10 + steps)) if run.ema else 0.0
        with torch.no_grad():
            pairs = zip(session.average.parameters(), session.model.parameters(), strict=True)
            for average, p in pairs:
                average.lerp_(p, 1 - decay)
        progress.consecutive_skips = 0
    else:
        progress.skipped += 1
        progress.consecutive_skips += 1
        say(f"step at {progress.examples_seen} examples skipped: {culprits[0]} is not finite")
        if progress.consecutive_skips >= run.skip_limit:
            raise UserError(
                f"{culprits[0]} was not finite {progress.consecutive_skips} steps in a row, "
                f"at {progress.examples_seen} "
                "examples; the last checkpoint is sound: try a smaller --lr or --clip"
            )
    progress.examples_seen += run.batch


# ---- the run ------------------------------------------------------------------------------------


def train(
    run: Run[Any],
    data: Dataset,
    folder: Path,
    *,
    resume: bool = False,
    log: Sequence[LoggerName | Logger] = (),
    kernels: str = "auto",
    device: Device = CPU,
) -> Progress:
    """Train until `run.examples`, or until Ctrl-C or SIGTERM, which keep a checkpoint.

    data: its 'train' and 'valid' splits serve; folder: made, or gone on with if `resume`, also on
    another device; log: what also takes its metrics (`loggers`).  Returns where the run stands.
    UserError: see the module's and the command line's.
    """
    device = choose(device)
    for logger in log:
        require(logger)
    if run.batch % distributed.world():
        raise UserError(f"--batch {run.batch} does not divide over {distributed.world()} processes")
    check_pixels(run, data.levels)
    budget.check_training(run, data.shape, run.batch // distributed.world())
    kind = models.of(run.model)
    y, _ = (
        pipeline.labels(data, split, getattr(run.model, "classes", 0), kind.encode_labels)
        for split in ("train", "valid")
    )
    adopt = run.precision == "auto"
    precision = accelerator.precision(run.precision, kernels, device.type)
    run = replace(run, precision=distributed.gather(precision)[0])  # machines may differ
    tune_allocator()
    pixels, y = pipeline.resident(data.splits["train"].pixels, device), y.to(device)
    with locked(folder), interruptible() as stopped:
        session = Session.fresh(run, pixels, data.levels, data.shape, kernels, device)
        session.data = manifest.describe(data, run.data.name)
        saved = folder / "training.safetensors"
        if saved.exists():
            if not resume:
                raise UserError(f"{folder} holds a run already: --resume goes on with it")
            if changed := session.load(saved, adopt=adopt):
                say(changed)
        elif (folder / "model.safetensors").exists():
            raise UserError(f"{folder} holds weights but no checkpoint: choose another --out")
        else:
            if run.init:
                session.begin_from(checkpoint.located(expand(run.init)))
                say(f"the weights are those of {session.origin}")
                if run.kl_warmup:
                    say(
                        "the weight of the rate rises from 0, which is for new weights: these forget "
                        "in it what their latents are for (--kl-warmup 0 leaves it at 1)"
                    )
            if adopt and kernels != "off" and device.type == "cpu":
                times = accelerator.fastest()[1]
                say(f"--precision auto: {run.precision} (a step of an LSTM: {times})")
        check_alike(session)
        loop = Loop(session, data, y, folder, log)
        try:
            loop.run(pixels, stopped)
        finally:
            loop.close()
    return session.progress


def check_pixels(run: Run[Any], levels: int) -> None:
    """UserError if the model's pixels and the data's levels do not go together."""
    kind, binary = getattr(run.model, "likelihood", None), levels == 2
    grey = not binary and run.data.binarise == "no"
    if kind is None:
        return
    if kind == "bernoulli" and grey:
        other = ", or --model.likelihood logistic" if "likelihood" in vars(run.model) else ""
        raise UserError(
            f"{run.data.name} has grey levels, for which Bernoulli pixels are no likelihood: "
            f"--data.binarise dynamic{other}"
        )
    if kind != "bernoulli" and not grey:
        raise UserError(
            f"--model.likelihood {kind} is for grey levels, and these images are binary"
        )


class Loop:
    """The run from one position to the next: bar, metrics, evaluations, checkpoints."""

    def __init__(
        self,
        session: Session,
        data: Dataset,
        y: Tensor,
        folder: Path,
        log: Sequence[LoggerName | Logger],
    ) -> None:
        self.session, self.data, self.y, self.folder = session, data, y, folder
        self.is_main = distributed.rank() == 0
        self.saved, self.model = (folder / f"{n}.safetensors" for n in ("training", "model"))
        self.new = not self.saved.exists()
        self.metrics = (
            open_metrics(folder / "metrics.jsonl", session.progress.examples_seen)
            if self.is_main
            else None
        )
        position = session.run, session.progress.examples_seen
        self.loggers = Loggers(log if self.is_main else (), folder, *position)

    def run(self, pixels: Tensor | GeneratedImages, stopped: list[str]) -> None:
        run, p = self.session.run, self.session.progress
        done = min(p.examples_seen, run.examples)
        with progress(run.recipe, run.examples, done, shown=self.is_main) as bar:
            while p.examples_seen < run.examples:
                if distributed.any_true(bool(stopped)):
                    self.save({})
                    self.farewell(stopped)
                    return
                before, clocks = p.examples_seen, (time.perf_counter(), time.process_time())
                metrics = train_step(self.session, pixels, self.data.levels, self.y)
                p.seconds += time.perf_counter() - clocks[0]
                p.cpu_seconds += time.process_time() - clocks[1]
                bar.update(min(p.examples_seen, run.examples) - before)
                self.record(metrics, bar)
                self.at_intervals(before)
        self.log(f"ends after {p.seconds / 60:.1f} minutes of training")

    def record(self, metrics: dict[str, float], bar: Any) -> None:
        """Means over the steps since the last line of metrics.jsonl."""
        p = self.session.progress
        p.sums = {name: p.sums.get(name, 0.0) + value for name, value in metrics.items()}
        p.steps += 1
        if p.steps >= 50 or p.examples_seen >= self.session.run.examples:
            means = {name: value / p.steps for name, value in p.sums.items()}
            p.sums, p.steps = {}, 0
            norms = {k: means.pop(k) for k in list(means) if k.startswith("norm")}
            bar.set_postfix({k: f"{v:.4g}" for k, v in means.items()})
            self.write({f"train_{k}": v for k, v in means.items()} | norms)

    def at_intervals(self, before: int) -> None:
        run, p = self.session.run, self.session.progress
        seen, last = p.examples_seen, p.examples_seen >= run.examples
        crossed = {n: seen // n > before // n for n in (run.evaluate_every, run.save_every)}
        chosen = self.evaluate() if crossed[run.evaluate_every] or last else {}
        if any(crossed.values()) or last or (self.new and p.seconds >= SOON):
            self.save(chosen)

    def evaluate(self) -> dict[str, float]:
        """Measure the averaged weights on validation images; return their value if it is the best."""
        if not self.is_main:
            return {}
        s = self.session
        some = slice(s.run.validation_images)
        view = pipeline.View(self.data, "valid", s.run.data.binarise, some)
        found = likelihood.measure(s.average, view)
        means = {f"valid_{name}": per_image(v).mean().item() for name, v in found.items()}
        self.write(means)
        metric = f"valid_{s.average.selection_metric}"
        best = means[metric] < s.progress.best
        rest = ", the best so far" if best else f"; the best is {s.progress.best:.4g}"
        self.log(f"{metric} {means[metric]:.4g}{rest}")
        self.sample_grid()
        if best:
            s.progress.best = means[metric]
        return {metric: means[metric]} if best else {}

    def save_model(self, best: dict[str, float]) -> None:
        """Write the averaged weights; best: their value, if validation has chosen them."""
        p = self.session.progress
        data = asdict(self.session.data or manifest.describe(self.data, self.session.run.data.name))
        spent = {"seconds": p.seconds, "cpu_seconds": p.cpu_seconds}
        made = asdict(provenance.build_metadata(self.session.model.device))
        header: dict[str, Any] = {
            "examples": p.examples_seen,
            "validated": bool(best),
            **best,
            **spent,
        }
        header |= {"data": data, "made": made, "lengthened": p.lengthened}
        if self.session.origin:
            header["origin"] = asdict(self.session.origin)
        checkpoint.save_model(self.model, self.session.average, self.session.run, header)

    def sample_grid(self) -> None:
        """A sheet of samples from the averaged weights, from the same noise each time."""
        from drawnet.drawing import figures, files, sample

        if not isinstance(self.session.average, StepModel | ImplicitModel):
            return
        path = self.folder / "samples" / f"{self.session.progress.examples_seen:010d}.png"
        images = sample.sample(self.session.average, SAMPLES)
        files.save(figures.grid(images), path)

    def save(self, chosen: dict[str, float]) -> None:
        """Write the checkpoint, unless the run is in trouble: then the last sound one stays.

        chosen: the value of weights that validation has just chosen; they become the model.  Until it
        has chosen any, those of every checkpoint do.  A run's first checkpoint comes before its model,
        as weights alone could not be gone on with, later ones after, so that a kill repeats the choice.
        """
        if not self.is_main:
            return
        there, self.new = self.saved.exists(), False
        if chosen and there:
            self.save_model(chosen)
        if self.session.progress.consecutive_skips:
            return
        if unsound := self.session.save(self.saved):
            say(f"no checkpoint: {unsound} is not finite; the last sound one stays")
        elif self.session.progress.best == math.inf or not self.model.exists():
            self.save_model(chosen)

    def write(self, values: dict[str, float]) -> None:
        """One line of metrics.jsonl, and the same to the loggers."""
        p = self.session.progress
        spent = {"seconds": round(p.seconds, 2), "cpu_seconds": round(p.cpu_seconds, 2)}
        values = {"examples": p.examples_seen, **spent} | {
            k: round(v, 4) for k, v in values.items()
        }
        try:
            if self.metrics:
                self.metrics.write(json.dumps(values) + "\n")
                self.metrics.flush()
        except OSError as why:  # a full disk: training goes on without its log
            say(f"metrics are no longer written: {why.strerror or why}")
            self.metrics = None
        self.loggers.log(p.examples_seen, values)

    def log(self, what: str) -> None:
        if self.is_main:
            log(
                f"{self.session.run.recipe}: {self.session.progress.examples_seen:,} examples: {what}"
            )

    def farewell(self, stopped: list[str]) -> None:
        if self.is_main:
            seen, total = self.session.progress.examples_seen, self.session.run.examples
            why = stopped[0] if stopped else "another process"
            say(f"stopped by {why} at {seen} of {total} examples; --resume goes on from here")

    def close(self) -> None:
        self.loggers.close()
        with contextlib.suppress(OSError):
            if self.metrics:
                self.metrics.close()
