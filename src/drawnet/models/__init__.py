"""One file a paper; a model's file defines `Config` (a frozen dataclass) and `Model(config, shape)`."""

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from drawnet.errors import UserError, choose, defining, outside

GROUP = "drawnet.models"
"""The entry points by which installed packages declare models, name = module:Class."""


def names() -> list[str]:
    """The models there are: every file of this folder that defines one."""
    return defining(Path(__file__).parent, "Config, Model = ")


def module(kind: str) -> ModuleType:
    """The file of a model by its name; UserError with the nearest name if there is none."""
    return importlib.import_module(f"drawnet.models.{choose('model', kind, names())}")


def config(kind: str) -> type[Any]:
    """The configuration class of a model, by the name that `kind` gives it."""
    return _own(kind).Config if ":" in kind else module(kind).Config  # type: ignore[no-any-return]


def use(name: str) -> type[Any]:
    """The configuration class of a model that the user names, importing it if need be.

    name: one of `names`, module:Class, path/to/file.py:Class, or an entry point of `GROUP`.  UserError
    if there is none, or if it is no model with a `Config`.
    """
    declared = outside.entry_points(GROUP)
    if name in names():
        return config(name)
    if name.endswith(".py"):
        raise UserError(f"{name}: which model? name its class: {name}:Class")
    if not outside.is_outside(name):
        choose("model", name, [*names(), *declared])
    name = declared.get(name, name)
    return _checked(outside.use(name), name).Config  # type: ignore[no-any-return]


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
    return f"{outside.module_name_of(home)}:{of(settings).__name__}"


def _own(kind: str) -> Any:
    """The class of a model outside drawnet; a file's word is no reason to import anything."""
    found = outside.loaded(kind)
    if found is None or not _is_model(found):
        home = kind.partition(":")[0]
        raise UserError(
            f"the model is {kind}, of a file outside drawnet: import {home} before loading "
            f"(on the command line: drawnet --import {home} …, or its file)"
        )
    return found


def _is_model(found: Any) -> bool:
    bases = getattr(found, "__mro__", ())
    return hasattr(found, "Config") and any(b.__module__ == f"{__name__}.base" for b in bases)


def _checked(found: Any, name: str) -> Any:
    if not _is_model(found):
        raise UserError(
            f"{name} is no model: derive it from drawnet.StepModel or another Model, with a Config"
        )
    return found
