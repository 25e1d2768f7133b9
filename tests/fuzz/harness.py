"""What every kind of case shares: a folder of its own, commands in this process, and the verdict."""

import contextlib
import io
import json
import math
import os
import re
import shutil
import signal
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from drawnet import cli

OURS = {"src", "tools"}
"""Folders in which an exception is drawnet's."""
PATIENCE = 20.0
"""Seconds after which a case counts as waiting without end."""


class Fault(Exception):
    """What a case must not end in."""


class Stopped(BaseException):
    """The end of a case that would go on for long, and rightly."""


class _Late(BaseException):
    pass


@dataclass
class Kind:
    """cases: how many a whole run has; run: a function of (data, box) -> 'refused' or 'accepted'."""

    name: str
    cases: int
    run: Callable[[st.DataObject, "Box"], str]
    prepare: Callable[["Box"], None] | None = None


KINDS: dict[str, Kind] = {}


def kind(cases: int, prepare: Callable[["Box"], None] | None = None) -> Callable[..., Any]:
    """Register a kind under its function's name."""

    def register(run: Callable[[st.DataObject, "Box"], str]) -> Callable[..., Any]:
        name = run.__name__.replace("_", " ")
        KINDS[name] = Kind(name, cases, run, prepare)
        return run

    return register


@dataclass
class Box:
    """The folder in which a kind's cases run, what was made there once, and what the case is."""

    root: Path
    made: dict[str, Any] = field(default_factory=dict)
    case: str = ""

    @property
    def shared(self) -> Path:
        return self.root / "shared"

    @property
    def here(self) -> Path:
        return self.root / "case"

    def begin(self) -> None:
        os.chdir(self.root)
        shutil.rmtree(self.here, ignore_errors=True)
        self.here.mkdir(parents=True)
        os.chdir(self.here)
        self.note("")

    def note(self, *what: Any) -> None:
        """Say what the case is; kept in a file, should the process crash."""
        self.case = " ".join(map(str, what))[:2000]
        (self.root / "case.txt").write_text(self.case, encoding="utf-8", errors="backslashreplace")


@contextlib.contextmanager
def patient(seconds: float = PATIENCE) -> Iterator[None]:
    """Raise Fault after this time."""

    def late(*_: Any) -> None:
        raise _Late

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except _Late:
        raise Fault(f"waits longer than {seconds:g} seconds") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def there(box: Box) -> set[str]:
    return {str(path.relative_to(box.here)) for path in box.here.rglob("*")}


def command(box: Box, words: list[str], main: Callable[[list[str]], None] = cli.main) -> str:
    """Run a command here, and judge how it ends and what it leaves."""
    before, out, err = there(box), io.StringIO(), io.StringIO()
    status: Any = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            with patient():
                main(words)
        except SystemExit as end:
            status = end.code or 0
        except Stopped:
            return "accepted"
    return judged(box, status, err.getvalue(), before)


def judged(box: Box, status: Any, err: str, before: set[str]) -> str:
    if status == 0:
        if parts := [p.name for p in box.here.rglob(".*.part")]:
            raise Fault(f"left {parts}")
        return "accepted"
    lines = [line.rpartition("\r")[2] for line in err.splitlines() if line.strip()]
    if status != 2 or not lines or not lines[-1].startswith("drawnet: "):
        raise Fault(f"status {status}, said {err[-300:]!r}")
    if not all(line.isprintable() for line in lines) or "Traceback" in err:
        raise Fault(f"said {err[-300:]!r}")
    if left := there(box) - before:
        raise Fault(f"left {sorted(left)[:4]} after {lines[-1][:200]!r}")
    return "refused"


def called(function: Callable[..., Any], *arguments: Any, errors: tuple[type, ...]) -> str:
    """Call a function, which may refuse by these errors."""
    with patient():
        try:
            function(*arguments)
        except errors as why:
            if "\n" in str(why):
                raise Fault(f"not one line: {str(why)[:200]!r}") from why
            return "refused"
    return "accepted"


@dataclass
class Figures:
    """What came of a kind's cases."""

    name: str
    cases: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    faults: dict[str, list[str]] = field(default_factory=dict)
    """Cases by what they ended in."""

    def add(self, outcome: str, fault: str = "", case: str = "") -> None:
        self.cases += 1
        self.counts[outcome] += 1
        if fault:
            self.faults.setdefault(fault, []).append(case)


def run(name: str, root: Path, start: int, cases: int, seconds: float = math.inf) -> Figures:
    """Run so many cases of a kind, or as many as this time allows."""
    chosen, figures, box = KINDS[name], Figures(name), Box(root)
    warnings.simplefilter("ignore")  # of the libraries, about odd input
    box.shared.mkdir(parents=True, exist_ok=True)
    os.chdir(box.root)
    if chosen.prepare:
        chosen.prepare(box)
    end = time.monotonic() + seconds

    @seed(start)
    @settings(
        max_examples=cases, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.data())
    def case(data: st.DataObject) -> None:
        if time.monotonic() > end:
            return
        box.begin()
        try:
            figures.add(chosen.run(data, box))
        except Fault as fault:
            figures.add("at fault", str(fault), box.case)
        except Exception as why:
            if 0 < allocated(why) < memory() // 2:  # a large machine would do it
                figures.add("accepted")
                return
            frames = traceback.extract_tb(why.__traceback__)
            places = [
                f"{Path(f.filename).name}:{f.lineno}"
                for f in frames
                if OURS & {*Path(f.filename).parts}
            ]
            if not places:
                raise  # the fuzzer's own
            fault = f"{type(why).__name__} at {places[-1]}"
            figures.add("at fault", fault, f"{box.case}: {str(why)[:200]}")
        write(box.root / "figures.json", figures)

    case()
    os.chdir(box.root.parent)
    return figures


def allocated(why: Exception) -> int:
    """The bytes that torch did not get, beyond what this process may take."""
    found = re.search(r"tried to allocate (\d+) bytes", str(why))
    return int(found[1]) if found else 0


def memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def write(path: Path, figures: Figures) -> None:
    path.write_text(json.dumps(vars(figures)), encoding="utf-8")


def read(root: Path, name: str) -> Figures:
    """The figures of a kind that ran there."""
    if not (path := root / "figures.json").exists():
        return Figures(name)
    values = json.loads(path.read_text(encoding="utf-8"))
    return Figures(**values | {"counts": Counter(values["counts"])})


# ---- odd values ---------------------------------------------------------------------------------

NUMBERS = [
    0,
    -1,
    1,
    2,
    10**9,
    2**31,
    2**63,
    2**64,
    10**30,
    -(2**63),
    0.5,
    -0.0,
    1e-300,
    1e300,
    1e308,
]
NOT_FINITE = [math.nan, math.inf, -math.inf]
TEXTS = [
    "",
    "x",
    "1",
    "1.5",
    "nan",
    "é",
    "\n",
    "\x00",
    "\ud800",
    "a" * 300,
    "../x",
    "~nosuchuser/x",
]
NESTED: Any = [[], {}, [[]], [1, "x"], {"a": 1}, [None], ["x", 28, 28], {"": {"": []}}, [10**9] * 3]
ODD = st.sampled_from([None, True, False, *NUMBERS, *NOT_FINITE, *TEXTS, *NESTED])
NAMES = [
    "n" * 300, "~nosuchuser/x", "~", "a\nb", "\x1b[31m", "\udcfe", "\udcff.png", "", ".", "..", "/",
    "/dev/zero", "/dev/null", "/dev/full", "/proc/self/environ", "/dev/stdin", "a/" * 3000, "-", "--",
    "x.png/y", "\0", " ", "a b.png", "ü.png", "nowhere/at/all.png", "/nowhere/x.json", "x.part",
]  # fmt: skip
"""Names that are odd, or lead to odd places."""


def places(tree: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in nested lists and tables."""
    yield at
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in items if isinstance(tree, dict | list) else ():
        if isinstance(value, dict | list):
            yield from places(value, (*at, key))
        else:
            yield (*at, key)


def of(tree: Any, at: tuple[Any, ...]) -> Any:
    for key in at:
        tree = tree[key]
    return tree


def mutate(data: st.DataObject, tree: Any, skip: Callable[[tuple[Any, ...]], bool]) -> Any:
    """Return a copy of a tree with one value replaced, dropped or added, and what was done.

    The third: whether what is there now is of another type, which nobody may take for sense.
    """
    tree = json.loads(json.dumps(tree))
    at = data.draw(st.sampled_from([p for p in places(tree) if not skip(p)]))
    what = data.draw(st.sampled_from(["replace"] * 6 + ["drop", "add", "deep"]))
    if what == "deep":
        new: Any = f"@deep {data.draw(st.sampled_from([3, 90, 20_000]))}"
    else:
        new = data.draw(ODD)
    old = of(tree, at)
    if not at:
        return new, f"all = {str(new)[:80]!r}", True
    holder = of(tree, at[:-1])
    if what == "drop":
        del holder[at[-1]]
        return tree, f"drop {at}", False
    if what == "add" and isinstance(old, dict):
        old[data.draw(st.sampled_from(TEXTS))] = new
        return tree, f"add to {at}: {str(new)[:80]!r}", False
    holder[at[-1]] = new
    return tree, f"{at} = {str(new)[:80]!r}", kind_of(old) != kind_of(new) and old is not None


def dumps(tree: Any) -> str:
    """JSON, with lists in lists where `mutate` put some."""
    text = json.dumps(tree)
    return re.sub(r'"@deep (\d+)"', lambda m: "[" * int(m[1]) + "]" * int(m[1]), text)


def kind_of(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return str(type(value))
    return "number" if isinstance(value, int | float) else type(value).__name__


def damage(data: st.DataObject, raw: bytes, first: int = 0) -> bytes:
    """Return bytes with some flipped, cut, doubled or put in, from the first-th on."""
    spoilt = bytearray(raw)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(first, max(first, len(spoilt) - 1)))
        match data.draw(st.sampled_from(["flip"] * 4 + ["cut", "insert", "zero", "repeat"])):
            case "flip" if at < len(spoilt):
                spoilt[at] ^= data.draw(st.integers(1, 255))
            case "cut":
                del spoilt[at:]
            case "insert":
                spoilt[at:at] = data.draw(st.binary(min_size=1, max_size=9))
            case "zero":
                spoilt[at : at + 8] = bytes(min(8, max(0, len(spoilt) - at)))
            case "repeat":
                spoilt[at:at] = spoilt[at : at + 64]
    return bytes(spoilt)
