"""The code, the documents and the help texts use the field's words: the retired ones do not return."""

import ast
import re
from pathlib import Path

import pytest

from drawnet import cli, recipes
from drawnet.cli import catalogue

ROOT = Path(__file__).parents[1]
CODE = sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "tools").rglob("*.py")])
TEXTS = sorted(
    path
    for path in [*(ROOT / "src").rglob("*"), *(ROOT / "tools").rglob("*.py")]
    if path.suffix in (".py", ".c", ".h", ".html", ".js")
)
TEXTS += [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

RETIRED = {
    "told", "Learner", "Bounded", "Classifies", "Sampler", "How", "Draws", "Costs", "Objective",
    "player", "players", "criterion", "settle", "turn", "chief", "seen", "Made", "evenly", "given",
    "heard_alike", "halves", "halvings", "deep", "Rows", "Unroll", "Forget", "Squeeze", "Stretch",
    "emit", "ink", "places", "sheet", "film", "beside", "judge", "described", "spoil", "spoiled",
    "drawer",
}  # fmt: skip
"""Names that no definition bears; `row` (of a table) and `window` (of the paper) are ordinary words."""
RETIRED_FUNCTIONS = {
    "go", "look", "see", "begin", "kept", "noise", "finished", "reader", "prepare", "claimed",
    "spread",
}  # fmt: skip
"""Names that no function or class bears; values may: the noise, the claimed bound, the spread."""

WORDS = ("told", "so-manieth")
SENTENCES = (
    "every so-manieth step's state",
    "told in p's units",
    "what is to be expected next",
    "hears of its own logits",
    "An image's number says all of it",
    "it is none",
    "Who takes a step on every batch",
    "how far each filter reaches beyond",
    "what is none of its doing",
    "from what a chair is, whence it is seen",
)
HELP_WORDS = (
    *WORDS, "learner", "criterion", "player", "players", "halving", "halvings", "chief", "spoiled",
    "film", "films", "sheet", "sheets", "beside", "judge", "judges", "judged", "hears", "heard",
    "whence", "anew",
)  # fmt: skip


def definitions(tree):
    """(line, name, whether it is a function or class) of all that a file defines, but for locals."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name, True
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg, False
        elif isinstance(node, ast.alias):
            yield node.lineno, node.asname or "", True
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr, False
        if isinstance(node, ast.Module | ast.ClassDef):  # module-level names, fields of classes
            for part in node.body:
                if isinstance(part, ast.Assign | ast.AnnAssign):
                    targets = part.targets if isinstance(part, ast.Assign) else [part.target]
                    names = (n for target in targets for n in ast.walk(target))
                    yield from (
                        (part.lineno, n.id, False) for n in names if isinstance(n, ast.Name)
                    )


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_definition_bears_a_retired_name(path):
    found = [
        f"line {line}: {name}"
        for line, name, function in definitions(ast.parse(path.read_text(encoding="utf-8")))
        if name in RETIRED or (function and name in RETIRED_FUNCTIONS)
    ]
    assert not found


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_text_has_a_retired_word_or_sentence(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    found = [f"line {k}: {word}" for k, line in enumerate(lines, 1) for word in words(line, WORDS)]
    text = re.sub(r"[\s#*/]+", " ", "\n".join(lines))  # as it reads across the lines of a comment
    assert not found + [sentence for sentence in SENTENCES if sentence.lower() in text.lower()]


def words(text, retired):
    return [word for word in retired if re.search(rf"\b{word}\b", text, re.I)]


def helps():
    """The arguments of every help text: one recipe of each model for `train`, one for `ablate`."""
    kinds = {type(recipes.get(name).model): name for name in recipes.names()}
    named = [command for command in catalogue.commands() if command not in ("train", "ablate")]
    yield from ([command, "--help"] for command in named)
    yield from (["train", name, "--help"] for name in kinds.values())
    yield from ([], ["list"], ["train"], ["ablate"], ["ablate", "mnist", "--help"])


@pytest.mark.parametrize("arguments", list(helps()), ids=" ".join)
def test_no_help_text_has_a_retired_word(arguments, capsys):
    try:
        cli.main(arguments)
    except SystemExit as end:
        assert not end.code
    text = capsys.readouterr().out
    assert text and not words(text, HELP_WORDS)


@pytest.mark.parametrize("tool", ["record", "results"])
def test_no_help_text_of_a_tool_has_a_retired_word(tool, capsys):
    module = __import__(tool)
    with pytest.raises(SystemExit):
        module.main(["--help"])
    text = capsys.readouterr().out
    assert text and not words(text, HELP_WORDS)


def test_the_scan_finds_what_it_is_for():
    source = (
        "told = 1\nclass A:\n    ink: int\n    def see(self, given):\n        self.film = row = 2\n"
    )
    found = {name for _, name, _ in definitions(ast.parse(source + "from a import b as go\n"))}
    assert found >= {"told", "ink", "see", "given", "film", "go"} and "row" not in found
    assert words("It is told, so-manieth.", WORDS) == list(WORDS) and not words("untold", WORDS)
    assert not words("the sheets", ("sheet",))
