"""Where a run stands: model, moving average, optimiser, position; kept whole in a checkpoint."""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from drawnet import kernels as accelerator
from drawnet import models
from drawnet.data import GeneratedImages, manifest, pipeline
from drawnet.data.manifest import Manifest
from drawnet.errors import UserError, schema
from drawnet.errors.schema import NonNegative, NonNegativeInt, PositiveInt
from drawnet.models.base import Model
from drawnet.nn import noise
from drawnet.training import checkpoint, distributed, migration
from drawnet.training.config import Run, to_json
from drawnet.training.device import CPU
from drawnet.training.provenance import Origin
from drawnet.training.schedule import lengthened

MOMENTS = {
    "adam": ("step", "exp_avg", "exp_avg_sq"),
    "sgd": ("momentum_buffer",),
    "adagrad": ("step", "sum"),
}
"""What each optimiser keeps of a parameter."""
FUSED = {"adam": ("cpu", "cuda", "mps"), "sgd": ("cpu", "cuda", "mps"), "adagrad": ("cpu",)}
"""Devices on which an optimiser's step is one kernel."""
FREE = ("evaluate_every", "save_every", "skip_limit", "recompute")
"""Settings that a resumed run may change: none of them enters a step's result."""


def optimiser(run: Run[Any], model: nn.Module) -> torch.optim.Optimizer:
    """The run's, before its first step; learning rate and momentum are set at every step."""
    device = next(model.parameters()).device.type
    fused = True if device in FUSED[run.optimizer] else None  # None: PyTorch's choice
    if run.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), run.lr, run.momentum, fused=fused)
    if run.optimizer == "adagrad":
        return torch.optim.Adagrad(model.parameters(), run.lr, fused=fused)
    groups: list[dict[str, Any]] = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": run.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim <= 1]},
    ]
    filled = [group for group in groups if group["params"]]
    return torch.optim.AdamW(filled, run.lr, weight_decay=0.0, fused=fused)


@dataclass
class Progress:
    """Where a run stands; saved with every checkpoint."""

    examples_seen: NonNegativeInt = 0
    """Examples seen: the position of the run."""
    best: float = math.inf
    """Lowest value of the criterion on validation images so far."""
    skipped: NonNegativeInt = 0
    """Steps skipped because something was not finite."""
    consecutive_skips: NonNegativeInt = 0
    """… of which the last so many in a row."""
    seconds: NonNegative = 0.0
    """Time spent in training, over all sessions."""
    cpu_seconds: NonNegative = 0.0
    """… and the processor time of it, all threads of this process together."""
    sums: dict[str, float] = field(default_factory=dict)
    """Sums of the metrics over the steps since the last line of metrics.jsonl."""
    steps: NonNegativeInt = 0
    """… and how many steps these are."""
    lengthened: list[tuple[NonNegativeInt, PositiveInt]] = field(default_factory=list)
    """Positions at which a run under a cosine was given more examples, and how many it had before."""


def _progress(values: dict[str, Any]) -> tuple[type[Progress], dict[str, Any]]:
    return Progress, migration.renamed(values, migration.PROGRESS)


@dataclass(frozen=True)
class Header:
    """What a checkpoint says of itself."""

    run: Run[Any]
    progress: Annotated[Progress, schema.by(_progress)]
    data: Manifest | None = None
    origin: Origin | None = None


@dataclass
class Session:
    """Everything that moves in a run."""

    run: Run[Any]
    model: Model
    average: Model
    optimizer: torch.optim.Optimizer
    progress: Progress = field(default_factory=Progress)
    data: Manifest | None = None
    """What is trained on; a checkpoint of other data is not gone on with."""
    origin: Origin | None = None
    """The weights that the run began from, if they were given."""

    @classmethod
    def fresh(
        cls,
        run: Run[Any],
        pixels: Tensor | GeneratedImages,
        levels: int,
        shape: tuple[int, int, int] | None = None,
        kernels: str = "auto",
        device: torch.device = CPU,
    ) -> "Session":
        """A model initialised from the run's seed and the mean image of the training data.

        shape: (C, H, W) of what the model sees of an image; None: all of it.
        device: where it trains; the initial values are the same on all.
        """
        torch.manual_seed(noise.generator(run.seed, "initialise").initial_seed())
        shape = shape or tuple(pixels.shape[1:])  # type: ignore[assignment]
        model, average = (models.build(run.model, shape) for _ in range(2))  # type: ignore[arg-type]
        mean = pipeline.mean_image(pixels)
        model.init_from_mean(pipeline.crop(mean, model.shape) / (levels - 1))
        average.load_state_dict(model.state_dict())
        for network in (model, average):
            network.to(device)
            network.precision = accelerator.operand_dtype(run.precision, kernels, device.type)
            if kernels != "off" and device.type == "cpu":
                accelerator.install(network)
        return cls(run, model, average.eval(), optimiser(run, model))

    def begin_from(self, path: Path) -> None:
        """Take the weights of a model's file; UserError if they are another model's."""
        tensors, self.origin = initial_weights(self.run, path, self.model)
        for network in (self.model, self.average):
            checkpoint.put(network, tensors, path)

    def state(self) -> dict[str, Tensor]:
        """All tensors of the session by name."""
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.state_dict().items()}
        for name, p in self.model.named_parameters():
            for key, value in self.optimizer.state[p].items():
                tensors[f"{self.run.optimizer}.{key}.{name}"] = value
        return tensors

    def save(self, path: Path) -> str:
        """Write a checkpoint and keep the one before it; or, if unsound, return what is not finite."""
        tensors = self.state()
        for name, tensor in tensors.items():
            if not tensor.isfinite().all():
                return name
        header = {"run": to_json(self.run), "progress": vars(self.progress)}
        parts = {"data": self.data, "origin": self.origin}
        header |= {name: asdict(part) for name, part in parts.items() if part}
        with contextlib.suppress(OSError):  # a file system without links keeps one checkpoint
            spare = path.with_name(f".{path.name}.previous")
            spare.unlink(missing_ok=True)
            spare.hardlink_to(path)
            spare.replace(previous(path))
        checkpoint.save_tensors(path, tensors, header)
        return ""

    def load(self, path: Path, *, adopt: bool = False) -> str:
        """Go on where a checkpoint stands; UserError if it is another run's.

        It may be given more examples, and what is in FREE may change.  Return what the learning rate
        does if there are more, else ''.
        adopt: round operands as the checkpoint's run does, whichever machine or device it began on.
        """
        with _spare_named(path):
            tensors, values = checkpoint.load_tensors(path)
        header = schema.convert(values, Header, path)
        before = there = header.run
        there = replace(there, **{name: getattr(self.run, name) for name in FREE})
        if self.run.examples > before.examples:
            there = replace(there, examples=self.run.examples)
        if adopt:
            self.run = replace(self.run, precision=there.precision)
            for network in (self.model, self.average):
                network.precision = accelerator.operand_dtype(there.precision)
        then = header.data
        if then and self.data:
            if changed := manifest.difference(then, self.data):
                raise UserError(
                    f"{path.parent} was trained on other data: {changed}; "
                    "restore them, or choose another --out"
                )
            if then.path and self.data.path:  # the same data, wherever they lie
                there = replace(there, data=replace(there.data, name=self.run.data.name))
        if self.run.examples < before.examples:
            raise UserError(
                f"{path.parent} holds a run of {before.examples:,} examples, which cannot be made "
                f"shorter (--examples {self.run.examples}): Ctrl-C stops it anywhere"
            )
        if there != self.run:
            what = difference(to_json(there), to_json(self.run))
            raise UserError(f"{path.parent} holds another run: {what}")
        tensors = migration.tensors(models.kind(there.model), tensors)
        parameters = dict(self.model.named_parameters())
        self.progress, self.origin = header.progress, header.origin
        if self.progress.examples_seen % self.run.batch:
            raise UserError(
                f"{path}: progress.examples_seen is {self.progress.examples_seen}; "
                f"it must be a multiple of the batch, {self.run.batch}"
            )
        for part, network in (("model.", self.model), ("average.", self.average)):
            names = [name for name in tensors if name.startswith(part)]
            weights = {name.removeprefix(part): tensors.pop(name) for name in names}
            checkpoint.put(network, weights, path)
        moments = {name: self._moments(name, p, tensors, path) for name, p in parameters.items()}
        if tensors:
            raise UserError(f"{path} does not fit its run: it has a foreign {min(tensors)!r}")
        if (
            self.run.optimizer == "adam"
            and self.progress.examples_seen
            and not any(moments.values())
        ):
            raise UserError(f"{path} is damaged: it has none of Adam's moments")
        fused = self.optimizer.defaults["fused"]
        for name, p in parameters.items():
            for key, value in moments[name].items():  # an unfused step is counted on the CPU
                self.optimizer.state[p][key] = value.to(
                    p.device if fused or key != "step" else "cpu"
                )
        if before.examples == self.run.examples:
            return ""
        if before.decay in ("cosine", "wsd"):
            self.progress.lengthened.append((self.progress.examples_seen, before.examples))
        return lengthened(before, self.run, self.progress.examples_seen)

    def _moments(
        self, name: str, p: Tensor, tensors: dict[str, Tensor], path: Path
    ) -> dict[str, Tensor]:
        """Take what the optimiser keeps of a parameter; UserError if it is not all there or misfits."""
        keys = {key: f"{self.run.optimizer}.{key}.{name}" for key in MOMENTS[self.run.optimizer]}
        found = {key: tensors.pop(full) for key, full in keys.items() if full in tensors}
        for key, full in keys.items() if found else ():
            if key not in found:
                raise UserError(f"{path} does not fit its run: it lacks {full!r}")
            want = torch.Size() if key == "step" else p.shape
            have, kind = found[key].shape, found[key].dtype
            if have != want or kind != torch.float32 or not found[key].isfinite().all():
                what = f"{kind}{list(have)}, not finite float32{list(want)}"
                raise UserError(f"{path} does not fit its run: {full!r} is {what}")
        return found


def held(folder: Path) -> Header | None:
    """Return what the checkpoint of a run folder says of itself; None if there is none."""
    path = folder / "training.safetensors"
    if not path.exists():
        return None
    with _spare_named(path):
        return schema.convert(checkpoint.load_header(path), Header, path)


@contextlib.contextmanager
def _spare_named(path: Path) -> Iterator[None]:
    """Name the checkpoint before the last one in the error about a damaged one."""
    try:
        yield
    except UserError as why:
        if previous(path).exists():
            raise UserError(f"{why}; {previous(path).name} is the one before: rename it") from why
        raise


def initial_weights(run: Run[Any], path: Path, model: Model) -> tuple[dict[str, Tensor], Origin]:
    """Load weights for a new run, by the path of their file; UserError if they are another model's."""
    tensors, values = checkpoint.load_tensors(path)
    header = checkpoint.Header.read(values, path)
    (there, kind), (here, own) = ((r.model, models.kind(r.model)) for r in (header.run, run))
    if kind != own:
        raise UserError(f"--init {path} does not fit: it is a {kind}, and this run's model a {own}")
    if header.shape != model.shape:
        sizes = ("x".join(map(str, shape)) for shape in (header.shape, model.shape))
        raise UserError("--init {}: it draws images of {}, and these are {}".format(path, *sizes))
    tensors = migration.tensors(kind, tensors)
    try:
        checkpoint.fits(model, tensors, path)
    except UserError as why:
        what = why if there == here else f"model.{difference(asdict(there), asdict(here))}"
        raise UserError(f"--init {path} does not fit: {what}") from why
    return tensors, Origin(str(path.resolve()), checkpoint.digest(tensors), header.examples)


def check_alike(session: Session) -> None:
    """UserError if the processes differ in their settings, their data or where they stand."""
    here = to_json(session.run)
    here["data"].pop("name")  # the same data, wherever they lie
    assert session.data
    here |= {"data.checksum": session.data.checksum, "data.labels": session.data.labels}
    here["examples_seen"] = session.progress.examples_seen
    first, *others = distributed.gather(here)
    for rank, there in enumerate(others, 1):
        if there != first:
            raise UserError(
                f"process {rank} is unlike process 0: {difference(there, first)}; give all "
                "machines the same command and data, and one run folder that all of them see"
            )


def previous(path: Path) -> Path:
    """Return where the checkpoint before the last one lies."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def difference(there: dict[str, Any], here: dict[str, Any]) -> str:
    """The first setting in which two runs differ, in words."""
    for name in sorted(there.keys() | here.keys()):
        a, b = there.get(name), here.get(name)
        if isinstance(a, dict) and isinstance(b, dict) and a != b:
            return f"{name}.{difference(a, b)}"
        if a != b:
            return f"{name} is {a!r} there and {b!r} here"
    return "no difference"
