"""Models and data sets outside drawnet: module:Class, path/to/file.py:Class, or an entry point's name.

`use` imports what the user names.  A name that stands in a file is no reason to import anything:
`loaded` finds it only if it was imported before, or if an installed package declares it.
"""

import importlib
import importlib.util
import os
import re
import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from drawnet.errors import UserError, check_source, choose, expand, kind_of


def is_outside(name: str) -> bool:
    """Whether a name has the form of module:Class or file.py:Class."""
    return re.fullmatch(r".+:[^\W\d]\w*", name, re.S) is not None


def use(name: str) -> Any:
    """Import what 'module:Class' or 'path/to/file.py:Class' stands for, and return it.

    A module is looked for as Python does, and in the working folder.  UserError if it is not there.
    """
    home, _, attribute = name.rpartition(":")
    module = imported_module(home)
    if not hasattr(module, attribute):
        public = [k for k in vars(module) if not k.startswith("_")]
        choose(f"class or function of {home}", attribute, public)
    return getattr(module, attribute)


def imported_module(name: str) -> ModuleType:
    """Import a module by its name, or by its file, which ends in .py; UserError if it is not there."""
    return _from_file(name) if name.endswith(".py") else _from_path(name)


def imported(name: str) -> str:
    """Import what a user's name stands for; return it as module:Class.

    Other names, and those of files and folders that exist, are returned as they are.
    """
    if not is_outside(name) or kind_of(expand(name)):
        return name
    use(name)
    home, _, attribute = name.rpartition(":")
    return f"{Path(home).stem if home.endswith('.py') else home}:{attribute}"


def loaded(name: str) -> Any:
    """Return what 'module:Class' stands for, if it was imported before or is an entry point; or None."""
    home, _, attribute = name.rpartition(":")
    for module_name in (home, "__main__"):
        if module_name in sys.modules and module_name_of(module_name) == home:
            return getattr(sys.modules[module_name], attribute, None)
    for group in ("drawnet.models", "drawnet.data"):
        for point in metadata.entry_points(group=group):
            if point.value.replace(" ", "") == name:
                return point.load()
    return None


def entry_points(group: str) -> dict[str, str]:
    """Return what installed packages declare in a group, name -> 'module:Class'."""
    return {p.name: p.value.replace(" ", "") for p in metadata.entry_points(group=group)}


def module_name_of(name: str) -> str:
    """A module's name for import; a script's is that of its file."""
    if name != "__main__":
        return name
    return Path(getattr(sys.modules["__main__"], "__file__", "__main__")).stem


def _from_path(name: str) -> ModuleType:
    if name in sys.modules:
        return sys.modules[name]
    folder = os.getcwd()  # noqa: PTH109
    sys.path.append(folder)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as why:
        if why.name and name.partition(".")[0] != why.name.partition(".")[0]:
            raise UserError(f"{name} cannot be imported: {why}") from why
        raise UserError(
            f"no module is called {name!r}: give its name, or its file {name}.py"
        ) from why
    except (ImportError, SyntaxError, ValueError) as why:
        raise UserError(f"{name} cannot be imported: {why}") from why
    finally:
        sys.path.remove(folder)


def _from_file(name: str) -> ModuleType:
    """Import a file as a module of its name; UserError if another module has that name."""
    path = check_source(expand(name)).resolve()
    for there in (path.stem, "__main__"):
        module = sys.modules.get(there)
        file = getattr(module, "__file__", None)
        if module and file and Path(file).resolve() == path:
            return module
    if path.stem in sys.modules or path.stem in sys.stdlib_module_names:
        raise UserError(f"{name}: another module is called {path.stem}: rename the file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (ImportError, SyntaxError) as why:
        del sys.modules[path.stem]
        raise UserError(f"{name} cannot be imported: {why}") from why
    except BaseException:
        del sys.modules[path.stem]
        raise
    return module
