"""Training from Python, in a script or a notebook: `fit` trains, and returns what one goes on with."""

import shutil
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from drawnet import models, recipes
from drawnet.data import Dataset
from drawnet.data.config import Data
from drawnet.data.libraries import as_dataset
from drawnet.data.pipeline import View
from drawnet.errors import UserError, check_folder, choose, expand, outside, write_bytes
from drawnet.evaluation import likelihood
from drawnet.evaluation.likelihood import Evaluation, Measure
from drawnet.models.base import ImplicitModel, LikelihoodModel
from drawnet.models.sequential import StepModel
from drawnet.training import checkpoint
from drawnet.training.config import Run
from drawnet.training.console import say
from drawnet.training.device import Device
from drawnet.training.device import choose as chosen_device
from drawnet.training.loggers import Logger, LoggerName
from drawnet.training.loop import train
from drawnet.training.run_dir import read_metrics


@dataclass(frozen=True, eq=False)
class TrainedRun:
    """A run that has been trained, or stopped: its folder, its settings and its data."""

    folder: Path
    """Where weights, metrics and checkpoints lie."""
    settings: Run[Any]
    data: Dataset = field(repr=False)
    device: Device = "cpu"
    kernels: str = "auto"

    def __repr__(self) -> str:
        last = self.metrics[-1] if self.metrics else {"examples": 0}
        values = ", ".join(f"{k} {v:,.10g}" for k, v in last.items() if "seconds" not in k)
        return f"TrainedRun({str(self.folder)!r}, {self.settings.recipe}: {values})"

    @cached_property
    def model(self) -> Any:
        """The averaged weights that were best on the validation images."""
        saved = checkpoint.load_model(self.folder, self.kernels, chosen_device(self.device))
        return saved.network

    @property
    def metrics(self) -> list[dict[str, float]]:
        """The lines of metrics.jsonl: examples, seconds, and values by name (train_nats, valid_nats)."""
        return [
            {"examples": m.examples, "seconds": m.seconds, **m.values}
            for _, m in read_metrics(self.folder / "metrics.jsonl")
        ]

    def evaluate(
        self, split: str = "test", *, importance_samples: int | None = None, seed: int = 0
    ) -> Evaluation | dict[str, Measure]:
        """Measure the model on every image of a split, in nats: the bound, its rate and distortion.

        importance_samples: K of the K-sample bound, if asked for.  A model without a likelihood gives
        its metrics by name.
        """
        choose("split", split, self.data.splits)
        view = View(self.data, split, self.settings.data.binarise)
        if isinstance(self.model, LikelihoodModel):
            k = importance_samples
            return likelihood.evaluate(self.model, view, importance_samples=k, seed=seed)
        return likelihood.summary(likelihood.measure(self.model, view, seed=seed))

    def sample(self, n: int = 64, *, labels: Sequence[int] = (), seed: int = 0) -> Tensor:
        """Draw n images, (n, C, H, W) in [0, 1]; UserError for a model that cannot."""
        if not isinstance(self.model, StepModel | ImplicitModel):
            raise UserError(f"{models.kind(self.settings.model)} cannot generate images")
        return self.model.sample(n, labels=labels, seed=seed)

    def save(self, path: str | Path) -> Path:
        """Copy the model to a file, which `drawnet.load` and every command take."""
        path = expand(path)
        write_bytes(path, (self.folder / "model.safetensors").read_bytes())
        return path


def fit(
    data: Any,
    recipe: str | Run[Any] = "images",
    out: str | Path | None = None,
    *,
    labels: Any = None,
    model: Any = None,
    resume: bool = False,
    log: LoggerName | Logger | Sequence[LoggerName | Logger] = (),
    kernels: str = "auto",
    device: Device = "auto",
    **changes: Any,
) -> TrainedRun:
    """Train a model, as `drawnet train` does; Ctrl-C stops it and keeps what there is.

    data     a data set's name, a folder or file, arrays or tensors, (images, labels), a torch or Hugging
             Face data set, or {'train': …, 'valid': …, 'test': …} of them (`data.libraries.as_dataset`)
    recipe   a recipe's name (`drawnet list`), or a whole `Run`; 'images' looks at the data and chooses
    out      the run folder; None: a temporary one, which is gone with the returned object
    labels   of arrays, (N,): a model with classes is conditioned on them
    model    a model's configuration, or one's name: vae, module:Class, path/to/file.py:Class
    resume   go on with the run in `out`, exactly as if it had not been stopped
    log      'tensorboard', 'wandb', 'mlflow', or objects with log(step, metrics) and close()
    changes  settings of the run (examples, batch, lr, …), its model (units, steps, …) or its data
             (binarise), by name

    UserError, one line, for data that it cannot read and settings that do not exist or go together.
    """
    settings, found = _run(data, recipe, labels, model, changes)
    scratch = "" if out is not None else tempfile.mkdtemp(prefix="drawnet-")
    folder = Path(scratch) / settings.recipe if scratch else check_folder(expand(str(out)))
    loggers = log if isinstance(log, list | tuple) else (log,)
    options: Any = {"kernels": kernels, "device": device}
    trained = TrainedRun(folder, settings, found, chosen_device(device), kernels)
    if scratch:
        weakref.finalize(trained, shutil.rmtree, scratch, ignore_errors=True)
    train(settings, found, folder, resume=resume, log=loggers, **options)
    return trained


def _run(
    data: Any, recipe: str | Run[Any], labels: Any, model: Any, changes: dict[str, Any]
) -> tuple[Run[Any], Dataset]:
    """Return the settings of a run and its data."""
    named = isinstance(data, str | Path)
    run = recipe if isinstance(recipe, Run) else recipes.get(recipe)
    chooser = None if isinstance(recipe, Run) else recipes.chooser(recipe)
    own = {k: changes.pop(k) for k in [*changes] if k in _names(Data) and k != "name"}
    found = None if named else as_dataset(data, labels)
    name = outside.imported(str(data)) if found is None else found.name
    settings = replace(Data() if chooser else run.data, name=name, **own)
    if chooser:
        run, found, lines = chooser(settings, found)
        say("\n".join(lines))
        settings = replace(run.data, **own)
    found = found or settings.load()
    config = run.model
    if model is not None:
        config = models.use(model)() if isinstance(model, str) else model
        if not is_dataclass(config) or isinstance(config, type):
            raise UserError(
                f"model is {model!r}: give a configuration (VAEConfig(units=100)) or a name"
            )
    return _changed(replace(run, model=config, data=settings), changes), found


def _changed(run: Run[Any], changes: dict[str, Any]) -> Run[Any]:
    """Return a run with settings of its own or of its model changed; UserError for other names."""
    whole, inner = _names(Run), _names(type(run.model))
    for name in changes:
        choose("setting", name, [*whole, *inner, *_names(Data)])
    config = replace(run.model, **{k: v for k, v in changes.items() if k not in whole})
    return replace(run, model=config, **{k: v for k, v in changes.items() if k in whole})


def _names(kind: Any) -> list[str]:
    return [f.name for f in fields(kind) if f.name not in ("model", "data")]
