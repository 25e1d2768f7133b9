"""Watch models draw, in the browser."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from drawnet.cli._shared import parse


@dataclass(frozen=True)
class Demo:
    """Watch models draw, in the browser: a page on this machine's own address (extra: demo)."""

    run: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Run folders, .safetensors files or names; all weights that come with drawnet if left out."""
    host: str = "127.0.0.1"
    """The address to listen on; any other than a loopback address opens the page to others."""
    port: int = 8765
    """0 takes any free one."""
    no_open: bool = False
    """Open no browser."""


def main(arguments: Sequence[str]) -> None:
    command = parse(Demo, "demo", arguments)
    from drawnet.demo import server

    server.serve(command.run, command.host, command.port, show=not command.no_open)
