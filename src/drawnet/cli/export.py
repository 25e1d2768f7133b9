"""Export a model as ONNX or TorchScript."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from drawnet.cli._shared import outputs, parse, suffix

GROUP, WORDS = "publish", "RUN"


@dataclass(frozen=True)
class Export:
    """Export a model's functions, with any number of images at a time, for programs without drawnet.

    picture: noise (and label) to image.  start, step and encode: one step of drawing and of reading.
    Every file is compared with the model before it takes its place (float32, to 1e-4).
    """

    run: tyro.conf.Positional[Path]
    """A run folder, a .safetensors file or the name of bundled weights."""
    to: Literal["onnx", "torchscript"] = "onnx"
    """ONNX, one file a function (extra: export); or TorchScript, one file with a method each."""
    out: Path | None = None
    """The file (default: model.onnx, model.pt); ONNX's others are named after it: model.step.onnx."""
    licence: str = ""
    """Licence of the weights, for the file's metadata (default: none stated; of bundled weights MIT)."""


def main(arguments: Sequence[str]) -> None:
    command = parse(Export, "export", arguments)
    from drawnet import export
    from drawnet.export import onnx

    kind = export.SUFFIXES[command.to]
    out = command.out or Path(f"model{kind}")
    suffix(out, [kind])
    outputs(out, models=[command.run])
    if command.to == "onnx":
        onnx.require()
    written = export.export(command.run, command.to, out, licence=command.licence)
    for path, functions, difference in written:
        print(f"{path}  {', '.join(functions)}: largest difference {difference:.1e}")
