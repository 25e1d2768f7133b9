"""One file a paper; a model's file defines `Config` (a frozen dataclass) and `Model(config, shape)`."""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

from drawnet.errors import choose, defining


def names() -> list[str]:
    """The models there are: every file of this folder that defines one."""
    return defining(Path(__file__).parent, "Config, Model = ")


def module(kind: str) -> ModuleType:
    """The file of a model by its name; UserError with the nearest name if there is none."""
    return importlib.import_module(f"drawnet.models.{choose('model', kind, names())}")


def config(kind: str) -> type[Any]:
    """The configuration class of a model."""
    return module(kind).Config  # type: ignore[no-any-return]


def build(settings: Any, shape: tuple[int, int, int]) -> Any:
    """The model that a configuration describes, for images of shape (C, H, W), freshly initialised."""
    return of(settings)(settings, shape)


def of(settings: Any) -> Any:
    """The class of the model that a configuration describes."""
    return module(type(settings).__module__.rpartition(".")[2]).Model
