"""The demo page as one file: models and code within it, no server, no request.

The page's modules (web/) become one script; `local.js`, which computes, takes the place of `net.js`,
which asks the server.
"""

import base64
import hashlib
import html
import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from drawnet.demo import requests
from drawnet.demo.requests import Exhibit
from drawnet.errors import UserError, write_text
from drawnet.models.draw import Draw

WEB = Path(__file__).parent / "web"
INSTEAD = {"net": "local"}
"""Modules of the served page, and those that take their place."""


def exportable(e: Exhibit, path: Path) -> None:
    """Raise UserError unless it is attentive DRAW of binary pixels: draw.js has no more."""
    c = e.network.config
    if type(e.network) is not Draw or not (e.binary and c.read and c.write):
        raise UserError(
            f"{path} cannot be exported: a page computes DRAW with two windows and binary pixels "
            f"alone; `drawnet demo {path}` serves this one"
        )


def write(paths: Sequence[Path], target: Path) -> None:
    """Write the page of these models, of bundled `mnist` if there are none, atomically."""
    exhibits: dict[str, Exhibit] = {}
    for path in paths or [Path("mnist")]:
        e = requests.exhibit(path, list(exhibits))
        exportable(e, path)
        exhibits[e.name] = e
    write_text(target, page(list(exhibits.values())))


def page(exhibits: Sequence[Exhibit]) -> str:
    """Return the HTML of a page with these models."""
    encoded = base64.b64encode((WEB / "icon.svg").read_bytes()).decode()
    icon = f'<link rel="icon" href="data:image/svg+xml;base64,{encoded}">'
    style, code = (WEB / "app.css").read_text(encoding="utf-8"), script("app")
    policy = (
        f"default-src 'none'; script-src '{digest(code)}'; style-src '{digest(style)}'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    text = (WEB / "index.html").read_text(encoding="utf-8")
    for before, after in {
        '<link rel="icon" href="icon.svg">': icon,
        '<link rel="stylesheet" href="app.css">': f"<style>{style}</style>",
        '<script type="module" src="app.js"></script>': f'<script type="module">{code}</script>',
        '<meta charset="utf-8">': '<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        "</body>": "\n".join([*map(element, exhibits), "</body>"]),
    }.items():
        head, found, rest = (
            text.rpartition(before) if before == "</body>" else text.partition(before)
        )
        assert found, f"index.html has no {before}"
        text = head + after + rest
    return text


def digest(text: str) -> str:
    """Return the hash by which a Content-Security-Policy allows an inline script or style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def element(e: Exhibit) -> str:
    """Return a model as an element: its metadata as JSON, its weights in base64."""
    kind, parameters, raw = packed(e.network)
    config = asdict(e.network.config)
    about: dict[str, Any] = e.about | {"config": config, "type": kind, "parameters": parameters}
    attribute = html.escape(json.dumps(about, separators=(",", ":")))
    data = base64.b64encode(raw).decode()
    return f'<script type="text/plain" data-model="{attribute}">{data}</script>'


def packed(network: torch.nn.Module) -> tuple[str, list[tuple[str, int]], bytes]:
    """Return type, names with lengths, and values: bfloat16 where that is exact, else float32."""
    tensors = {name: t.detach().cpu().float() for name, t in network.state_dict().items()}
    values = torch.cat([t.flatten() for t in tensors.values()]).numpy()
    bits = values.astype("<f4").view("<u4")
    exact = not (bits & 0xFFFF).any()
    raw = (bits >> 16).astype("<u2").tobytes() if exact else bits.tobytes()
    lengths = [(name, t.numel()) for name, t in tensors.items()]
    return "bfloat16" if exact else "float32", lengths, raw


# ---- one script of several modules ---------------------------------------------------------------

IMPORT = re.compile(r'^import \{ (.+) \} from "\./(\w+)\.js";$', re.M)
EXPORT = re.compile(r"^export (?=(?:async )?(?:function\*?|class|const) (\w+))", re.M)


def script(entry: str) -> str:
    """Return a module and all that it imports as one script: each a scope, whose exports are a constant.

    Imports and exports are written in one line, as these modules do.
    """
    done: dict[str, str] = {}

    def add(name: str) -> None:
        name = INSTEAD.get(name, name)
        if name in done:
            return
        text = (WEB / f"{name}.js").read_text(encoding="utf-8")
        for match in IMPORT.finditer(text):
            add(match[2])
        names = [match[1] for match in EXPORT.finditer(text)]
        body = EXPORT.sub("", IMPORT.sub(destructured, text))
        done[name] = (
            f"const ${name} = (() => {{\n{body}\nreturn {{ {', '.join(names)} }};\n}})();\n"
        )

    add(entry)
    return "\n".join(done.values())


def destructured(match: re.Match[str]) -> str:
    names = match[1].replace(" as ", ": ")
    return f"const {{ {names} }} = ${INSTEAD.get(match[2], match[2])};"
