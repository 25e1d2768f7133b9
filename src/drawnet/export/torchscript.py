"""TorchScript: one file with a method a function, for programs with libtorch and without Python."""

import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from drawnet.errors import UserError
from drawnet.export.functions import Function
from drawnet.export.onnx import BATCHES, distance, quiet

METADATA = "drawnet.json"
"""The file within the archive that holds the metadata."""
RUN = """
import sys, warnings
warnings.simplefilter("ignore")
import torch
from safetensors.torch import load_file, save_file
module, found = torch.jit.load("model.pt"), {}
calls = {}
for key, value in load_file("inputs.safetensors").items():
    calls.setdefault(tuple(key.split("/")[:2]), {})[int(key.split("/")[2])] = value
with torch.no_grad():
    for (name, batch), values in calls.items():
        out = getattr(module, name)(*(values[k] for k in sorted(values)))
        for k, part in enumerate(out if isinstance(out, tuple) else (out,)):
            found[f"{name}/{batch}/{k}"] = part.contiguous().clone()
assert "drawnet" not in sys.modules
save_file(found, "outputs.safetensors")
"""
"""What another program does with a file."""


def convert(functions: Sequence[Function], metadata: Mapping[str, Any]) -> bytes:
    """Return functions as one TorchScript file whose methods have their names; UserError if it can't.

    Methods take tensors in the order of the metadata's inputs, and return one or a tuple of them.
    """
    methods = {f.name: _method(f) for f in functions}
    holder = type("Drawnet", (nn.Module,), dict(methods))()
    holder.model = functions[0].model
    signatures = {f.name: f.signature() for f in functions}
    examples = {f.name: tuple(f.inputs.values()) for f in functions}
    buffer = io.BytesIO()
    try:
        with torch.no_grad(), quiet():
            module = torch.jit.trace_module(holder, examples, check_trace=False)
            text = json.dumps({**metadata, "functions": signatures})
            torch.jit.save(module, buffer, _extra_files={METADATA: text})
    except RuntimeError as why:
        line = str(why).strip().partition("\n")[0]
        raise UserError(f"{functions[0].name} cannot become TorchScript: {line}") from why
    return buffer.getvalue()


def _method(function: Function) -> Any:
    def method(self: nn.Module, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        outputs = function.forward(*inputs)
        return outputs[0] if len(outputs) == 1 else outputs

    return method


@torch.no_grad()
def difference(content: bytes, functions: Sequence[Function]) -> float:
    """Return the largest absolute difference between a file and its functions, over some batches.

    The file runs in a process of its own, which does not import drawnet.
    """
    inputs: dict[str, Tensor] = {}
    wanted: dict[str, Tensor] = {}
    for function in functions:
        for batch in BATCHES:
            values = list(function.examples(batch).values())
            key = f"{function.name}/{batch}"
            inputs |= {f"{key}/{k}": v.contiguous() for k, v in enumerate(values)}
            wanted |= {f"{key}/{k}": v for k, v in enumerate(function(*values))}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "model.pt").write_bytes(content)
        save_file(inputs, folder / "inputs.safetensors")
        command = [sys.executable, "-c", RUN]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            raise UserError(f"the TorchScript file does not run by itself: {last}")
        found = load_file(folder / "outputs.safetensors")
    if found.keys() != wanted.keys():
        return float("inf")
    return max(distance(found[k], wanted[k]) for k in wanted)
