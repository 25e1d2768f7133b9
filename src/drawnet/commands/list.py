"""What there is: models, data sets, recipes."""

from collections.abc import Sequence

from drawnet import listing
from drawnet.commands._shared import print_table
from drawnet.errors import UserError


def main(arguments: Sequence[str]) -> None:
    if arguments:
        raise UserError("drawnet list takes no options")
    print("models")
    print_table(listing.models())
    if bundled := listing.weights():
        print("\ntrained models, by name wherever a RUN is asked for")
        print_table({name: str(path) for name, path in bundled.items()})
    print("\ndata sets (or the path of a folder or file of images)")
    print_table({name: listing.title(tree) for name, tree in listing.files("data").items()})
    print("\nrecipes")
    print_table({name: title for name, (_, title) in listing.recipes().items()})
