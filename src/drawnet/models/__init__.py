"""One file a paper; a model's file defines `Config` (a frozen dataclass) and `Model(config, shape)`."""

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from drawnet.errors import UserError, choose, defining


def names() -> list[str]:
    """The models there are: every file of this folder that defines one."""
    return defining(Path(__file__).parent, "Config, Model = ")


def module(kind: str) -> ModuleType:
    """The file of a model by its name; UserError with the nearest name if there is none."""
    return importlib.import_module(f"drawnet.models.{choose('model', kind, names())}")


def config(kind: str) -> type[Any]:
    """The configuration class of a model, by the name that `kind` gives it."""
    return _own(kind).Config if ":" in kind else module(kind).Config  # type: ignore[no-any-return]


def build(settings: Any, shape: tuple[int, int, int]) -> Any:
    """The model that a configuration describes, for images of shape (C, H, W), freshly initialised."""
    return of(settings)(settings, shape)


def of(settings: Any) -> Any:
    """The class of the model that a configuration describes.

    Outside drawnet it is the class, in the configuration's file, that names it as its `Config`.
    """
    home, parent = type(settings).__module__, __name__ + "."
    if home.startswith(parent):
        return module(home.removeprefix(parent)).Model
    for found in vars(sys.modules[home]).values():
        if isinstance(found, type) and getattr(found, "Config", None) is type(settings):
            return found
    raise UserError(
        f"no class in {home} has Config = {type(settings).__name__}: add it to the model"
    )


def kind(settings: Any) -> str:
    """The name under which a model is saved: that of its file, or module:Class outside drawnet."""
    home, parent = type(settings).__module__, __name__ + "."
    if home.startswith(parent):
        return home.removeprefix(parent)
    return f"{_name(home)}:{of(settings).__name__}"


def _name(module_name: str) -> str:
    """A module's name for import; a script's is that of its file."""
    if module_name != "__main__":
        return module_name
    return Path(getattr(sys.modules["__main__"], "__file__", "__main__")).stem


def _own(kind: str) -> Any:
    """The class of a model outside drawnet; a file's word is no reason to import anything."""
    home, _, name = kind.partition(":")
    for module_name in [m for m in (home, "__main__") if m in sys.modules and _name(m) == home]:
        found = getattr(sys.modules[module_name], name, None)
        bases = getattr(found, "__mro__", ())
        if hasattr(found, "Config") and any(b.__module__ == f"{__name__}.base" for b in bases):
            return found
    raise UserError(f"the model is {kind}, of a file outside drawnet: import {home} before loading")
