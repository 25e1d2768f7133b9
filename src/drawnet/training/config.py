"""What a run is: everything that decides its result, as frozen dataclasses kept with the weights."""

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
    """A training run.  Lengths are counted in examples, so that no batch size changes their meaning."""

    recipe: str
    model: C
    data: Data = field(default_factory=Data)
    examples: int = 1_000_000
    """How many training examples to see in all."""
    batch: int = 128
    """Examples a step, over all processes."""
    optimizer: Literal["adam", "sgd", "adagrad"] = "adam"
    lr: float = 1e-3
    """Peak learning rate."""
    warmup: int = 12_800
    """Examples over which the learning rate rises from 0."""
    decay: Literal["none", "cosine", "exponential"] = "cosine"
    """How the learning rate falls: cosine, after the warm-up, to lr/50 at the last example;
    exponential, to half of itself every `half_life` examples."""
    half_life: int = 1_000_000
    momentum: float = 0.5
    """Of SGD, at the start."""
    final_momentum: float = 0.5
    """… to which it rises over the first `momentum_rise` examples."""
    momentum_rise: int = 0
    weight_decay: float = 0.0
    """Matrices and kernels shrink by lr times this at every step of Adam, whatever their gradients
    (AdamW, Loshchilov & Hutter 2019); biases do not."""
    kl_weight: float = 1.0
    """Weight of the rate in the objective (β of Higgins et al. 2017).  1 is the bound; above it the
    latents say less of an image, and samples hang together better for worse nats.  What is reported
    is the bound all the same."""
    kl_warmup: int = 0
    """Examples over which that weight rises from 0."""
    clip: float = 10.0
    """Largest norm of the gradient of the batch's mean objective (nats)."""
    ema: float = 0.999
    """Decay a step of the moving average of the weights that is evaluated and kept; 0: none."""
    seed: int = 0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Operands of the matrix products; auto: bfloat16 where the processor has it."""
    recompute: int = 0
    """Keep only every so-manieth step's state for the backward pass: less memory, more time."""
    evaluate_every: int = 100_000
    """Examples between evaluations on the validation images (and sample sheets, and best weights)."""
    validation_images: int = 2_000
    """How many validation images these evaluations use at most."""
    save_every: int = 25_000
    """Examples between checkpoints."""
    skip_limit: int = 10
    """Steps in a row that may be skipped for a loss or gradient that is not finite."""


def check(run: Run[Any]) -> None:
    """UserError if a number of the run makes no sense."""
    least: dict[str, float] = {"examples": 1, "batch": 1, "evaluate_every": 1, "save_every": 1}
    least |= {"validation_images": 1, "skip_limit": 1, "half_life": 1}
    least |= {"warmup": 0, "kl_warmup": 0, "recompute": 0, "momentum_rise": 0}
    for name, low in least.items():
        if getattr(run, name) < low:
            raise UserError(f"--{name.replace('_', '-')} must be at least {low}")
    for name in ("lr", "clip", "kl_weight"):
        if not getattr(run, name) > 0:
            raise UserError(f"--{name.replace('_', '-')} must be greater than 0")
    if not run.weight_decay >= 0:
        raise UserError("--weight-decay must be at least 0")
    if run.weight_decay and run.optimizer != "adam":
        raise UserError(f"--weight-decay is Adam's, and this run's optimizer is {run.optimizer}")
    for name in ("ema", "momentum", "final_momentum"):
        if not 0 <= getattr(run, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} must be at least 0 and less than 1")


def to_json(run: Run[Any]) -> dict[str, Any]:
    """A run as JSON values; the model's kind is the name of the file that it lives in."""
    kind = type(run.model).__module__.rpartition(".")[2]
    return asdict(run) | {"model": {"kind": kind} | asdict(run.model)}


def from_json(values: dict[str, Any]) -> Run[Any]:
    """The inverse of `to_json`; UserError if the values are not a run's."""
    from drawnet import models

    try:
        model = renamed(values["model"], CONFIG)
        config = models.config(model.pop("kind"))
        rest = {k: v for k, v in values.items() if k not in ("model", "data")}
        return Run(model=build(config, model), data=build(Data, values["data"]), **rest)
    except (KeyError, TypeError, ValueError) as why:
        raise UserError(f"the configuration is not one of this version of drawnet: {why}") from why


def build(kind: type[C], values: dict[str, Any]) -> C:
    """A dataclass from JSON values; ValueError names a key too many, TypeError one too few."""
    assert is_dataclass(kind) and not isinstance(kind, types.GenericAlias)
    if unknown := set(values) - {f.name for f in fields(kind)}:
        raise ValueError(f"unknown setting {sorted(unknown)[0]!r}")
    return kind(**values)
