"""Compare runs in one table: whatever a model allows is measured alike for all, the rest has a reason.

bound     on -log p(x) of the run's own test images, as the run sees them, one sample; exact if known
less      the bound less that of the first run that has one, image by image, on the same images
K         the bound from K importance samples
Parzen    log-likelihood by windows over samples (`parzen.py`), on grey test images
Fréchet   distance of samples to test images (`frechet.py`), over features of a classifier of the real
          images (`classifier.py`)
read      share of samples of which the classifier is sure, whatever the label
error     share of a conditional model's samples that the classifier assigns to another label

Samples are pixel means.  Those of models of binarised MNIST are compared with MNIST's own grey levels.
"""

import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor

from drawnet.data import Dataset, subsample_indices
from drawnet.data.config import Data
from drawnet.data.io import cache
from drawnet.data.manifest import Manifest
from drawnet.data.pipeline import View, crop, to_float
from drawnet.drawing import sample
from drawnet.errors import UserError, one_line, schema
from drawnet.errors.schema import Ge, ImportanceSamples
from drawnet.evaluation import classifier as reference
from drawnet.evaluation import frechet, parzen
from drawnet.evaluation.likelihood import Evaluation, evaluation_of, measure, stderr
from drawnet.models.base import ImplicitModel, LikelihoodModel, request_labels
from drawnet.models.sequential import StepModel
from drawnet.training import budget, checkpoint
from drawnet.training.config import Run
from drawnet.training.device import CPU, Device

GREY = {"binarized_mnist": "mnist"}
"""The grey-level data set from which a binary data set is sampled."""
VALID = 1000
"""Validation images by which Parzen's σ is chosen."""
BATCH = 100
"""Samples drawn at a time."""
SURE = 0.9
"""Least probability of a class at which a sample counts as read."""

Opened = Callable[[Run[Any], Manifest | None], Dataset]
"""Loads a run's data set; the manifest is what its model was trained on."""


@dataclass(frozen=True)
class Plan:
    """Numbers of samples and images."""

    samples: Annotated[int, Ge(2)] = 10_000
    images: Annotated[int, Ge(2)] = 10_000
    importance_samples: ImportanceSamples | None = None
    seed: int = 0
    training_images: bool = False
    """Whether as many training images stand in the table too, as if they were samples."""

    def __post_init__(self) -> None:
        schema.check(self)


@dataclass(frozen=True)
class Figure:
    """A measured value, or the reason why there is none."""

    value: float | None
    text: str = ""
    """As shown in the table."""
    stderr: float | None = None
    why: str = ""
    """Of a value: what it depends on; else why there is none."""


@dataclass(frozen=True)
class Row:
    """A run and its figures, by column."""

    run: str
    model: str
    data: str
    figures: dict[str, Figure]


class Real:
    """The images that samples are compared with, and the classifier that evaluates samples."""

    def __init__(
        self, data: Dataset, plan: Plan, supplied: reference.ReferenceClassifier | None
    ) -> None:
        self.data, self.plan, self.supplied = data, plan, supplied

    def images(self, split: str, count: int) -> Tensor:
        """Return this many images of a split, evenly spaced, cropped to the centre, values in [0, 1]."""
        whole = self.data.splits[split].pixels
        pixels = torch.from_numpy(whole[subsample_indices(len(whole), count)])
        return crop(to_float(pixels, self.data.levels, None), self.data.shape)

    @cached_property
    def classifier(self) -> reference.ReferenceClassifier:
        """The supplied classifier, or one trained once on these images; UserError if there is none."""
        if self.supplied:
            if self.supplied.config.shape != self.data.shape:
                sizes = f"{self.supplied.config.shape}, {self.data.name} has {self.data.shape}"
                raise UserError(f"the supplied classifier takes images of {sizes}")
            return self.supplied
        path = cache.folder().with_name("classifiers") / f"{self.data.checksum[:24]}.safetensors"
        if not path.exists():
            print(f"training a classifier of {self.data.name}, once: {path}", file=sys.stderr)
        return reference.cached(path, self.data)

    @cached_property
    def moments(self) -> frechet.Moments:
        """Moments of the test images' features."""
        return frechet.moments(self.classifier.features(self.images("test", self.plan.images)))

    @cached_property
    def floor(self) -> float:
        """The distance of as many training images as there are samples."""
        train = self.classifier.features(self.images("train", self.plan.samples))
        return frechet.distance(frechet.moments(train), self.moments)


# ---- measuring ----------------------------------------------------------------------------------


def rows(
    paths: Sequence[Path],
    opened: Opened,
    plan: Plan,
    classifier: Path | None = None,
    *,
    progress: bool = False,
    device: Device = CPU,
) -> list[Row]:
    """Return a row per run.  UserError, before anything is measured, for an invalid path or file.

    device: where the runs' models compute; what is computed of their samples is on the CPU.
    """
    if not paths:
        raise UserError("drawnet compare: name the runs to compare")
    models = [checkpoint.load_model(path, device=device) for path in paths]
    supplied = reference.load(classifier)[0] if classifier else None
    references: dict[str, Real] = {}
    found, bounds = [], Bounds()
    for path, model in zip(paths, models, strict=True):
        found.append(_row(path, model, opened, plan, supplied, references, bounds, progress))
    if plan.training_images:
        found += [_of_training(real) for real in references.values()]
    return found


def _row(
    path: Path,
    model: checkpoint.SavedModel,
    opened: Opened,
    plan: Plan,
    supplied: reference.ReferenceClassifier | None,
    references: dict[str, Real],
    bounds: "Bounds",
    progress: bool,
) -> Row:
    data = opened(model.run, model.data)
    found = bounds.measure(path, model, data, plan, progress)
    try:
        original = _reference(model.run)
        name = json.dumps(asdict(original.data))
        if name not in references:
            grey = data if original is model.run else opened(original, None)
            references[name] = Real(grey, plan, supplied)
        found |= _of_samples(model, references[name], plan)
    except UserError as why:
        found |= dict.fromkeys(("parzen", "frechet", "read", "error", "speed"), _none(str(why)))
    count = sum(p.numel() for p in model.network.parameters())
    found["parameters"] = Figure(count, f"{count:,}")
    if (seconds := model.header.seconds) is None:
        found["minutes"] = _none("not in its file")
    else:
        found["minutes"] = Figure(seconds / 60, f"{seconds / 60:.1f}")
    return Row(one_line(path), model.kind, data.name, found)


def _none(why: str) -> Figure:
    return Figure(None, why=why)


def _reference(run: Run[Any]) -> Run[Any]:
    """Return the same run on grey levels, if its data set is sampled from some."""
    grey = GREY.get(run.data.name)
    return replace(run, data=Data(grey)) if grey else run


class Bounds:
    """The runs' bounds; the first that is one is kept, image by image, for the others' differences."""

    def __init__(self) -> None:
        self.first: tuple[Path, tuple[Any, ...], Tensor] | None = None

    def measure(
        self,
        path: Path,
        model: checkpoint.SavedModel,
        data: Dataset,
        plan: Plan,
        progress: bool,
    ) -> dict[str, Figure]:
        """Measure a run's bound, its difference to the first one, and its K-sample bound."""
        network, k, names = model.network, plan.importance_samples, ("bound", "less", "importance")
        if not isinstance(network, LikelihoodModel):
            return dict.fromkeys(names, _none("it has no density"))
        some = subsample_indices(len(data.splits["test"]), plan.images)
        view = View(data, "test", model.run.data.binarise, some)
        measured = measure(
            network, view, importance_samples=k or 0, seed=plan.seed, progress=progress
        )
        e = evaluation_of(measured, network, view, k)
        if e.elbo_nats is None:
            return dict.fromkeys(names, _none("its cost on intensities is not a likelihood"))
        sign = "" if e.exact else "≤ "
        found = Figure(e.elbo_nats, f"{sign}{e.elbo_nats:.2f} ± {e.elbo_stderr:.2f}", e.elbo_stderr)
        images = data.checksum, model.run.data.binarise, network.shape
        less = self.less(path, images, measured["nats"])
        return {"bound": found, "less": less, "importance": _k_bound(e)}

    def less(self, path: Path, images: tuple[Any, ...], nats: Tensor) -> Figure:
        """Return the mean difference to the first bound, with its standard error over the images."""
        if self.first is None:
            self.first = path, images, nats
            return _none("the others are compared with it")
        first, those, theirs = self.first
        if images != those:
            return _none(f"its images are not those of {one_line(first)}")
        mean, error = (nats - theirs).mean().item(), stderr(nats - theirs)
        return Figure(mean, f"{mean:+.2f} ± {error:.2f}", error)


def _k_bound(e: Evaluation) -> Figure:
    if e.exact:
        return _none("its likelihood is exact")
    if e.iw_nats is None:
        return _none("not requested")
    return Figure(e.iw_nats, f"≤ {e.iw_nats:.2f} ± {e.iw_stderr:.2f}", e.iw_stderr)


def _of_samples(model: checkpoint.SavedModel, real: Real, plan: Plan) -> dict[str, Figure]:
    """Measure samples of a model: Parzen, Fréchet, error, and their speed."""
    network = model.network
    if not isinstance(network, StepModel | ImplicitModel):
        raise UserError("it cannot generate images")
    size = 8 * plan.samples * math.prod(network.shape)  # twice: in parts, and joined
    budget.require(f"--samples {plan.samples}", {"the samples": size})
    if network.shape != real.data.shape:
        raise UserError(f"{real.data.name} has images of {real.data.shape}, not {network.shape}")
    start = time.perf_counter()
    samples = samples_of(network, plan)
    speed = plan.samples / (time.perf_counter() - start)
    found = of_images(samples, real)
    found["speed"] = Figure(speed, f"{speed:,.0f}" if speed >= 10 else f"{speed:.2g}")
    try:
        found["error"] = _error(network, samples, real)
    except UserError as why:
        found["error"] = _none(str(why))
    return found


def samples_of(network: StepModel | ImplicitModel, plan: Plan) -> Tensor:
    """Draw the plan's number of samples in batches, (n, C, H, W)."""
    parts = range(0, plan.samples, BATCH)
    numbers = (range(k, min(k + BATCH, plan.samples)) for k in parts)
    return torch.cat([sample.samples(network, some, seed=plan.seed) for some in numbers])


def _of_training(real: Real) -> Row:
    """Measure training images as if they were samples."""
    found = dict.fromkeys(COLUMNS, _none("they are images and no model"))
    found |= of_images(real.images("train", real.plan.samples), real)
    return Row("training images", "none", real.data.name, found)


def of_images(samples: Tensor, real: Real) -> dict[str, Figure]:
    """Return the Parzen estimate and the Fréchet distance of samples (n, C, H, W) in [0, 1]."""
    plan = real.plan
    p = parzen.estimate(samples, real.images("valid", VALID), real.images("test", plan.images))
    text = f"{p.nats:.1f} ± {p.stderr:.1f} (σ {p.sigma:.3f})"
    found = {"parzen": Figure(p.nats, text, p.stderr, f"σ = {p.sigma:.4f}")}
    try:
        d = frechet.distance(frechet.moments(real.classifier.features(samples)), real.moments)
        found["frechet"] = Figure(d, f"{d:.2f}", why=f"training images: {real.floor:.4f}")
        found["read"] = _share(real.classifier.confidence(samples) >= SURE)
    except UserError as why:
        found |= dict.fromkeys(("frechet", "read"), _none(str(why)))
    return found


def _share(which: Tensor) -> Figure:
    share = which.double().mean().item()
    error = math.sqrt(share * (1 - share) / len(which))
    return Figure(share, f"{100 * share:.1f} ± {100 * error:.1f} %", error)


def _error(network: StepModel | ImplicitModel, samples: Tensor, real: Real) -> Figure:
    """Return the share of samples that are classified as another label than the requested one."""
    if not network.classes:
        return _none("it has no labels")
    if real.classifier.config.classes != network.classes:
        return _none(f"the classifier knows {real.classifier.config.classes} classes")
    asked = request_labels(network, range(network.classes), range(len(samples))).argmax(1)
    return _share(real.classifier.classify(samples) != asked)


# ---- the table ----------------------------------------------------------------------------------


COLUMNS = (
    "bound", "less", "importance", "parzen", "frechet", "read", "error", "speed", "parameters",
    "minutes",
)  # fmt: skip


def columns(plan: Plan) -> dict[str, str]:
    """Return column -> heading."""
    heads = {"bound": "-log p(x), nats", "less": "less the first"}
    if plan.importance_samples:
        heads["importance"] = f"K = {plan.importance_samples}, nats"
    heads |= {"parzen": "Parzen, nats", "frechet": "Fréchet"}
    heads |= {"read": f"read at {SURE}", "error": "error of samples"}
    return heads | {"speed": "samples/s", "parameters": "parameters", "minutes": "minutes"}


def page(found: Sequence[Row], plan: Plan) -> str:
    """Format the table in Markdown; below it the reasons for dashes, and what the figures are."""
    heads = columns(plan)
    lines = ["| run | model | data | " + " | ".join(heads.values()) + " |"]
    lines += ["|" + "---|" * (3 + len(heads))]
    reasons: list[str] = []
    for row in found:
        cells = [row.run, row.model, row.data]
        for name in heads:
            figure = row.figures[name]
            if figure.value is None and figure.why not in reasons:
                reasons.append(figure.why)
            number = reasons.index(figure.why) + 1 if figure.value is None else 0
            cells.append(f"— ({number})" if number else figure.text)
        lines.append("| " + " | ".join(cells) + " |")
    notes = [f"({k}) {why}" for k, why in enumerate(reasons, 1)]
    floors = {
        f"{row.data}: Fréchet of as many {figure.why}"
        for row in found
        if (figure := row.figures["frechet"]).value is not None
    }
    notes += [f"{plan.samples:,} samples, at most {plan.images:,} test images, seed {plan.seed}"]
    return "\n".join([*lines, "", "\n".join(f"- {n}" for n in [*notes, *sorted(floors)])]) + "\n"


def values(found: Sequence[Row], plan: Plan) -> dict[str, Any]:
    """Return the same as JSON values."""
    return {"plan": asdict(plan), "rows": [asdict(row) for row in found]}
