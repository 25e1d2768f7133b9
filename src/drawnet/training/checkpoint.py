"""Files that hold models and runs: safetensors, with the configuration as JSON in the header.

    model.safetensors      one file is a model: weights, run, image shape, data checksum
    training.safetensors   beside it, what is needed to go on: weights, averages, Adam's moments

Every file is written beside its place and renamed over it, so that there is always a whole one.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from drawnet import kernels as accelerator
from drawnet import models, weights
from drawnet.data.io.collection import note
from drawnet.data.manifest import Manifest
from drawnet.errors import UserError, check_source, check_utf8, kind_of, schema, write_bytes
from drawnet.errors.schema import NonNegative, NonNegativeInt, PositiveInt
from drawnet.models.base import Model
from drawnet.training import budget, migration
from drawnet.training.config import Run, to_json
from drawnet.training.device import CPU, Device, choose
from drawnet.training.provenance import Metadata, Origin

KEY = "drawnet"
FLOATS = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
"""Types that are converted to each other on loading."""


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256, in hex, over the names, types, shapes and values of tensors."""
    found = hashlib.sha256()
    for name, t in sorted(tensors.items()):
        found.update(f"{name} {t.dtype} {tuple(t.shape)}\n".encode())
        found.update(t.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def serialise(tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> bytes:
    """Return a safetensors file of tensors, with a JSON header that holds their digest."""
    values = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    return save(values, {KEY: json.dumps({**header, "digest": digest(values)})})


def save_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write tensors with a JSON header, atomically."""
    write_bytes(path, serialise(tensors, header))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Load the tensors and header of a file that `save_tensors` wrote; UserError for any other."""
    header, tensors = _read(path, lambda f: {name: f.get_tensor(name) for name in f.keys()})  # noqa: SIM118
    if header.pop("digest", found := digest(tensors)) != found:
        raise UserError(f"{path} is damaged: its tensors are not those that were written")
    return tensors, header


def load_header(path: Path) -> dict[str, Any]:
    """Load the header alone of a file that `save_tensors` wrote; UserError for any other."""
    header, _ = _read(path, lambda _: {})
    return {name: value for name, value in header.items() if name != "digest"}


def _read(
    path: Path, tensors: Callable[[Any], dict[str, Tensor]]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    check_utf8(check_source(path))
    try:
        with safe_open(path, "pt") as file:
            text, found = (file.metadata() or {})[KEY], tensors(file)
    except KeyError as why:
        raise UserError(f"{path} is a safetensors file, but not drawnet's") from why
    except (SafetensorError, OSError, ValueError) as why:
        raise UserError(f"{path} is damaged or not a safetensors file: {why}") from why
    where = f"the header of {path}"
    return schema.convert(schema.parse(text, where), dict[str, Any], where), found


@dataclass(frozen=True)
class Header:
    """What a model's file says of it; None: not known."""

    run: Run[Any]
    shape: tuple[PositiveInt, PositiveInt, PositiveInt]
    """(C, H, W) of an image."""
    examples: NonNegativeInt | None = None
    """Training examples seen."""
    valid: dict[str, float] = field(default_factory=dict)
    """The selection metric on validation images, by name; in the file: valid_NAME."""
    seconds: NonNegative | None = None
    cpu_seconds: NonNegative | None = None
    validated: bool = True
    """Whether they are the best on validation images: a run saves weights before it measures any."""
    data: Manifest | None = None
    made: Metadata | None = None
    origin: Origin | None = None
    """The weights that the run began from, if they were given."""
    lengthened: tuple[tuple[NonNegativeInt, PositiveInt], ...] = ()
    """Positions at which a run under a cosine was given more examples, and how many it had before."""

    @property
    def caveat(self) -> str:
        """What to know of weights that validation has not chosen; '' for all others."""
        if self.validated:
            return ""
        return (
            f"not yet validated: the weights as they stood at {self.examples or 0:,} of "
            f"{self.run.examples:,} examples"
        )

    @classmethod
    def read(cls, values: dict[str, Any], where: object) -> "Header":
        """Convert the header of a file; UserError, which begins with `where`, if it is no model's."""
        valid = {k.removeprefix("valid_"): v for k, v in values.items() if k.startswith("valid_")}
        rest = {k: v for k, v in values.items() if not k.startswith("valid_")}
        return schema.convert({**rest, "valid": valid}, cls, where)


@dataclass
class SavedModel:
    """A model as it lies in a file."""

    network: Model
    header: Header

    @property
    def run(self) -> Run[Any]:
        """The run that trained it."""
        return self.header.run

    @property
    def data(self) -> Manifest | None:
        """What it was trained on, as far as its file says."""
        return self.header.data

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
    tensors, values = load_tensors(path)
    header = Header.read(values, path)
    if header.caveat:
        note(f"{path} is {header.caveat}")
    config, shape = header.run.model, header.shape
    tensors = migration.tensors(models.kind(config), tensors)
    try:
        outline = budget.outline(config, shape)
    except UserError as why:
        raise UserError(f"{path}: {why}") from why
    fits(outline, tensors, path)  # before memory is taken
    network: Model = models.build(config, shape)
    budget.check_sampling(network, budget.IMAGES, str(path))
    put(network, tensors, path)
    network.to(device)
    if kernels != "off" and device.type == "cpu":
        accelerator.install(network)
    return SavedModel(network.eval(), header)


def put(network: torch.nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Load weights into a network; UserError names what is missing, misfits or is not finite."""
    fits(network, tensors, path)
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise UserError(f"{path} is unusable: tensor {name!r} has values that are not finite")
    network.load_state_dict(dict(tensors))


def fits(network: torch.nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raise UserError unless tensors have the names, shapes and types of a network's."""
    wanted = network.state_dict()
    for name in sorted(wanted.keys() ^ tensors.keys()):
        what = "lacks" if name in wanted else "has a foreign"
        raise UserError(f"{path} does not fit its model: it {what} tensor {name!r}")
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape:
            have, want = tuple(tensor.shape), tuple(wanted[name].shape)
            raise UserError(f"{path} does not fit its model: {name!r} is {have}, not {want}")
        kinds = {tensor.dtype, wanted[name].dtype}
        if len(kinds) > 1 and not kinds <= FLOATS:
            types = f"{tensor.dtype}, not {wanted[name].dtype}"
            raise UserError(f"{path} does not fit its model: {name!r} is {types}")
