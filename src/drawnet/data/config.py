"""Which images a run uses, and how they are preprocessed: saved with the weights."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from drawnet.data import Dataset


@dataclass(frozen=True)
class Data:
    """Which images, and how their intensities become the values that the model sees."""

    name: str = "digits"
    """A data set's name (`drawnet list`), or a folder or file of images."""
    binarise: Literal["no", "static", "dynamic"] = "no"
    """no: intensities as they are; dynamic: a new Bernoulli sample of every intensity each time an
    image is used; static: one fixed Bernoulli sample (not the published static binarisation, which is
    the data set binarized_mnist)."""
    size: int = 0
    """Side in pixels to which images of a folder are resized; 0: the data set's own."""
    grey: bool = False
    """Whether images of a folder are converted to grey."""
    options: dict[str, str] = field(default_factory=dict)
    """Further options of the data set's `load`, as names and values: which frey."""

    def load(self, data_dir: Path | None = None) -> "Dataset":
        """Load the data set with these options; data_dir: the folder of its files."""
        from drawnet import data

        taken: dict[str, Any] = {k: getattr(self, k) for k in ("size", "grey") if getattr(self, k)}
        return data.load(self.name, data_dir, **taken | self.parse_options())

    def parse_options(self) -> dict[str, Any]:
        """Return the options as `load` takes them, with integers and booleans parsed."""
        words: dict[str, Any] = {"true": True, "false": False}
        return {k: int(v) if v.isdecimal() else words.get(v, v) for k, v in self.options.items()}
