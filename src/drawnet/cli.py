"""The command line.  Each command is a frozen dataclass, whose fields are its flags, and a function.

Heavy imports wait until a command runs.  What the user can mend is a `UserError`: one line, exit 2.
"""

import contextlib
import io
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, TypeVar

import tyro

from drawnet import __version__, listing
from drawnet.errors import UserError
from drawnet.run import Run, check

if TYPE_CHECKING:
    from drawnet.checkpoint import Model
    from drawnet.data import Dataset
    from drawnet.evaluate import Evaluation

C = TypeVar("C")
T = TypeVar("T")

HELP = """\
usage: drawnet COMMAND [OPTIONS]

  train RECIPE           train a model (Ctrl-C keeps a checkpoint, --resume goes on)
  evaluate RUN           the bound on held-out images, rate and distortion apart
  sample RUN             draw images: a sheet, a film, the stages, the raw numbers
  reconstruct RUN IMAGE… read pictures and draw them again
  classify RUN [IMAGE…]  name what pictures show, and film where the model looks
  record RUN FILE…       a run's record: settings, cost, curve, and its evaluations
  results [RECORD…]      one table of records
  compare RUN…           one table over runs: bounds, Parzen, Fréchet, samples a second
  ablate RECIPE          what each part of DRAW is worth: variants under one budget, in a table
  demo [RUN…]            watch models draw, in the browser
  fetch DATASET          download a data set from its official address
  list                   models, data sets and recipes

RUN is a folder that `train` wrote, a .safetensors file or the name of weights that come with drawnet.
`drawnet COMMAND --help` shows a command's options.
"""

DATA_DIR = "where data sets lie (default: $DRAWNET_DATA, else the user's cache folder)"
DataDir = Annotated[Path | None, tyro.conf.arg(help=DATA_DIR)]
Count = Annotated[int, tyro.conf.arg(aliases=["-n"])]


@dataclass(frozen=True)
class Train(Generic[C]):
    """Train a model.  Ctrl-C or SIGTERM keep a checkpoint; --resume goes on exactly."""

    run: Annotated[Run[C], tyro.conf.arg(name="")]
    out: Path | None = None
    """The run folder (default: runs/RECIPE)."""
    resume: bool = False
    """Go on with the run in the folder, or begin it."""
    data_dir: DataDir = None
    tensorboard: bool = False
    """Also write TensorBoard logs (extra: tensorboard)."""


@dataclass(frozen=True)
class Evaluate:
    """What a model is measured by, over a split, every image counted once: a generative model's
    bound, a classifier's error."""

    run: tyro.conf.Positional[Path]
    """A run folder, a .safetensors file or the name of weights that come with drawnet."""
    split: Literal["train", "valid", "test"] = "test"
    importance_samples: int | None = None
    """K of the K-sample (importance-weighted) bound; left out unless given."""
    images: int | None = None
    """Only the first so many images of the split."""
    seed: int = 0
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    json: bool = False
    """Print JSON instead of lines."""
    out: Path | None = None
    """Also write the JSON to this file."""
    data_dir: DataDir = None


@dataclass(frozen=True)
class Sample:
    """Draw images from the prior.  The same seed gives the same images."""

    run: tyro.conf.Positional[Path]
    """A run folder, a .safetensors file or the name of weights that come with drawnet."""
    n: Count = 64
    """How many images."""
    label: tuple[int, ...] = ()
    """Classes to draw, in turn (conditional models); all of them in turn if left out."""
    seed: int = 0
    temperature: float = 1.0
    """Scale of the latents' standard deviation: below 1 more typical, above 1 more varied."""
    out: Path = Path("samples.png")
    """A sheet (.png), the film of the drawing (.gif, .webp) or raw numbers (.npz), by suffix."""
    film: Path | None = None
    """Also the film, with the windows (.gif, .webp)."""
    stages: Path | None = None
    """Also the stages sheet: a row an image, successive steps (.png)."""
    neighbours: Path | None = None
    """Also each sample beside the nearest training image (.png)."""
    batch: int = 64
    """Images drawn at a time; changes nothing but memory and speed."""
    data_dir: DataDir = None


@dataclass(frozen=True)
class Reconstruct:
    """Read pictures through the model and draw them again."""

    run: tyro.conf.Positional[Path]
    """A run folder, a .safetensors file or the name of weights that come with drawnet."""
    image: tyro.conf.Positional[tuple[Path, ...]]
    """Pictures; they are brought to the model's size and colours."""
    out: Path = Path("reconstruction.png")
    """A still (.png) or the film (.gif, .webp) of input, read window, canvas and write window."""
    label: tuple[int, ...] = ()
    """What the pictures show (conditional models): one class for all, or one for each."""
    seed: int = 0
    invert: bool = False
    """Take dark strokes on white paper for light strokes on black, as the digits are."""


@dataclass(frozen=True)
class Classify:
    """Name the class of pictures, or of the first test images if none are given."""

    run: tyro.conf.Positional[Path]
    """A run folder or a .safetensors file of a classifier."""
    image: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Pictures; they are brought to the model's size and colours."""
    n: Count = 9
    """How many test images, if no pictures are given."""
    out: Path | None = None
    """Also where it looks: a film (.gif, .webp), for a model that reads through a window."""
    invert: bool = False
    """Take dark strokes on white paper for light strokes on black, as the digits are."""
    data_dir: DataDir = None


@dataclass(frozen=True)
class Record:
    """Write a run's record from its folder and from files that `evaluate --out` wrote."""

    run: tyro.conf.Positional[Path]
    """A run folder or a .safetensors file."""
    evaluation: tyro.conf.Positional[tuple[Path, ...]] = ()
    out: Path = Path("record.json")
    commit: str | None = None
    """The commit that trained it, where the weights do not say."""


@dataclass(frozen=True)
class Results:
    """One page of many records: a table, and of each its command, machine and curve."""

    record: tyro.conf.Positional[tuple[Path, ...]] = (Path("docs/records"),)
    """Records, or folders of them."""
    out: Path | None = None
    """Write the page there (.md) instead of printing the table."""


@dataclass(frozen=True)
class Compare:
    """One table over runs, of what each model allows to be measured; a dash says why it does not."""

    run: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Run folders, .safetensors files or the names of weights that come with drawnet."""
    samples: int = 10_000
    """How many each model draws, for Parzen, Fréchet and the error of samples."""
    images: int = 10_000
    """How many test images at most."""
    importance_samples: int | None = None
    """K of the K-sample bound; left out unless given."""
    classifier: Path | None = None
    """One that drawnet trained; left out: one of the real images, trained once and kept in the cache."""
    seed: int = 0
    out: Path | None = None
    """Also write the table to this file (.md, .json)."""
    data_dir: DataDir = None


@dataclass(frozen=True)
class Ablate(Generic[C]):
    """Train variants of a DRAW recipe under one budget, and compare them in a table.

    Ctrl-C, SIGTERM or worse: the same command goes on.  The recipe's own settings may be given too."""

    run: Annotated[Run[C], tyro.conf.arg(name="")]
    variants: tuple[str, ...] = ()
    """Which (`drawnet ablate` shows them), beside the baseline; left out: all."""
    seeds: int = 3
    """How many runs of each, from seed 0 on."""
    minutes: float | None = None
    """The budget of a run in processor minutes of training."""
    images: int | None = None
    """Or in training examples."""
    jobs: int = 1
    """Runs at a time; they share the cores."""
    split: Literal["valid", "test"] = "valid"
    """Images on which the table's figures are taken, all of them."""
    out: Path | None = None
    """The study's folder (default: runs/ablate-RECIPE)."""
    data_dir: DataDir = None


@dataclass(frozen=True)
class Demo:
    """Watch models draw, in the browser: a page on this machine's own address (extra: demo)."""

    run: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Run folders, .safetensors files or names; all weights that come with drawnet if left out."""
    host: str = "127.0.0.1"
    """The address to listen on; any other than a loopback address opens the page to others."""
    port: int = 8765
    """0 takes any free one."""
    no_open: bool = False
    """Open no browser."""


@dataclass(frozen=True)
class Fetch:
    """Download a data set from its official address, checked, resumable."""

    dataset: tyro.conf.Positional[str]
    data_dir: DataDir = None


# ---- commands -----------------------------------------------------------------------------------


def unnamed(command: str, arguments: Sequence[str]) -> bool:
    """Whether no recipe is named, which gets all their names; UserError for options without one."""
    if arguments and not arguments[0].startswith("-"):
        return False
    if arguments and arguments[0] not in ("-h", "--help"):
        raise UserError(f"drawnet {command}: name the recipe first (`drawnet list` shows them)")
    print(f"usage: drawnet {command} RECIPE [OPTIONS]\n\nrecipes:")
    print_table({name: title for name, (_, title) in listing.recipes().items()})
    print(f"\n`drawnet {command} RECIPE --help` shows the options and their values.")
    return True


def train(arguments: Sequence[str]) -> None:
    if unnamed("train", arguments):
        return
    from drawnet import recipes

    name, *rest = arguments
    run = recipes.get(name)
    kind: Any = Train[type(run.model)]  # type: ignore[misc]
    command: Train[Any] = parse(kind, f"train {name}", rest, default=Train(run))
    from drawnet import parallel
    from drawnet.train import train as go

    run, data = command.run, dataset(command.run, command.data_dir)
    folder = command.out or Path("runs") / name
    with parallel.group():
        progress = go(run, data, folder, resume=command.resume, tensorboard=command.tensorboard)
        if parallel.rank() == 0:
            best = (
                f"{progress.best:.2f} nats on validation images"
                if progress.best < 1e9
                else "none yet"
            )
            print(
                f"{folder}: {progress.seen} examples, {progress.seconds / 60:.1f} min, best {best}"
            )
    if progress.seen < run.examples:
        sys.exit(130)


def evaluate(arguments: Sequence[str]) -> None:
    command = parse(Evaluate, "evaluate", arguments)
    positive(command.importance_samples, "--importance-samples")
    positive(command.images, "--images")
    import torch

    from drawnet import kernels
    from drawnet.evaluate import evaluate as measure_bound
    from drawnet.evaluate import labels, measure, summary
    from drawnet.learner import Bounded

    model = trained(command.run)
    data = dataset(model.run, command.data_dir)
    fits(model, data)
    network, settings = model.network, model.run.data
    pixels = torch.from_numpy(data.splits[command.split].pixels[: command.images])
    y = labels(data, command.split, network.classes)[: command.images]
    how: dict[str, Any] = {
        "seed": command.seed,
        "precision": kernels.operands(command.precision),
        "progress": sys.stderr.isatty(),
    }
    images = (pixels, data.levels, settings, command.split, y)
    if isinstance(network, Bounded):
        k = command.importance_samples
        e = measure_bound(network, *images, importance_samples=k, name=data.name, **how)
        values, lines = asdict(e), report(e)
    elif command.importance_samples:
        raise UserError(f"{command.run} has no bound: leave out --importance-samples")
    else:
        means = summary(measure(network, *images, **how))
        values = {"dataset": data.name, "split": command.split, "images": len(pixels)} | means
        lines = "\n".join(
            [f"{data.name}, {command.split}: {len(pixels)} images"]
            + [f"{k:<14}{v['mean']:9.4f} ± {v['stderr']:.4f}" for k, v in means.items()]
        )
    text = json.dumps(values, indent=1)
    if command.out:
        from drawnet import checkpoint

        checkpoint.write_text(command.out, text + "\n")
    print(text if command.json else lines)


def report(e: "Evaluation") -> str:
    """An evaluation in lines, nats an image."""
    lines = [f"{e.dataset}, {e.split}: {e.images} images"]
    if e.elbo_nats is not None and e.bits_per_dim is not None:
        what = "-log p(x)" if e.exact else "bound"
        lines += [f"{what:<12}{e.elbo_nats:10.2f} ± {e.elbo_stderr or 0:.2f} nats"]
        lines += [f"            {e.bits_per_dim:10.4f} bits/dim"]
    if e.cross_entropy_cost_nats is not None:
        lines += [f"cost        {e.cross_entropy_cost_nats:10.2f} nats, which is no likelihood"]
    if not e.exact:
        lines += [f"rate        {e.rate_nats:10.2f} nats"]
        lines += [f"distortion  {e.distortion_nats:10.2f} nats"]
    if e.iw_nats is not None and not e.exact:
        lines += [f"K = {e.importance_samples:<8}{e.iw_nats:10.2f} nats"]
    return "\n".join(lines)


def sample(arguments: Sequence[str]) -> None:
    command = parse(Sample, "sample", arguments)
    positive(command.n, "-n")
    positive(command.batch, "--batch")
    import torch

    from drawnet import drawing, figures
    from drawnet.evaluate import window

    suffix(command.out, figures.PICTURES, figures.ANIMATIONS, [".npz"])
    suffix(command.film, figures.ANIMATIONS)
    suffix(command.stages, figures.PICTURES)
    suffix(command.neighbours, figures.PICTURES)
    model = trained(command.run)
    network = drawing.drawer(model, command.run)
    film = drawing.sample_film(
        network,
        command.n,
        labels=command.label,
        seed=command.seed,
        temperature=command.temperature,
        batch=command.batch,
    )
    drawing.save(film, command.out)
    if command.film:
        drawing.save(film, command.film)
    if command.stages:
        figures.save_image(figures.stages(film), command.stages)
    if command.neighbours:
        data = dataset(model.run, command.data_dir)
        fits(model, data)
        pixels = window(torch.from_numpy(data.splits["train"].pixels[:]), model.network.shape)
        near = figures.neighbours(film.images, pixels if data.levels == 256 else 255 * pixels)
        figures.save_image(figures.beside(film.images, near.images), command.neighbours)
    written = [command.out, command.film, command.stages, command.neighbours]
    print("\n".join(str(path) for path in written if path))


def reconstruct(arguments: Sequence[str]) -> None:
    command = parse(Reconstruct, "reconstruct", arguments)
    from drawnet import drawing, figures

    model = trained(command.run)
    network = drawing.reader(model, command.run)
    suffix(command.out, figures.PICTURES, figures.ANIMATIONS)
    binary = getattr(model.run.model, "likelihood", "bernoulli") == "bernoulli"
    x = drawing.read_pictures(command.image, network, binary=binary, invert=command.invert)
    film = drawing.redraw_film(network, x, labels=command.label, seed=command.seed)
    drawing.save_comparison(x, film, command.out)
    print(command.out)


def classify(arguments: Sequence[str]) -> None:
    command = parse(Classify, "classify", arguments)
    positive(command.n, "-n")
    import torch

    from drawnet import drawing, figures
    from drawnet.classification import Classifies
    from drawnet.evaluate import prepare
    from drawnet.models.glimpse import Glimpse

    suffix(command.out, figures.ANIMATIONS)
    model = trained(command.run)
    network = model.network
    if not isinstance(network, Classifies):
        raise UserError(f"{command.run} holds no classifier: it was trained to draw")
    if command.out and not isinstance(network, Glimpse):
        raise UserError(f"{command.run} looks through no window: leave out --out")
    if command.image:
        names = [str(path) for path in command.image]
        x = drawing.read_pictures(command.image, network, binary=False, invert=command.invert)
    else:
        data = dataset(model.run, command.data_dir)
        fits(model, data)
        images = data.splits["test"][: command.n]
        x = prepare(torch.from_numpy(images.pixels[:]), data.levels, None)
        truth = [] if images.labels is None else images.labels.tolist()
        names = [f"test image {k} ({label})" for k, label in enumerate(truth)]
    for name, p in zip(names, network.classify(x), strict=True):
        print(f"{name}: {int(p.argmax())} ({100 * p.max():.1f} %)")
    if command.out and isinstance(network, Glimpse):
        figures.save_animation(figures.drawing(drawing.looking_film(network, x)), command.out)
        print(command.out)


def record(arguments: Sequence[str]) -> None:
    command = parse(Record, "record", arguments)
    from drawnet import checkpoint, records

    values = records.made(command.run, command.evaluation, command.commit)
    checkpoint.write_text(command.out, json.dumps(values, indent=1) + "\n")
    print(command.out)


def results(arguments: Sequence[str]) -> None:
    command = parse(Results, "results", arguments)
    from drawnet import checkpoint, records

    found = records.read(command.record)
    if command.out:
        checkpoint.write_text(command.out, records.page(found))
        print(command.out)
    else:
        print(records.table(found), end="")


def compare(arguments: Sequence[str]) -> None:
    command = parse(Compare, "compare", arguments)
    from drawnet import checkpoint
    from drawnet.compare import Plan, page, rows, values

    suffix(command.out, [".md", ".json"])
    plan = Plan(command.samples, command.images, command.importance_samples, command.seed)
    found = rows(
        command.run,
        lambda run: dataset(run, command.data_dir),
        plan,
        command.classifier,
        progress=sys.stderr.isatty(),
    )
    text = page(found, plan)
    if command.out:
        told = json.dumps(values(found, plan), indent=1) + "\n"
        checkpoint.write_text(command.out, text if command.out.suffix == ".md" else told)
    print(text, end="")


def ablate(arguments: Sequence[str]) -> None:
    if unnamed("ablate", arguments):
        print("\nvariants of DRAW's recipes:")
        print_table(listing.variants())
        return
    from drawnet import recipes

    name, *rest = arguments
    run = recipes.get(name)
    kind: Any = Ablate[type(run.model)]  # type: ignore[misc]
    command: Ablate[Any] = parse(kind, f"ablate {name}", rest, default=Ablate(run))
    positive(command.seeds, "--seeds")
    positive(command.jobs, "--jobs")
    for setting in ("examples", "seed", "evaluate_every", "save_every"):
        if getattr(command.run, setting) != getattr(run, setting):
            flag = setting.replace("_", "-")
            raise UserError(
                f"--{flag} follows from --images or --minutes and --seeds: leave it out"
            )
    from drawnet import study
    from drawnet.train import check_pixels

    chosen = study.Study(
        command.run,
        study.Budget(command.minutes, command.images),
        command.out or Path("runs") / f"ablate-{name}",
        command.variants,
        command.seeds,
        command.split,
        command.jobs,
        command.data_dir,
    )
    study.planned(chosen)
    check(command.run)
    check_pixels(command.run, dataset(command.run, command.data_dir).levels)
    done = study.pursue(chosen)
    print(f"{chosen.folder / 'table.md'}, .json, .svg")
    if not done:
        sys.exit(130)


def demo(arguments: Sequence[str]) -> None:
    command = parse(Demo, "demo", arguments)
    from drawnet import serve

    serve.serve(command.run, command.host, command.port, show=not command.no_open)


def fetch(arguments: Sequence[str]) -> None:
    command = parse(Fetch, "fetch", arguments)
    from drawnet.fetch import fetch as download

    for path in download(command.dataset, command.data_dir):
        print(path)


def show(arguments: Sequence[str]) -> None:
    if arguments:
        raise UserError("drawnet list takes no options")
    print("models")
    print_table(listing.models())
    if bundled := listing.weights():
        print("\ntrained models, by name wherever a RUN is asked for")
        print_table({name: str(path) for name, path in bundled.items()})
    print("\ndata sets (or the path of a folder or file of images)")
    print_table({name: listing.title(tree) for name, tree in listing.files("data").items()})
    print("\nrecipes")
    print_table({name: title for name, (_, title) in listing.recipes().items()})


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    "train": train,
    "evaluate": evaluate,
    "sample": sample,
    "reconstruct": reconstruct,
    "classify": classify,
    "record": record,
    "results": results,
    "compare": compare,
    "ablate": ablate,
    "demo": demo,
    "fetch": fetch,
    "list": show,
}


# ---- what the commands share --------------------------------------------------------------------


def parse(kind: type[T], name: str, arguments: Sequence[str], default: Any = None) -> T:
    """A command's dataclass from its arguments; UserError in one line if they are wrong."""
    prog, options = f"drawnet {name}", (tyro.conf.FlagCreatePairsOff,)
    given = {} if default is None else {"default": default}
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(kind, prog=prog, args=list(arguments), config=options, **given)  # type: ignore[no-any-return]
    except SystemExit as end:
        if not end.code:
            raise
        raise UserError(f"{prog}: {condensed(said.getvalue())}") from None


def condensed(box: str) -> str:
    """One line of what tyro says in a box: the message, and the flag it takes you to have meant."""
    lines = [re.sub(r"[─-]{5,}|[│╭╮╰╯]", "", line).strip() for line in box.splitlines()]
    text = " ".join(line for line in lines[1:] if line)
    message = re.split(r"Perhaps you meant|Argument helptext|For full helptext", text)[0].strip(
        " :"
    )
    meant = re.search(r"Perhaps you meant:\s+(\S+)", text)
    return message + (f"; did you mean {meant[1]}?" if meant else "")


def positive(value: int | None, flag: str) -> None:
    if value is not None and value < 1:
        raise UserError(f"{flag} must be at least 1, not {value}")


def suffix(path: Path | None, *kinds: Iterable[str]) -> None:
    """UserError, before any work is done, if a file's suffix is none of these."""
    known = [name for kind in kinds for name in kind]
    if path and path.suffix.lower() not in known:
        raise UserError(f"{path} should end in {', '.join(known)}")


def trained(path: Path) -> "Model":
    from drawnet import checkpoint

    return checkpoint.load_model(path)


def dataset(run: Run[Any], data_dir: Path | None) -> "Dataset":
    """The run's data set, with the options that it takes."""
    from drawnet import data

    d = run.data
    options: dict[str, Any] = {k: v for k, v in (("size", d.size), ("grey", d.grey)) if v}
    words: dict[str, Any] = {"true": True, "false": False}
    options |= {k: int(v) if v.isdecimal() else words.get(v, v) for k, v in d.options.items()}
    return data.load(d.name, data_dir, **options)


def fits(model: "Model", data: "Dataset") -> None:
    if tuple(data.shape) != model.network.shape:
        raise UserError(
            f"{data.name} has images of {data.shape}, the model draws {model.network.shape}"
        )


def print_table(rows: dict[str, str]) -> None:
    width = max(map(len, rows), default=0)
    for name, title in rows.items():
        print(f"  {name:<{width}}  {title}")


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point: exit status 0, 2 for what the user can mend, 130 for a run stopped early."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if not words or words[0] in ("-h", "--help", "help"):
            print(HELP, end="")
        elif words[0] == "--version":
            print(f"drawnet {__version__}")
        else:
            COMMANDS[listing.choose("command", words[0], COMMANDS)](words[1:])
    except UserError as what:
        print(f"drawnet: {what}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("drawnet: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
