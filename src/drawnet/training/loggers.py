"""Where a run's metrics go besides metrics.jsonl: TensorBoard, Weights & Biases, MLflow, or one's own.

A logger has `log(step, metrics)`, and `close()`; the step is the number of examples seen.  Each of ours
is an extra.  Nothing reaches the network unasked: W&B runs offline unless WANDB_MODE says otherwise, and
MLflow writes into the run folder unless MLFLOW_TRACKING_URI names another place.
"""

import contextlib
import importlib
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from drawnet.errors import UserError, choose
from drawnet.training.config import Run, to_json
from drawnet.training.console import say

LoggerName = Literal["tensorboard", "wandb", "mlflow"]
MODULES = {"tensorboard": "torch.utils.tensorboard", "wandb": "wandb", "mlflow": "mlflow"}


class Logger(Protocol):
    """What takes the metrics of a run."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take metrics by name at a position, in examples seen; an OSError ends the logging only."""

    def close(self) -> None:
        """Finish: the run has ended, or was stopped."""


def require(log: LoggerName | Logger) -> None:
    """Raise UserError unless this is a logger, or the name of one whose package is installed."""
    if not isinstance(log, str):
        if not callable(getattr(log, "log", None)) or not callable(getattr(log, "close", None)):
            raise UserError(
                f"{type(log).__name__} is no logger: it needs log(step, metrics), close()"
            )
        return
    _imported(choose("logger", log, get_args(LoggerName)))


def _imported(name: str) -> Any:
    if name == "mlflow":
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        return importlib.import_module(MODULES[name])
    except ImportError as why:
        raise UserError(f"--log {name} needs an extra: pip install 'drawnet[{name}]'") from why


class Loggers:
    """Several loggers; one that an OSError befalls, as on a full disk, is closed and left out."""

    def __init__(
        self, log: Sequence[LoggerName | Logger], folder: Path, run: Run[Any], step: int
    ) -> None:
        """Open those that are named, for a run folder and from a position on."""
        kinds: dict[str, Any] = {"tensorboard": TensorBoard, "wandb": WandB, "mlflow": MLflow}
        self.loggers: list[Logger] = [
            kinds[k](_imported(k), folder, run, step) if isinstance(k, str) else k for k in log
        ]

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for logger in [*self.loggers]:
            try:
                logger.log(step, metrics)
            except OSError as why:
                say(f"{type(logger).__name__} takes no more metrics: {why.strerror or why}")
                self.loggers.remove(logger)
                _close(logger)

    def close(self) -> None:
        for logger in self.loggers:
            _close(logger)


def _close(logger: Logger) -> None:
    with contextlib.suppress(OSError):
        logger.close()


class TensorBoard:
    """Event files in FOLDER/tensorboard."""

    def __init__(self, library: Any, folder: Path, run: Run[Any], step: int) -> None:
        self.writer = library.SummaryWriter(
            str(folder / "tensorboard"), purge_step=step + 1 if step else None
        )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()


class WandB:
    """A run of Weights & Biases in FOLDER/wandb, offline: `wandb sync` uploads it."""

    def __init__(self, library: Any, folder: Path, run: Run[Any], step: int) -> None:
        mode = os.environ.get("WANDB_MODE", "offline")
        settings = {"project": os.environ.get("WANDB_PROJECT", "drawnet"), "name": folder.name}
        self.run = library.init(dir=str(folder), mode=mode, config=to_json(run), **settings)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.run.log(dict(metrics), step=step)

    def close(self) -> None:
        self.run.finish()


class MLflow:
    """A run of MLflow in FOLDER/mlruns, or where MLFLOW_TRACKING_URI says."""

    def __init__(self, library: Any, folder: Path, run: Run[Any], step: int) -> None:
        place = os.environ.get("MLFLOW_TRACKING_URI")
        if not place:
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
            place = (folder / "mlruns").resolve().as_uri()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an old kind of store
            self.client = library.MlflowClient(place)
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "drawnet")
            found = self.client.get_experiment_by_name(name)
            number = found.experiment_id if found else self.client.create_experiment(name)
            self.id = self.client.create_run(number, run_name=folder.name).info.run_id
        for key, value in _flat(to_json(run)).items():
            self.client.log_param(self.id, key, value)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self.client.log_metric(self.id, name.replace(" ", "_"), value, step=step)

    def close(self) -> None:
        self.client.set_terminated(self.id)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings as one level, 'model.units'."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        inner = isinstance(value, Mapping)
        found |= _flat(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return found
