"""A run's configuration: all that decides its result, as frozen dataclasses saved with the weights."""

from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Generic, Literal, TypeVar

from drawnet.data.config import Data
from drawnet.errors import UserError, schema
from drawnet.errors.schema import (
    Decay,
    NonNegative,
    NonNegativeInt,
    PathText,
    Positive,
    PositiveInt,
)
from drawnet.training.migration import CONFIG, LACKING, renamed

C = TypeVar("C")


def _by_kind(values: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Map a model's JSON object to its configuration class and that one's values."""
    from drawnet import models

    kind = values.pop("kind", None)
    if not isinstance(kind, str):
        raise ValueError("it must name its kind")
    return models.config(kind), LACKING.get(kind, {}) | renamed(values, CONFIG)


@dataclass(frozen=True)
class Run(Generic[C]):
    """A training run.  Lengths are counted in examples, independently of the batch size."""

    recipe: str
    model: Annotated[C, schema.by(_by_kind)]
    data: Data = field(default_factory=Data)
    init: PathText = ""
    """Weights to begin from: a run folder, a .safetensors file or the name of bundled weights; ''
    (default): random ones."""
    examples: PositiveInt = 1_000_000
    """Total number of training examples."""
    batch: PositiveInt = 128
    """Examples per step, over all processes."""
    optimizer: Literal["adam", "sgd", "adagrad"] = "adam"
    lr: Positive = 1e-3
    """Peak learning rate."""
    warmup: NonNegativeInt = 12_800
    """Examples over which the learning rate rises from 0."""
    decay: Literal["none", "cosine", "wsd", "exponential"] = "cosine"
    """Decay of the learning rate: cosine, after the warm-up, to lr/50 at the last example;
    wsd (warm-up, stable, decay; Hu et al. 2024): constant, and over the last fifth along a straight
    line to lr/50; exponential, by half every `half_life` examples."""
    half_life: PositiveInt = 1_000_000
    momentum: Decay = 0.5
    """Momentum of SGD, at the start."""
    final_momentum: Decay = 0.5
    """Momentum of SGD, reached over the first `momentum_rise` examples."""
    momentum_rise: NonNegativeInt = 0
    weight_decay: NonNegative = 0.0
    """Decoupled weight decay of Adam (AdamW, Loshchilov & Hutter 2019): matrices and kernels shrink by
    lr times this at every step; biases do not."""
    kl_weight: Positive = 1.0
    """Weight of the rate in the objective (β of Higgins et al. 2017).  1 is the bound; above it the
    latents carry less information about an image, and samples are more coherent at worse nats.  The
    reported value is always the bound."""
    kl_warmup: NonNegativeInt = 0
    """Examples over which that weight rises from 0."""
    clip: Positive = 10.0
    """Maximum norm of the gradient of the batch's mean objective (nats)."""
    ema: Decay = 0.999
    """Decay per step of the moving average of the weights that is evaluated and saved; after n steps
    at most (1 + n) / (10 + n), so that the first weights are soon forgotten; 0: none."""
    seed: int = 0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Operands of the matrix products; auto: the faster, by a measurement, on a CPU with kernels for
    both, else float32; a resumed run goes on as it began."""
    recompute: NonNegativeInt = 0
    """Checkpoint every K-th state and recompute the rest in the backward pass; 0: store all states."""
    evaluate_every: PositiveInt = 100_000
    """Examples between evaluations on the validation images (and sample grids, and best weights)."""
    validation_images: PositiveInt = 2_000
    """Maximum number of validation images in these evaluations."""
    save_every: PositiveInt = 25_000
    """Examples between checkpoints."""
    skip_limit: PositiveInt = 10
    """Maximum number of consecutive steps skipped for a loss or gradient that is not finite."""

    def __post_init__(self) -> None:
        schema.check(self)
        if self.weight_decay and self.optimizer != "adam":
            raise UserError(
                f"--weight-decay is Adam's, and this run's optimizer is {self.optimizer}"
            )


def to_json(run: Run[Any]) -> dict[str, Any]:
    """Convert a run to JSON values; the model's kind is the name of its file."""
    from drawnet import models

    return asdict(run) | {"model": {"kind": models.kind(run.model)} | asdict(run.model)}


def from_json(values: Any, where: object = "a run") -> Run[Any]:
    """Convert JSON values of `to_json` to a run; UserError, beginning with `where`, if they misfit."""
    return schema.convert(values, Run, where)
