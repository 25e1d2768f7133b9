"""The one exception that users see, and its most frequent causes: settings, names and files."""

import contextlib
import difflib
import glob
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path


class UserError(Exception):
    """An error that the user can fix: one line saying what is wrong, where, and what to do.

    The command line prints the line and exits with status 2; a library user may catch it.
    """

    def __init__(self, message: object) -> None:
        super().__init__(one_line(message))


def one_line(message: object) -> str:
    """Return a message in one line: what no terminal should print, in a name for instance, escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(message))


def defining(folder: Path, text: str) -> list[str]:
    """Return the Python files of a folder with a line beginning so, by name, without importing them."""
    files = sorted(folder.glob("*.py"))
    return [f.stem for f in files if f"\n{text}" in f.read_text(encoding="utf-8")]


def choose(kind: str, name: str, names: Iterable[str]) -> str:
    """Return the name if it is one of the names; else raise UserError with the closest match."""
    names = list(names)
    if name in names:
        return name
    near = difflib.get_close_matches(name, names, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names)}"
    raise UserError(f"no {kind} is called {name!r}; {hint}")


def threads() -> int | None:
    """Return OMP_NUM_THREADS, None where it is unset; UserError if it is no such number."""
    chosen = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if not chosen:
        return None
    if not chosen.isdecimal() or not 0 < int(chosen) < 2**31:
        raise UserError(f"OMP_NUM_THREADS is {chosen!r}: give a number of threads, or unset it")
    return int(chosen)


# ---- paths --------------------------------------------------------------------------------------


def expand(path: Path | str) -> Path:
    """Return a path with the home folder in place of a leading ~; UserError if there is none."""
    path = Path(path)
    if not path.parts or not path.parts[0].startswith("~"):
        return path
    try:
        found = path.expanduser()
    except RuntimeError:
        raise UserError(f"{path}: no such home folder is known: write the path in full") from None
    own = os.environ.get("HOME", str(found)) if path.parts[0] == "~" else str(found)
    if not os.path.isabs(own):  # noqa: PTH117
        raise UserError(
            f"{path}: HOME is {own!r}, no absolute path: set it, or write the path in full"
        )
    return found


def cache_dir() -> Path:
    """Return $XDG_CACHE_HOME/drawnet, or ~/.cache/drawnet where that is unset or relative."""
    chosen = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (chosen if chosen.is_absolute() else expand("~/.cache")) / "drawnet"


def kind_of(path: Path) -> str:
    """Return what lies at a path: '', 'file', 'folder' or 'other'; UserError if that cannot be said."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except (OSError, ValueError) as why:
        raise UserError(f"{path} cannot be opened: {reason(why)}") from why
    return "file" if stat.S_ISREG(mode) else "folder" if stat.S_ISDIR(mode) else "other"


def reason(why: Exception) -> str:
    """Return what an operating system's error says, without the path."""
    return getattr(why, "strerror", None) or str(why)


def check_utf8(path: Path) -> None:
    """Raise UserError for a path that is not UTF-8, whatever the locale: safetensors takes no other."""
    try:
        os.fsencode(path).decode()
    except UnicodeError:
        raise UserError(f"{path}: the path of a model must be UTF-8: rename it") from None


def check_source(path: Path) -> Path:
    """Return the path of a file to read; UserError if there is none.

    A device or pipe is none: it may never come to an end.
    """
    found = kind_of(path)
    if not found:
        raise UserError(f"{path} is not there")
    if found == "folder":
        raise UserError(f"{path} is a folder: name a file")
    if found == "other":
        raise UserError(f"{path} is a device, pipe or socket: name a file")
    if not os.access(path, os.R_OK):
        raise UserError(f"{path} cannot be read: Permission denied")
    return path


def check_folder(path: Path) -> Path:
    """Return the path of a folder to write in, there already or not; UserError if there can be none."""
    place = path
    while not (found := kind_of(place)):
        if os.path.lexists(place):  # a symbolic link to nothing
            break
        place = place.parent
    if found != "folder":
        raise UserError(f"{path} cannot be a folder: {place} is not one")
    if not os.access(place, os.W_OK | os.X_OK):
        raise UserError(f"{place} cannot be written: Permission denied")
    return path


def check_target(path: Path) -> Path:
    """Return the file that `path` leads to, if one lies there or can; else UserError."""
    try:
        real = path.resolve()
    except (OSError, RuntimeError, ValueError) as why:
        raise UserError(f"{str(path)!r} cannot be written: {reason(why)}") from why
    found = kind_of(real)
    if path.name in ("", "..") or found == "folder":
        raise UserError(f"{str(path)!r} is a folder: name a file")
    if found == "other":
        raise UserError(f"{path} is a device, pipe or socket: name a file")
    check_folder(real.parent)
    return real


def check_targets(*outputs: Path | None, sources: Iterable[Path] = ()) -> None:
    """Raise UserError unless all these files can be written, each of its own and none of the sources.

    A command calls it before it does any work; None: an output that is not requested.
    """
    taken = {path.resolve(): "a file that is read" for path in sources}
    for path in outputs:
        if path is not None:
            real = check_target(path)
            if real in taken:
                raise UserError(f"{path} is {taken[real]}: choose another name")
            taken[real] = "the name of two outputs"


# ---- the writer ---------------------------------------------------------------------------------


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `path`, then rename it over `path`; all or nothing."""
    _write({path: write})


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write files, all of them or none: they are renamed when every one is on the disk."""
    _write({path: partial(_fill, content) for path, content in contents.items()})


def _fill(content: bytes, scratch: Path) -> None:
    scratch.write_bytes(content)


def _write(writers: Mapping[Path, Callable[[Path], object]]) -> None:
    targets = {path: check_target(path) for path in writers}
    parts = {p: t.with_name(f".{t.name[-50:]}.{os.getpid()}.part") for p, t in targets.items()}
    try:
        for path, write in writers.items():
            targets[path].parent.mkdir(parents=True, exist_ok=True)
            _sweep(parts[path])
            write(parts[path])
            sync(parts[path])
        for path, target in targets.items():
            parts[path].replace(target)
    except OSError as why:
        raise UserError(f"{path} could not be written: {reason(why)}") from why
    finally:
        with contextlib.suppress(OSError):
            for part in parts.values():
                part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, atomically; what UTF-8 does not have (odd names), as escapes."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, atomically."""
    write_together({path: content})


def replace(scratch: Path, target: Path) -> None:
    """Rename a file over another once all of it is on the disk."""
    sync(scratch)
    scratch.replace(target)


def sync(path: Path) -> None:
    """Wait until all of a file is on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _sweep(scratch: Path) -> None:
    """Remove what processes that were killed have left behind of this file."""
    stem = glob.escape(scratch.name.removesuffix(f"{os.getpid()}.part"))
    for part in scratch.parent.glob(f"{stem}*.part"):
        process = part.suffixes[-2].removeprefix(".")
        if os.name == "posix" and process.isdecimal() and not _alive(int(process)):
            part.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
