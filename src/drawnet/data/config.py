"""Which images a run sees, and how: kept with the weights."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from drawnet.data import Dataset


@dataclass(frozen=True)
class Data:
    """Which images, and how grey levels become the values that the model sees."""

    name: str = "digits"
    """A data set's name (`drawnet list`), or a folder or file of images."""
    binarise: Literal["no", "static", "dynamic"] = "no"
    """no: levels as they are; dynamic: a Bernoulli draw of every intensity each time an image is
    seen; static: one such draw for good (not the published static binarisation: that is the data
    set binarized_mnist)."""
    size: int = 0
    """Side to which pictures of a folder are brought; 0: the data set's own."""
    grey: bool = False
    """Whether pictures of a folder are made grey."""
    options: dict[str, str] = field(default_factory=dict)
    """What else the data set's `load` takes, name and value in turn: which frey."""

    def load(self, data_dir: Path | None = None) -> "Dataset":
        """The data set, with the options that it takes; data_dir: where its files lie."""
        from drawnet import data

        taken: dict[str, Any] = {k: getattr(self, k) for k in ("size", "grey") if getattr(self, k)}
        return data.load(self.name, data_dir, **taken | self.parse_options())

    def parse_options(self) -> dict[str, Any]:
        """The options as `load` takes them: numbers and truths, not words, where they are such."""
        words: dict[str, Any] = {"true": True, "false": False}
        return {k: int(v) if v.isdecimal() else words.get(v, v) for k, v in self.options.items()}
