"""The documentation site (Sphinx, MyST, furo): `make docs` builds it strictly into out/site.

Nothing is fetched while it is built or read: equations become MathML, which browsers set
themselves, and the source that pages point to is part of the site.
"""

import contextlib
import inspect
import io
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pygments
from docutils import nodes
from latex2mathml.converter import convert
from pygments.formatters import HtmlFormatter
from pygments.lexers import CLexer, PythonLexer
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "drawnet"
sys.path.insert(0, str(PACKAGE.parent))
os.environ |= {"COLUMNS": "92", "NO_COLOR": "1"}  # of the help texts

import drawnet  # noqa: E402
from drawnet import cli  # noqa: E402

project = "drawnet"
author = "the drawnet developers"
copyright = author
version = release = drawnet.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.linkcode"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
myst_url_schemes = {
    "http": None,
    "https": None,
    "source": {"url": "source/{{path}}.html#{{fragment}}"},
}
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 120
highlight_language = "sh"  # of indented blocks

smartquotes = False

html_theme = "furo"
html_title = f"drawnet {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_theme_options = {"navigation_with_keys": True, "top_of_page_buttons": []}
pygments_style, pygments_dark_style = "tango", "github-dark"


# ---- equations ----------------------------------------------------------------------------------


def visit_math(translator: Any, node: nodes.math) -> None:
    translator.body.append(convert(node.astext()))
    raise nodes.SkipNode


def visit_math_block(translator: Any, node: nodes.math_block) -> None:
    """An equation; its label, if any, is the paper's number."""
    mathml = convert(node.astext(), display="block")
    number = f'<span class="number">({node["label"]})</span>' if node.get("label") else ""
    translator.body.append(f'<div class="equation">{mathml}{number}</div>\n')
    raise nodes.SkipNode


# ---- the source as pages, and links to its lines ------------------------------------------------


def point_to_source(app: Sphinx, page: str, text: list[str]) -> None:
    """Links to ../src/drawnet/…#L12, which the repository serves, point to the site's own pages."""
    text[0] = re.sub(r"\]\(\.\./src/drawnet/([\w/.]+)#L(\d+)\)", r"](source:\1#L-\2)", text[0])
    if page == "ablation/table":  # as `drawnet ablate` writes it, without a title
        text[0] = f"# Ablation study: all variants\n\n{text[0]}"


def source_pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    for path in sorted(PACKAGE.rglob("*.[pch]*")):
        if path.suffix in (".py", ".c", ".h"):
            lexer = PythonLexer() if path.suffix == ".py" else CLexer()
            text = path.read_text(encoding="utf-8")
            body = pygments.highlight(text, lexer, HtmlFormatter(linespans="L"))
            name = path.relative_to(PACKAGE).as_posix()
            title = f"<h1>src/drawnet/{name}</h1>"
            page = {"title": name, "body": f'{title}<div class="source">{body}</div>'}
            yield f"source/{name}", page, "page.html"


def linkcode_resolve(domain: str, names: dict[str, str]) -> str | None:
    """Where the source of a documented object stands on the site; None for plain values."""
    try:
        thing: Any = sys.modules[names["module"]]
        for name in names["fullname"].split("."):
            thing = getattr(thing, name)
        thing = inspect.unwrap(thing.fget if isinstance(thing, property) else thing)
        path = Path(inspect.getsourcefile(thing) or "").relative_to(PACKAGE)
        return f"source/{path.as_posix()}.html#L-{inspect.getsourcelines(thing)[1]}"
    except (AttributeError, TypeError, ValueError, OSError):
        return None


# ---- docstrings ---------------------------------------------------------------------------------


def docstring(
    app: Sphinx, kind: str, name: str, thing: Any, options: Any, lines: list[str]
) -> None:
    """This project's docstrings as reStructuredText: `code`, indented blocks, 'name  meaning' lists."""
    blocks = re.split(r"\n(?:[ \t]*\n)+", "\n".join(lines).strip("\n"))
    lines[:] = "\n\n".join(map(restructured, blocks)).splitlines()


def restructured(block: str) -> str:
    """One paragraph, list or drawing of a docstring."""
    rows = block.splitlines()
    if not block or block.startswith((".. ", "::")):
        return block
    if all(row.startswith(" ") for row in rows):
        return ".. code-block:: text\n\n" + block
    if all(re.match(r"\S+(?:, \S+)*  +\S|  ", row) for row in rows):  # name  meaning
        return "\n".join(
            f":{escaped(m[1])}: {escaped(m[2])}"
            if (m := re.match(r"(\S+(?:, \S+)*)  +(\S.*)", row))
            else f"    {escaped(row.strip())}"
            for row in rows
        )
    if rows[0].startswith(("* ", "- ")):
        return "\n".join(row[:2] + escaped(row[2:]) for row in rows)
    return "\n".join(escaped(row.strip()) for row in rows)


def escaped(text: str) -> str:
    """Code between backticks as reStructuredText's, the rest without its markup."""
    parts = re.split(r"`([^`]+)`", text)
    return "".join(
        f"``{part}``" if k % 2 else re.sub(r"([*_|\\`])", r"\\\1", part)
        for k, part in enumerate(parts)
    )


# ---- help texts ---------------------------------------------------------------------------------


class HelpText(SphinxDirective):
    """What `drawnet ARGUMENTS --help` prints, in place."""

    required_arguments, final_argument_whitespace = 1, True

    def run(self) -> list[nodes.Node]:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            words = self.arguments[0].split()
            cli.main([*words[1:], "--help"])
        text = printed.getvalue().rstrip() + "\n"
        return [nodes.literal_block(text, text, language="text", classes=["help"])]


# ---- the demo page ------------------------------------------------------------------------------


def demo_page(app: Sphinx, failed: Exception | None) -> None:
    """Write the page that the first page shows: `drawnet demo --export`."""
    if failed is None and app.builder.format == "html":
        with contextlib.redirect_stdout(io.StringIO()):
            cli.main(["demo", "--export", str(Path(app.outdir) / "draw.html")])


def setup(app: Sphinx) -> None:
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    app.add_directive("help-text", HelpText)
    app.connect("source-read", point_to_source)
    app.connect("html-collect-pages", source_pages)
    app.connect("autodoc-process-docstring", docstring)
    app.connect("build-finished", demo_page)
