"""Download a data set from its official address."""

from collections.abc import Sequence
from dataclasses import dataclass

import tyro

from drawnet.cli._shared import DataDir, parse

GROUP, WORDS = "data", "DATASET"


@dataclass(frozen=True)
class Fetch:
    """Download a data set from its official address, verified and resumable.

    Prints the paths of its files.
    """

    dataset: tyro.conf.Positional[str]
    data_dir: DataDir = None


def main(arguments: Sequence[str]) -> None:
    command = parse(Fetch, "fetch", arguments)
    from drawnet.data.download import fetch as download

    for path in download(command.dataset, command.data_dir):
        print(path)
