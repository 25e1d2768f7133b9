"""List models, trained models, data sets and recipes."""

from collections.abc import Sequence

from drawnet import weights
from drawnet.cli import catalogue
from drawnet.cli._shared import print_table
from drawnet.errors import UserError

GROUP, WORDS = "data", ""


def main(arguments: Sequence[str]) -> None:
    if list(arguments) in (["-h"], ["--help"]):
        print(
            "usage: drawnet list\n\nPrint the names of models, trained models, data sets and recipes."
        )
        return
    if arguments:
        raise UserError("drawnet list takes no options")
    print("models")
    print_table(catalogue.model_titles())
    if bundled := weights.bundled():
        print("\ntrained models, whose names serve as RUN")
        print_table({name: str(path) for name, path in bundled.items()})
    print("\ndata sets (or the path of a folder or file of images)")
    print_table(catalogue.data_titles())
    print("\nrecipes")
    print_table(catalogue.recipe_titles())
