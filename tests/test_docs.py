"""The documents agree with the code: equations, recipes, commands, links, words."""

import re
import runpy
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import drawnet
from drawnet import cli, data, models, recipes
from drawnet.cli._shared import parse
from drawnet.cli.train import outside_names

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in [
        *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
        *sorted(DOCS.rglob("*.md")),
    ]
}
README = PAGES["README.md"]
RETIRED = [
    r"\btold\b",
    r"so-manieth",
    r"in p's units",
    r"hears of its own logits",
    r"number says all of it",
    r"\bit is none\b",
    r"Who takes a step",
    r"none of its doing",
    r"whence it is seen",
]
"""Words and sentences that stand in no document."""


def generated(name):
    return runpy.run_path(str(DOCS / f"{name}.py"))["page"]()


def test_the_equations_page_is_current_and_whole():
    page = generated("equations")
    assert PAGES["docs/equations.md"] == page
    for line in re.findall(r"^\| \(\d+\).*$", page, re.M):
        assert ".py:" in line, f"no line of code says it is equation {line}"


def test_the_recipes_page_is_current():
    assert PAGES["docs/recipes.md"] == generated("recipes")


def test_figures_outside_the_recipes_page_are_that_page_s():
    for name in ("README.md", "docs/index.md", "docs/first-hour.md"):
        text = " ".join(PAGES[name].split())
        found = re.findall(r"[\d.]+ ± [\d.]+ nats per image \(bound, [\d,]+ test images\)", text)
        assert found, name
        for figure in found:
            assert figure in PAGES["docs/recipes.md"], f"{name}: {figure}"
    for row in re.findall(r"^\| `.*$", README, re.M):
        assert row in PAGES["docs/recipes.md"].splitlines(), row


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 120


def commands(program):
    """Calls of a program in indented and fenced blocks, comments taken off: page and words."""
    found = []
    for name, text in PAGES.items():
        joined = re.sub(r" \\\n\s*", " ", text)
        lines = re.findall(rf"^(?: {{4}})?({program} .*)$", joined, re.M)
        found += [(name, shlex.split(line, comments=True)[1:]) for line in lines]
    return found


@pytest.mark.parametrize(("page", "words"), commands("drawnet"))
def test_a_command_of_the_documents_parses(page, words, monkeypatch):
    monkeypatch.chdir(ROOT)  # some name files of the examples
    name, *words = words[2:] if words[0] == "--import" else words
    module = cli.command(name)
    if name in ("train", "ablate") and words:
        job = recipes.get(words[0])
        model, rest = outside_names(words[1:]) if name == "train" else ("", words[1:])
        job = replace(job, model=models.use(model)()) if model else job
        kind = vars(module)[name.capitalize()]
        parse(kind[type(job.model)], name, rest, default=kind(job))
    elif words:
        parse(vars(module)[name.capitalize()], name, words)


def test_the_page_of_the_api_runs(tmp_path):
    """All blocks in turn, in one process and an empty folder, with the examples beside it."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", PAGES["docs/api.md"], re.M | re.S))
    (tmp_path / "page.py").write_text(code, encoding="utf-8")
    words = [sys.executable, "-W", "error", "page.py"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_page_of_the_api_names_what_is_public():
    page = PAGES["docs/api.md"]
    for name in ("load", "fit", "as_dataset", "as_images", "View", "evaluate", "bound", "generate"):
        assert f"drawnet.{name}" in page and name in drawnet.__all__
    methods = re.findall(r"^\| `(\w+)\(", page, re.M)
    assert len(methods) == 7 and all(hasattr(drawnet.StepModel, name) for name in methods)


def test_scripts_and_targets_of_the_documents_exist():
    for page, words in commands("python"):
        assert (ROOT / words[0]).exists(), f"{page} calls {words[0]}"
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    for page, words in commands("make"):
        assert words[0] in targets, f"{page} calls make {words[0]}"


def test_the_site_names_every_recipe_and_every_data_set():
    site = "".join(text for name, text in PAGES.items() if name.startswith("docs/"))
    for name in [*recipes.names(), *data.names()]:
        assert f"`{name}`" in site, name


def test_links_resolve():
    for name, text in PAGES.items():
        prose = re.sub(r"^```python.*?^```", "", text, flags=re.M | re.S)
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", prose):
            assert (ROOT / name).parent.joinpath(target).exists(), f"{name} points to {target}"


def test_no_retired_word_is_left():
    scripts = {path.name: path.read_text(encoding="utf-8") for path in DOCS.glob("*.py")}
    for name, text in (PAGES | scripts).items():
        for word in RETIRED:
            assert not re.search(word, text, re.I), f"{name}: {word}"


def test_the_documents_have_no_gaps():
    for name, text in PAGES.items():
        assert "@" not in re.sub(r"`[^`]*`", "", text), name


def test_an_entry_of_the_log_begins_with_its_verdict():
    entries = re.findall(r"^#{2,3} (.*)\n\n(.*)$", PAGES["docs/log.md"], re.M)
    assert len(entries) > 30
    for title, first in entries:
        assert re.fullmatch(r"\*\*(Kept|Rejected|Measured|Inconclusive|Fixed): .*\*\*", first), (
            title
        )


def test_the_version_is_one():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {drawnet.__version__}\n" in citation
    assert f'\nversion = "{drawnet.__version__}"\n' in (ROOT / "pyproject.toml").read_text()
    assert f"\n## {drawnet.__version__}" in PAGES["CHANGELOG.md"]
