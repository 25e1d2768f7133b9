"""Run the tests' short form on every interpreter at hand, with the oldest and the newest torch declared.

    python tools/versions.py [--folder out/versions] [--python 3.12 3.13] [--torch oldest newest 2.9.1]

makes a virtual environment for each pair in the folder, installs the package as pyproject.toml
declares it, and runs the files of SHORT.  A pair for which the index has no torch is named and left
out.  With pyenv, PYENV_VERSION=3.12.1:3.13.0 puts interpreters at hand.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
SHORT = ("test_golden.py", "test_machines.py", "nn", "kernels", "training", "drawing", "errors")
"""Of tests/: the numbers, the engine, training and its files, the schema, pictures."""
EXTRAS = ("pytest", "hypothesis")


def declared() -> str:
    """Return the oldest torch that pyproject.toml allows."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (found,) = [d for d in tomllib.loads(text)["project"]["dependencies"] if d.startswith("torch")]
    return re.sub(r"^torch>=", "", found)


def interpreters(asked: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the versions at hand, and their programs."""
    for version in asked:
        program = shutil.which(f"python{version}")
        answer = (
            program
            and subprocess.run(
                [program, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
                capture_output=True,
                text=True,
            ).stdout.strip()
        )
        if program and answer == version:
            yield version, program
        else:
            print(f"Python {version}: not at hand", flush=True)


def install(python: Path, torch: str) -> bool:
    """Install torch, drawnet and what the tests need; return whether the index has that torch."""
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    wanted = {"oldest": f"torch~={declared()}.0", "newest": f"torch>={declared()}"}
    named = wanted.get(torch, f"torch=={torch}")
    if subprocess.run([*pip, named], capture_output=True).returncode:
        return False
    subprocess.run([*pip, "-e", f"{ROOT}[data,demo,plots]", *EXTRAS], check=True)
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=ROOT / "out" / "versions")
    parser.add_argument("--python", nargs="+", default=list(PYTHONS))
    parser.add_argument("--torch", nargs="+", default=["oldest", "newest"])
    asked = parser.parse_args()
    failed = 0
    for version, program in interpreters(asked.python):
        for torch in asked.torch:
            place = asked.folder / f"python{version}-torch-{torch}"
            python = place / ("Scripts" if sys.platform == "win32" else "bin") / "python"
            if not python.exists():
                subprocess.run([program, "-m", "venv", str(place)], check=True)
            if not install(python, torch):
                print(f"Python {version}: the index has no torch {torch} for it", flush=True)
                continue
            code = "import torch; print(torch.__version__)"
            found = subprocess.run([str(python), "-c", code], capture_output=True, text=True)
            print(f"Python {version}, torch {found.stdout.strip()}", flush=True)
            tests = [str(ROOT / "tests" / name) for name in SHORT]
            command = [str(python), "-m", "pytest", "-q", "-m", "not slow", *tests]
            failed += bool(subprocess.run(command, cwd=ROOT).returncode)
    sys.exit(failed)


if __name__ == "__main__":
    main()
