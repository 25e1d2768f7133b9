"""`python -m fuzz`: every kind in a process of its own, two at a time, and the figures."""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fuzz import commands, models, pictures  # noqa: F401  they register their kinds
from fuzz.harness import KINDS, Figures, read, run

MEMORY = 6 << 30
"""Bytes that a case may take."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", help="default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=290, help="of all kinds together")
    parser.add_argument("--share", type=float, default=1.0, help="share of each kind's cases")
    parser.add_argument("--shown", type=int, default=5, help="faults of a kind that are printed")
    parser.add_argument("--cases", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--in", dest="root", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.root:  # a process of its own
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        for name in args.kinds:
            run(name, args.root / name, args.seed, args.cases, args.seconds)
        return
    start, total = time.monotonic(), Figures("together")
    names = sorted(args.kinds or KINDS, key=lambda name: -KINDS[name].cases)

    def one(name: str) -> Figures:
        left = args.seconds - (time.monotonic() - start)
        cases = max(1, round(args.share * KINDS[name].cases))
        return run_apart([name], args.seed, cases, left)[0]

    print(f"{'':24}  cases  refused  accepted  at fault", flush=True)
    with ThreadPoolExecutor(2) as pool:
        for figures in pool.map(one, names):
            show(figures, args.shown)
            total.cases += figures.cases
            total.counts += figures.counts
    show(total, 0)
    print(f"seed {args.seed}, {time.monotonic() - start:.0f} seconds")
    sys.exit(1 if total.counts["at fault"] else 0)


def run_apart(names: list[str], seed: int, cases: int, seconds: float) -> list[Figures]:
    """Run kinds in a process of their own, whose crash is a fault like others."""
    root, end = Path(tempfile.mkdtemp(prefix="fuzz-")), ""
    words = ["--in", root, "--seed", seed, "--cases", cases, "--seconds", max(1.0, seconds)]
    tests = Path(__file__).parents[1]
    ours = [str(tests), str(tests.parent / "tools"), os.environ.get("PYTHONPATH", "")]
    try:
        with (root / "log.txt").open("wb") as log:
            done = subprocess.run(
                [sys.executable, "-m", "fuzz", *names, *map(str, words)], stdout=log, stderr=log,
                timeout=seconds + 60, env=os.environ | {"PYTHONPATH": os.pathsep.join(ours)},
            )  # fmt: skip
        if done.returncode:
            said = (root / "log.txt").read_text(errors="replace").strip()[-1500:]
            end = f"the process ended with {done.returncode}: {said}"
    except subprocess.TimeoutExpired:
        end = "the process did not end"
    found = [read(root / name, name) for name in names]
    if end:
        last = [k for k, name in enumerate(names) if (root / name).exists()][-1:] or [0]
        case = root / names[last[0]] / "case.txt"
        text = case.read_text(errors="replace") if case.exists() else ""
        found[last[0]].add("at fault", end, text)
    shutil.rmtree(root, ignore_errors=True)
    return found


def show(figures: Figures, shown: int) -> None:
    counts = [figures.counts[k] for k in ("refused", "accepted", "at fault")]
    row = f"{figures.name:24}  {figures.cases:5}  {counts[0]:7}  {counts[1]:8}  {counts[2]:8}"
    print(row, flush=True)
    ordered = sorted(figures.faults.items(), key=lambda pair: -len(pair[1]))
    for fault, cases in ordered[:shown]:
        print(f"    {len(cases)} × {fault}\n        {cases[0]}", flush=True)


if __name__ == "__main__":
    main()
