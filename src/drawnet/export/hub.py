"""Repositories of the Hugging Face Hub (extra: hub): a model's file, and its card as README.md.

Only `push_to_hub` and `from_pretrained` reach the network, by `huggingface_hub`, whose variables
(HF_TOKEN, HF_HOME, HF_ENDPOINT, HF_HUB_OFFLINE …) hold.  A file from there is read as any other: a
checked safetensors file, no pickle and no code.
"""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple

from drawnet import __version__
from drawnet.drawing import sample
from drawnet.errors import UserError, check_folder, kind_of, schema, write_together
from drawnet.export.about import UNKNOWN, describe, results
from drawnet.models.base import ImplicitModel
from drawnet.models.sequential import StepModel
from drawnet.training import checkpoint
from drawnet.training.device import CPU, Device

MODEL, CARD = "model.safetensors", "README.md"
MEASURES = {
    "elbo_nats": "bound on -log p(x), nats per image", "bits_per_dim": "bound, bits per dimension",
    "rate_nats": "rate (KL), nats per image", "distortion_nats": "distortion, nats per image",
    "iw_nats": "K-sample bound, nats per image", "error": "classification error",
    "cross_entropy_cost_nats": "cross-entropy on intensities, nats per image (no likelihood)",
    "cross_entropy": "cross-entropy, nats", "nats": "bound on -log p(x), nats per image",
}  # fmt: skip
"""What the figures of an evaluation are."""


def save_pretrained(run: str | Path, folder: str | Path, *, licence: str = "") -> list[Path]:
    """Write a run's model and its card into a folder, as they stand in a repository; return the files.

    licence: an identifier of the Hub (mit, cc-by-4.0, …); '': mit for weights that come with drawnet,
    else unknown.
    """
    folder = check_folder(Path(folder))
    contents = {folder / name: text for name, text in _files(Path(run), licence).items()}
    write_together(contents)
    return list(contents)


def push_to_hub(
    run: str | Path,
    name: str,
    *,
    licence: str = "",
    private: bool = False,
    revision: str | None = None,
    token: str | None = None,
) -> str:
    """Upload a run's model and its card to the repository `name` (USER/MODEL), which is made if need be.

    Return the address of the commit.  licence: as in `save_pretrained`; revision: a branch that is
    there; token: None for the one that is logged in.  UserError if the Hub refuses or is not reached.
    """
    hub, files = _hub(), _files(Path(run), licence)
    operations = [hub.CommitOperationAdd(path, content) for path, content in files.items()]
    with _reported(name):
        api = hub.HfApi(token=token, library_name="drawnet", library_version=__version__)
        api.create_repo(name, private=private, exist_ok=True)
        done = api.create_commit(
            name, operations, commit_message="Upload model with drawnet", revision=revision
        )
    return str(done.commit_url)


def from_pretrained(
    name: str | Path,
    *,
    revision: str | None = None,
    token: str | None = None,
    kernels: Literal["auto", "off"] = "auto",
    device: Device = CPU,
) -> StepModel | ImplicitModel:
    """Load a model from the repository `name` (USER/MODEL), or from a folder that is there, to draw.

    A repository's file is downloaded once and kept in the cache of `huggingface_hub`.  revision: a
    branch, tag or commit.  UserError if it is not there, not drawnet's, or the Hub is not reached.
    """
    if kind_of(Path(name)):
        return sample.load(name, kernels, device)  # type: ignore[no-any-return]
    hub = _hub()
    with _reported(name):
        api = hub.HfApi(token=token, library_name="drawnet", library_version=__version__)
        path = api.hf_hub_download(str(name), MODEL, revision=revision)
    return sample.load(path, kernels, device)  # type: ignore[no-any-return]


def _hub() -> ModuleType:
    try:
        import huggingface_hub
    except ImportError as why:
        raise UserError("the Hub needs an extra: pip install 'drawnet[hub]'") from why
    return huggingface_hub


@contextlib.contextmanager
def _reported(name: object) -> Iterator[None]:
    """Turn what the Hub's client raises into one line."""
    from huggingface_hub import errors

    try:
        yield
    except errors.HFValidationError as why:
        raise UserError(f"{name} is neither a path nor a repository's name (USER/MODEL)") from why
    except errors.LocalEntryNotFoundError as why:
        raise UserError(
            f"{name} is not in the cache, and the Hub is not reached: {_reason(why)}"
        ) from why
    except (errors.HfHubHTTPError, errors.EntryNotFoundError) as why:
        raise UserError(f"{name}: the Hub says: {_reason(why)}") from why
    except (OSError, errors.HTTPError) as why:  # type: ignore[attr-defined]
        raise UserError(f"{name}: the Hub is not reached: {_reason(why)}") from why


def _reason(why: BaseException) -> str:
    """The first sentence of the innermost cause that has one."""
    causes = [why]
    while (deeper := causes[-1].__cause__) is not None:
        causes.append(deeper)
    texts = [line for cause in reversed(causes) for line in str(cause).splitlines() if line.strip()]
    return re.sub(r"\s*\(Request ID.*?\)", "", texts[0]) if texts else type(why).__name__


# ---- the card -----------------------------------------------------------------------------------


def _files(run: Path, licence: str) -> dict[str, bytes]:
    """What a repository holds: the file as it is, after it was read and checked, and the card."""
    source = checkpoint.located(run)
    saved = checkpoint.load_model(run, kernels="off")
    sample.require_generative(saved, run)
    return {MODEL: schema.load(source), CARD: card(saved, source, licence).encode()}


def card(saved: checkpoint.SavedModel, source: Path, licence: str = "") -> str:
    """Return a model's card in Markdown, with the Hub's metadata at its head."""
    hub, known, found = _hub(), describe(saved, source, licence), figures(saved, source)
    task, stated = "unconditional-image-generation", known["licence"]
    title = f"{known['recipe']}, drawn by drawnet"
    data = hub.ModelCardData(
        license="unknown" if stated == UNKNOWN else stated.lower(),
        library_name="drawnet",
        pipeline_tag=task,
        tags=["drawnet", saved.kind, "image-generation"],
        model_name=known["recipe"],
        eval_results=[
            hub.EvalResult(
                task_type=task, dataset_type=f.data, dataset_name=f.data, dataset_split=f.split,
                metric_type=f.measure, metric_name=f.what(),
                metric_value=f.value,
            )
            for f in found
        ]
        or None,
    )  # fmt: skip
    rows = [
        f"| {f.data}, {f.split}{f' ({f.images:,} images)' if f.images else ''} "
        f"| {f.what()} | {f.text()} |"
        for f in found
    ]
    table = ["| data | measure | value |", "|---|---|---|", *rows, ""] if rows else []
    sizes = ", ".join(f"{k} {v}" for k, v in known["model"].items() if k != "kind")
    channels, height, width = known["shape"]
    lines = [
        f"# {title}",
        "",
        f"A `{saved.kind}` model that draws images of {height} × {width} pixels, channels: {channels}",
        f"({sizes}), trained on {known['data']}"
        + (f", {known['examples']:,} examples" if known["examples"] else "")
        + f".  Licence of the data: {known['data_licence']}.",
        "",
        "    from drawnet import from_pretrained, sample",
        '    images = sample(from_pretrained("USER/MODEL"), n=64, seed=0)',
        "",
        *table,
        "`model.safetensors` holds the weights, and in its header the configuration; it has no code.",
        "drawnet is a reference implementation of DRAW (Gregor et al. 2015, arXiv 1502.04623).",
    ]
    return f"---\n{data.to_yaml()}\n---\n\n" + "\n".join(lines) + "\n"


class Figure(NamedTuple):
    """A result, with its measure."""

    data: str
    split: str
    images: int | None
    measure: str
    value: float
    stderr: float | None = None
    draws: int | None = None
    """Of binarisation and latents, of which it is the mean; None: one."""

    def what(self) -> str:
        """What it is, in words."""
        name = MEASURES.get(self.measure, self.measure)
        return f"{name}, mean of {self.draws} draws" if self.draws else name

    def text(self) -> str:
        """The value in print."""
        digits = 4 if self.measure in ("bits_per_dim", "error", "cross_entropy") else 2
        off = f" ± {self.stderr:.{digits}f}" if self.stderr else ""
        return f"{self.value:.{digits}f}{off}"


def figures(saved: checkpoint.SavedModel, source: Path) -> list[Figure]:
    """Return what was measured of a model: in the card that comes with it, else in its header."""
    found = []
    for e in results(source):
        draws = e.get("draws")
        where = (str(e.get("dataset")), str(e.get("split")), e.get("images"))
        for measure in MEASURES:
            value: Any = e.get(measure)
            stderr: Any = None
            if isinstance(value, dict):
                value, stderr = value.get("mean"), value.get("stderr")
            if measure == "elbo_nats":
                stderr = e.get("elbo_stderr")
            if isinstance(value, float):
                found.append(Figure(*where, measure, value, stderr, draws))
    if found:
        return found
    name = Path(saved.run.data.name).name
    return [
        Figure(name, "valid", None, "elbo_nats" if k == "nats" else k, v)
        for k, v in saved.header.valid.items()
    ]
