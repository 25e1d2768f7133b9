"""Trained models outside drawnet: ONNX, TorchScript, and repositories of the Hugging Face Hub.

`functions.py` says what is exported.  A file takes its place only after it gave, in its own runtime,
what the model gives.
"""

from pathlib import Path
from typing import Literal, NamedTuple

from drawnet.errors import UserError, check_targets, write_together
from drawnet.export import functions, onnx, torchscript
from drawnet.export.about import describe
from drawnet.training import checkpoint

TOLERANCE = 1e-4
"""Largest absolute difference between a file's outputs and the model's, in float32."""
Format = Literal["onnx", "torchscript"]
SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "torchscript": ".pt"}


class Written(NamedTuple):
    """A file that was exported."""

    path: Path
    functions: tuple[str, ...]
    difference: float
    """Largest absolute difference from the model's outputs over batches of 1, 2 and 5 images."""


def export(run: str | Path, to: Format, out: str | Path, *, licence: str = "") -> list[Written]:
    """Export a run's model and return the files, each of which gave what the model gives.

    onnx: `picture` (or `classify`) becomes `out`, NAME.onnx, the others NAME.start.onnx and so on.
    torchscript: `out` is one file whose methods are the functions.
    licence: of the weights; '': MIT for those that come with drawnet, else 'none stated'.
    UserError if the model has nothing to export, or a file would differ by more than `TOLERANCE`.
    """
    run, out = Path(run), Path(out)
    source, saved = checkpoint.located(run), checkpoint.load_model(run, kernels="off")
    found, metadata = functions.functions(saved.network), describe(saved, source, licence)
    names = [f.name for f in found]
    paths = [out]
    if to == "onnx":
        paths += [out.with_suffix(f".{name}.onnx") for name in names[1:]]
    check_targets(*paths, sources=[source])
    if to == "onnx":
        made = list(onnx.convert(found, metadata).values())
        off = [onnx.difference(content, f) for content, f in zip(made, found, strict=True)]
        groups: list[tuple[str, ...]] = [(name,) for name in names]
    else:
        made = [torchscript.convert(found, metadata)]
        off = [torchscript.difference(made[0], found)]
        groups = [tuple(names)]
    written = [Written(*each) for each in zip(paths, groups, off, strict=True)]
    for path, _, difference in written:
        if not difference <= TOLERANCE:
            raise UserError(
                f"{path} would differ from {run} by {difference:.1e}, more than {TOLERANCE:g}: nothing "
                "was written"
            )
    write_together(dict(zip(paths, made, strict=True)))
    return written
