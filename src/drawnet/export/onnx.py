"""ONNX: one file a function, by `torch.onnx.export`, compared with the model in onnxruntime."""

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from drawnet import __version__
from drawnet.errors import UserError
from drawnet.export import scan
from drawnet.export.functions import Function

BATCHES = (1, 2, 5)
"""Numbers of images with which a file is compared with its function."""
LARGEST = 2**31
"""Bytes of a file: the format's limit."""


def require() -> None:
    """Raise UserError unless the packages of the extra are there."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as why:
        raise UserError("ONNX needs an extra: pip install 'drawnet[export]'") from why


def convert(functions: Sequence[Function], metadata: Mapping[str, Any]) -> dict[str, bytes]:
    """Return functions as ONNX files by name, metadata as JSON under the key drawnet; or UserError.

    The batch is an axis of any size; all else is fixed.
    """
    require()
    by_name = {f.name: f for f in functions}
    graphs = {
        name: graph(f) for name, f in by_name.items() if (name, len(by_name)) != ("picture", 4)
    }
    if "step" in graphs:
        model: Any = functions[0].model
        graphs["picture"] = scan.picture(
            graphs["start"], graphs["step"], model.steps, model.classes
        )
    for name, proto in graphs.items():
        proto.producer_name, proto.producer_version = "drawnet", __version__
        about = proto.metadata_props.add()
        about.key = "drawnet"
        about.value = json.dumps({**metadata, **by_name[name].signature()})
    return {name: graphs[name].SerializeToString() for name in by_name}


def graph(function: Function) -> Any:
    """Return a function as onnx.ModelProto; UserError if it cannot become ONNX."""
    if sum(p.numel() * p.element_size() for p in function.parameters()) >= LARGEST:
        raise UserError("an ONNX file holds less than 2 GiB of weights")
    batch = torch.export.Dim("B", min=1)
    shapes = tuple({function.batch_axis(name): batch} for name in function.inputs)
    try:
        with torch.no_grad(), quiet():
            program = torch.onnx.export(
                function,
                tuple(function.inputs.values()),
                input_names=list(function.inputs),
                output_names=list(function.outputs),
                dynamic_shapes=(shapes,),
                dynamo=True,
                verbose=False,
            )
    except (torch.onnx.OnnxExporterError, RuntimeError) as why:
        raise UserError(f"{function.name} cannot become ONNX: {_reason(why)}") from why
    assert program is not None
    return program.model_proto


def _reason(why: BaseException) -> str:
    """The first line of the innermost cause."""
    while why.__cause__ is not None:
        why = why.__cause__
    return f"{type(why).__name__}: {str(why).strip().partition(chr(10))[0]}"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep to themselves what exporters say of their own insides."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


@torch.no_grad()
def difference(content: bytes, function: Function) -> float:
    """Return the largest absolute difference between a file and its function, over some batches."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    worst = 0.0
    for batch in BATCHES:
        inputs = function.examples(batch)
        found = session.run(list(function.outputs), {k: v.numpy() for k, v in inputs.items()})
        wanted = function(*inputs.values())
        for ours, theirs in zip(map(torch.from_numpy, found), wanted, strict=True):
            worst = max(worst, distance(ours, theirs))
    return worst


@torch.no_grad()
def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest absolute difference; infinite for other shapes or numbers that are not finite."""
    if a.shape != b.shape:
        return float("inf")
    off = float((a - b).abs().max()) if a.numel() else 0.0
    return off if off == off else float("inf")
