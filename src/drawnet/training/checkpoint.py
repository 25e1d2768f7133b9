"""Files that hold models and runs: safetensors, with the configuration as JSON in the header.

    model.safetensors      one file is a model: weights, run, image shape, data checksum
    training.safetensors   beside it, what is needed to go on: weights, averages, Adam's moments

Every file is written beside its place and renamed over it, so that there is always a whole one.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from drawnet import kernels as accelerator
from drawnet import models, weights
from drawnet.data import manifest
from drawnet.data.manifest import Manifest
from drawnet.errors import UserError, check_source, check_utf8, kind_of, write_bytes
from drawnet.models.base import Model
from drawnet.training import migration
from drawnet.training.config import Run, from_json, to_json
from drawnet.training.device import CPU, Device, choose

KEY = "drawnet"


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256, in hex, over the names, types, shapes and values of tensors."""
    found = hashlib.sha256()
    for name, t in sorted(tensors.items()):
        found.update(f"{name} {t.dtype} {tuple(t.shape)}\n".encode())
        found.update(t.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def save_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write tensors with a JSON header that holds their digest, atomically."""
    values = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    data = save(values, {KEY: json.dumps({**header, "digest": digest(values)})})
    write_bytes(path, data)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Load the tensors and header of a file that `save_tensors` wrote; UserError for any other."""
    check_utf8(check_source(path))
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {})[KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except KeyError as why:
        raise UserError(f"{path} is a safetensors file, but not drawnet's") from why
    except (SafetensorError, OSError, ValueError, RecursionError) as why:
        raise UserError(f"{path} is damaged or not a safetensors file: {why}") from why
    if not isinstance(header, dict):
        raise UserError(f"{path} is damaged: its header is not a table of values")
    if header.pop("digest", found := digest(tensors)) != found:
        raise UserError(f"{path} is damaged: its tensors are not those that were written")
    return tensors, header


@dataclass
class SavedModel:
    """A model as it lies in a file."""

    network: Model
    run: Run[Any]
    header: dict[str, Any]

    @property
    def data(self) -> Manifest | None:
        """What it was trained on, as far as its file says."""
        return manifest.read(self.header.get("data"))

    @property
    def kind(self) -> str:
        """The name of the model's file."""
        return models.kind(self.run.model)


def save_model(path: Path, network: Model, run: Run[Any], header: Mapping[str, Any]) -> None:
    """Write a model with its run; `header` holds what else is known of it (examples, valid, data)."""
    header = {**header, "run": to_json(run), "shape": list(network.shape)}
    save_tensors(path, network.state_dict(), header)


def located(path: Path) -> Path:
    """A model's file: a run folder's, that path itself, else the bundled weights of that name.

    UserError, with the names that there are, if nothing is found.
    """
    if found := kind_of(path):
        return path / "model.safetensors" if found == "folder" else path
    bundled = weights.bundled()
    if str(path) in bundled:
        return bundled[str(path)]
    there = f"of those that do: {', '.join(bundled)}" if bundled else "none do: train one"
    raise UserError(f"{path} is not there, nor do weights of that name come with drawnet ({there})")


def load_model(path: Path, kernels: str = "auto", device: Device = CPU) -> SavedModel:
    """Load the model of a run folder, a file or a name; UserError if there is none or it is unsound.

    kernels: on the CPU, 'auto' installs those that agree with the formulas, 'off' none.
    device: where the model is put, or its name (`training.device.choose`).
    """
    device, path = choose(device), located(path)
    tensors, header = load_tensors(path)
    try:
        run, shape = from_json(header["run"]), tuple(header["shape"])
    except (KeyError, UserError) as why:
        raise UserError(f"{path} holds no model that this drawnet knows: {why}") from why
    network: Model = models.build(run.model, shape)
    put(network, migration.tensors(models.kind(run.model), tensors), path)
    network.to(device)
    if kernels != "off" and device.type == "cpu":
        accelerator.install(network)
    return SavedModel(network.eval(), run, header)


def put(network: torch.nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Load weights into a network; UserError names what is missing, misshapen or not finite."""
    wanted = network.state_dict()
    for name in sorted(wanted.keys() ^ tensors.keys()):
        what = "lacks" if name in wanted else "has a foreign"
        raise UserError(f"{path} does not fit its model: it {what} tensor {name!r}")
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape:
            have, want = tuple(tensor.shape), tuple(wanted[name].shape)
            raise UserError(f"{path} does not fit its model: {name!r} is {have}, not {want}")
        if not tensor.isfinite().all():
            raise UserError(f"{path} is unusable: tensor {name!r} has values that are not finite")
    network.load_state_dict(dict(tensors))
