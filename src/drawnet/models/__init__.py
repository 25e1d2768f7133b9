"""One file a paper; a file defines `Config` (a frozen dataclass) and `Model(config, shape)`."""

import importlib
from types import ModuleType
from typing import Any

from drawnet import listing


def module(kind: str) -> ModuleType:
    """The file of a model by its name; UserError with the nearest name if there is none."""
    return importlib.import_module(
        f"drawnet.models.{listing.choose('model', kind, listing.models())}"
    )


def config(kind: str) -> type[Any]:
    """The configuration class of a model."""
    return module(kind).Config  # type: ignore[no-any-return]


def build(settings: Any, shape: tuple[int, int, int]) -> Any:
    """The model that a configuration describes, for images of shape (C, H, W), freshly initialised."""
    return of(settings)(settings, shape)


def of(settings: Any) -> Any:
    """The class of the model that a configuration describes."""
    return module(type(settings).__module__.rpartition(".")[2]).Model
