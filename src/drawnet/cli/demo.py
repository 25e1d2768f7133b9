"""Watch models draw, in the browser."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from drawnet.cli._shared import Device, outputs, parse, suffix
from drawnet.errors import UserError

GROUP, WORDS = "pictures", "[RUN…]"


@dataclass(frozen=True)
class Demo:
    """Serve a page on this machine's loopback address on which models draw (extra: demo).

    With --export the page is one file instead, which needs no server."""

    run: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Run folders, .safetensors files or names; default: all bundled weights."""
    host: str = "127.0.0.1"
    """The address to listen on; any other than a loopback address opens the page to others."""
    port: int = 8765
    """Port to listen on; 0: any free one."""
    no_open: bool = False
    """Do not open a browser."""
    device: Device = "auto"
    export: Path | None = None
    """Serve nothing: write the page as one file that computes by itself (.html), of DRAW models."""


def main(arguments: Sequence[str]) -> None:
    command = parse(Demo, "demo", arguments)
    if command.export:
        suffix(command.export, [".html"])
        outputs(command.export, models=command.run)
        from drawnet.demo import export

        export.write(command.run, command.export)
        print(command.export)
        return
    if not 0 <= command.port <= 65535:
        raise UserError(f"--port must be from 0 to 65535, not {command.port}")
    if not command.host:
        raise UserError("--host is empty: name an address, 127.0.0.1 for this machine alone")
    from drawnet.demo import server

    show = not command.no_open
    server.serve(command.run, command.host, command.port, show=show, device=command.device)
