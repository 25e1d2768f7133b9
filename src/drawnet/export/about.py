"""What a model takes along when it leaves the house: names, sizes, licence, results."""

from pathlib import Path
from typing import Any

from drawnet import __version__, data, weights
from drawnet.errors import schema
from drawnet.training.checkpoint import SavedModel
from drawnet.training.config import to_json

UNKNOWN = "none stated"


def licence_of(source: Path) -> str:
    """The licence of a model's file: MIT if it comes with drawnet, else none that is known here."""
    return "MIT" if source in weights.bundled().values() else UNKNOWN


def data_licence(saved: SavedModel) -> str:
    """The licence of the data that a model was trained on, as far as they are known by name."""
    name = saved.run.data.name
    return data.about(name if name in data.names() else "images").licence


def describe(saved: SavedModel, source: Path, licence: str = "") -> dict[str, Any]:
    """Return what an exported file says of its model, as JSON values.

    steps (T) and latents are there for models that draw in steps.
    """
    network, run = saved.network, to_json(saved.run)
    known = {name: getattr(network, name, None) for name in ("steps", "latents")}
    return {
        "drawnet": __version__,
        "licence": licence or licence_of(source),
        "data_licence": data_licence(saved),
        "data": Path(run["data"]["name"]).name,
        "recipe": run["recipe"],
        "model": run["model"],
        "shape": list(network.shape),
        "classes": network.classes,
        "class_names": list(saved.data.classes) if saved.data else [],
        **{name: value for name, value in known.items() if value},
        "examples": saved.header.examples,
    }


def results(source: Path) -> list[dict[str, Any]]:
    """Return the evaluations in the card that lies beside a model's file, NAME.json, if one does."""
    card = source.with_suffix(".json")
    if not card.is_file():
        return []
    values = schema.convert(schema.parse(schema.load(card), card), dict[str, Any], card)
    return [e for e in values.get("evaluations", []) if isinstance(e, dict)]
