"""Which images a run uses, and how they are preprocessed: saved with the weights."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from drawnet.errors import schema
from drawnet.errors.schema import PathText

if TYPE_CHECKING:
    from drawnet.data import Dataset


def _sides(size: int | tuple[int, int]) -> bool:
    return size == 0 or all(side >= 2 for side in (size if isinstance(size, tuple) else (size,)))


@dataclass(frozen=True)
class Data:
    """Which images, and how their intensities become the values that the model sees."""

    name: PathText = "digits"
    """A data set's name (`drawnet list`), or a folder or file of images."""
    binarise: Literal["no", "static", "dynamic"] = "no"
    """no: intensities as they are; dynamic: a new Bernoulli sample of every intensity each time an
    image is used; static: one fixed Bernoulli sample (not the published static binarisation, which is
    the data set binarized_mnist)."""
    size: Annotated[
        int | tuple[int, int], schema.rule(_sides, "at least 2 in each direction, or 0")
    ] = 0
    """Side to which own images are resized, or height and width (20x40); 0: their own, if it is one."""
    grey: bool = False
    """Whether own images are converted to grey; grey ones have one channel anyway."""
    options: dict[str, PathText] = field(default_factory=dict)
    """Further options of the data set's `load`, as names and values: which frey."""

    def __post_init__(self) -> None:
        schema.check(self, "--data.")

    def load(self, data_dir: Path | None = None) -> "Dataset":
        """Load the data set with these options; data_dir: the folder of its files."""
        from drawnet import data

        taken: dict[str, Any] = {k: getattr(self, k) for k in ("size", "grey") if getattr(self, k)}
        return data.load(self.name, data_dir, **taken | self.parse_options())

    def parse_options(self) -> dict[str, Any]:
        """Return the options as `load` takes them, with integers and booleans parsed."""
        words: dict[str, Any] = {"true": True, "false": False}
        return {k: int(v) if v.isdecimal() else words.get(v, v) for k, v in self.options.items()}
