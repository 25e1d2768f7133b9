"""A run's configuration: all that decides its result, as frozen dataclasses saved with the weights."""

import math
import types
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from drawnet.data.config import Data
from drawnet.errors import UserError
from drawnet.training.migration import CONFIG, renamed

if TYPE_CHECKING:
    pass

C = TypeVar("C")


@dataclass(frozen=True)
class Run(Generic[C]):
    """A training run.  Lengths are counted in examples, independently of the batch size."""

    recipe: str
    model: C
    data: Data = field(default_factory=Data)
    examples: int = 1_000_000
    """Total number of training examples."""
    batch: int = 128
    """Examples per step, over all processes."""
    optimizer: Literal["adam", "sgd", "adagrad"] = "adam"
    lr: float = 1e-3
    """Peak learning rate."""
    warmup: int = 12_800
    """Examples over which the learning rate rises from 0."""
    decay: Literal["none", "cosine", "exponential"] = "cosine"
    """Decay of the learning rate: cosine, after the warm-up, to lr/50 at the last example;
    exponential, by half every `half_life` examples."""
    half_life: int = 1_000_000
    momentum: float = 0.5
    """Momentum of SGD, at the start."""
    final_momentum: float = 0.5
    """Momentum of SGD, reached over the first `momentum_rise` examples."""
    momentum_rise: int = 0
    weight_decay: float = 0.0
    """Decoupled weight decay of Adam (AdamW, Loshchilov & Hutter 2019): matrices and kernels shrink by
    lr times this at every step; biases do not."""
    kl_weight: float = 1.0
    """Weight of the rate in the objective (β of Higgins et al. 2017).  1 is the bound; above it the
    latents carry less information about an image, and samples are more coherent at worse nats.  The
    reported value is always the bound."""
    kl_warmup: int = 0
    """Examples over which that weight rises from 0."""
    clip: float = 10.0
    """Maximum norm of the gradient of the batch's mean objective (nats)."""
    ema: float = 0.999
    """Decay per step of the moving average of the weights that is evaluated and saved; 0: none."""
    seed: int = 0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Operands of the matrix products; auto: the faster, by a measurement, on a CPU with kernels for
    both, else float32; a resumed run goes on as it began."""
    recompute: int = 0
    """Checkpoint every K-th state and recompute the rest in the backward pass; 0: store all states."""
    evaluate_every: int = 100_000
    """Examples between evaluations on the validation images (and sample grids, and best weights)."""
    validation_images: int = 2_000
    """Maximum number of validation images in these evaluations."""
    save_every: int = 25_000
    """Examples between checkpoints."""
    skip_limit: int = 10
    """Maximum number of consecutive steps skipped for a loss or gradient that is not finite."""


def check(run: Run[Any]) -> None:
    """Raise UserError if a setting of the run is invalid."""
    least: dict[str, float] = {"examples": 1, "batch": 1, "evaluate_every": 1, "save_every": 1}
    least |= {"validation_images": 1, "skip_limit": 1, "half_life": 1}
    least |= {"warmup": 0, "kl_warmup": 0, "recompute": 0, "momentum_rise": 0}
    for name, low in least.items():
        if getattr(run, name) < low:
            raise UserError(f"--{name.replace('_', '-')} must be at least {low}")
    for name in ("lr", "clip", "kl_weight"):
        if not 0 < getattr(run, name) < math.inf:
            raise UserError(f"--{name.replace('_', '-')} must be greater than 0 and finite")
    if not 0 <= run.weight_decay < math.inf:
        raise UserError("--weight-decay must be at least 0 and finite")
    if run.weight_decay and run.optimizer != "adam":
        raise UserError(f"--weight-decay is Adam's, and this run's optimizer is {run.optimizer}")
    for name in ("ema", "momentum", "final_momentum"):
        if not 0 <= getattr(run, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} must be at least 0 and less than 1")


def to_json(run: Run[Any]) -> dict[str, Any]:
    """Convert a run to JSON values; the model's kind is the name of its file."""
    from drawnet import models

    return asdict(run) | {"model": {"kind": models.kind(run.model)} | asdict(run.model)}


def from_json(values: dict[str, Any]) -> Run[Any]:
    """Convert JSON values of `to_json` to a run; UserError if they are not a run's."""
    from drawnet import models

    try:
        model = renamed(values["model"], CONFIG)
        config = models.config(model.pop("kind"))
        rest = {k: v for k, v in values.items() if k not in ("model", "data")}
        return Run(model=build(config, model), data=build(Data, values["data"]), **rest)
    except (KeyError, TypeError, ValueError) as why:
        raise UserError(f"the configuration is not one of this version of drawnet: {why}") from why


def build(kind: type[C], values: dict[str, Any]) -> C:
    """Build a dataclass from JSON values; ValueError names an unknown key, TypeError a missing one."""
    assert is_dataclass(kind) and not isinstance(kind, types.GenericAlias)
    if unknown := set(values) - {f.name for f in fields(kind)}:
        raise ValueError(f"unknown setting {sorted(unknown)[0]!r}")
    return kind(**values)
