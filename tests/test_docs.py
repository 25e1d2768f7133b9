"""What the documents say is so: equations stand where the page says, commands exist, examples run."""

import re
import runpy
import shlex
from pathlib import Path

import pytest

from drawnet import cli, data, recipes
from drawnet.cli._shared import parse

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_equations_page_is_current_and_whole():
    page = runpy.run_path(str(ROOT / "docs" / "equations.py"))["page"]()
    assert (ROOT / "docs" / "equations.md").read_text(encoding="utf-8") == page
    for line in re.findall(r"^\| \(\d+\).*$", page, re.M):
        assert ".py:" in line, f"no line of code says it is equation {line}"


def commands(text):
    """Lines of indented blocks that call drawnet, comments taken off."""
    return [line.split("#")[0].strip() for line in re.findall(r"^    (drawnet .*)$", text, re.M)]


@pytest.mark.parametrize("line", commands(README))
def test_a_command_of_the_readme_parses(line):
    _, name, *words = shlex.split(line)
    module = cli.command(name)
    if name in ("train", "ablate") and words:
        job = recipes.get(words[0])
        kind = vars(module)[name.capitalize()]
        parse(kind[type(job.model)], name, words[1:], default=kind(job))
    elif words:
        parse(vars(module)[name.capitalize()], name, words)


def test_readme_names_every_recipe():
    for name in recipes.names():
        assert f"`{name}`" in README


def test_readme_names_every_data_set():
    for name in data.names():
        assert f"`{name}`" in README or name == "images"


def test_the_documents_have_no_gaps():
    for path in [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")]:
        text = path.read_text(encoding="utf-8")
        assert "@" not in re.sub(r"`[^`]*`", "", text), path
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
            assert (path.parent / target).exists(), f"{path.name} points to {target}"
