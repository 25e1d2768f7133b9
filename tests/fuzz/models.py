"""Model files, checkpoints, and what a run's folder and a study hold."""

import contextlib
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from safetensors.torch import save

from conftest import make_data, make_run, small
from drawnet import ablation, cli, models
from drawnet.ablation import study
from drawnet.data.config import Data
from drawnet.errors import UserError
from drawnet.training import checkpoint, loop
from fuzz.harness import Box, Fault, called, command, damage, dumps, kind, mutate

FLOAT8 = torch.float8_e4m3fn
TYPES = [torch.float64, torch.bfloat16, torch.int64, torch.bool, torch.uint8, FLOAT8]


def make_models(box: Box) -> None:
    """A small model of every kind."""
    for name in models.names():
        config = small(name)
        if hasattr(config, "classes") and name in ("glimpse", "convnet"):
            config = replace(config, classes=10)
        torch.manual_seed(0)
        with contextlib.suppress(UserError):
            network = models.build(config, (1, 8, 8))
            run = replace(make_run(), model=config, data=Data("digits"))
            facts = {"examples": 16, "valid_nats": 12.5, "seconds": 1.0, "cpu_seconds": 1.0,
                     "made": {"commit": "x", "processor": "y"}}  # fmt: skip
            checkpoint.save_model(box.shared / f"{name}.safetensors", network, run, facts)
    box.made["files"] = sorted(box.shared.glob("*.safetensors"))


def written(path: Path, tensors: dict[str, torch.Tensor], header: Any) -> None:
    """A safetensors file with this header, and the digest that belongs to the tensors."""
    if isinstance(header, dict) and "digest" not in header:
        header = {**header, "digest": checkpoint.digest(tensors)}
    path.write_bytes(save(tensors, {checkpoint.KEY: dumps(header)}))


def odd_tensor(data: st.DataObject, tensors: dict[str, torch.Tensor]) -> str:
    """Change a tensor's shape, type or values, or which tensors there are."""
    name = data.draw(st.sampled_from(sorted(tensors)))
    t = tensors[name]
    match data.draw(st.sampled_from(["type", "shape", "drop", "add", "nan", "empty"])):
        case "type":
            dtype = data.draw(st.sampled_from(TYPES))
            tensors[name] = t.to(dtype)
            return f"{name} as {dtype}"
        case "shape":
            tensors[name] = t.flatten()[: max(1, t.numel() // 2)].clone()
        case "drop":
            del tensors[name]
        case "add":
            tensors[name + data.draw(st.sampled_from(["", ".x", "\n"]))] = torch.zeros(2)
        case "nan":
            tensors[name] = torch.full_like(t, torch.nan) if t.is_floating_point() else t
        case "empty":
            tensors[name] = torch.zeros(0)
    return f"{name} {tuple(t.shape)} changed"


USES = [
    ["sample", "@", "-n", "1", "--batch", "1", "--out", "o.png", "--kernels", "off"],
    ["reconstruct", "@", "p.png", "--out", "o.png"],
    ["evaluate", "@", "--images", "1", "--kernels", "off"],
    ["classify", "@", "p.png"],
    ["demo", "@", "--no-open"],
    ["record", "@", "--out", "o.json"],
]


def used(box: Box, data: st.DataObject, path: str) -> str:
    """Give a model's file to one of the commands that take one."""
    from PIL import Image

    import record
    from drawnet.demo import server

    Image.new("L", (8, 8), 255).save("p.png")
    words = [path if word == "@" else word for word in data.draw(st.sampled_from(USES))]
    box.note(box.case, "|", words[0])
    if words[0] == "record":
        return command(box, words[1:], lambda w: cli.guarded(record.main, w))
    if words[0] == "demo":

        def about(paths: Any, *_: Any, **__: Any) -> None:
            json.dumps([e.about for e in server.exhibited(paths).values()], allow_nan=False)

        real, server.serve = server.serve, about
        try:
            return command(box, words)
        finally:
            server.serve = real
    return command(box, words)


PLAIN = {"run", "shape"}
"""What of a header decides how a model is built; the rest describes it."""


@kind(900, make_models)
def headers_of_models(data: st.DataObject, box: Box) -> str:
    path = data.draw(st.sampled_from(box.made["files"]))
    tensors, header = checkpoint.load_tensors(path)
    header, what, typed = mutate(data, header, lambda at: False)
    box.note(path.stem, what)
    written(box.here / "m.safetensors", tensors, header)
    outcome = used(box, data, "m.safetensors")
    if outcome == "accepted" and typed and ("'run'" in what or "'shape'" in what):
        raise Fault("a value of another type was taken")
    return outcome


@kind(400, make_models)
def tensors_of_models(data: st.DataObject, box: Box) -> str:
    path = data.draw(st.sampled_from(box.made["files"]))
    tensors, header = checkpoint.load_tensors(path)
    box.note(path.stem, odd_tensor(data, tensors))
    written(box.here / "m.safetensors", tensors, header)
    return used(box, data, "m.safetensors")


@kind(400, make_models)
def bytes_of_models(data: st.DataObject, box: Box) -> str:
    path = data.draw(st.sampled_from(box.made["files"]))
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    spoilt = damage(data, raw, data.draw(st.sampled_from([0, 8, start])))
    box.note(path.stem)
    Path("m.safetensors").write_bytes(spoilt)
    outcome = used(box, data, "m.safetensors")
    if outcome == "accepted" and spoilt[:start] == raw[:start] and spoilt != raw:
        raise Fault("damaged tensors were taken")
    return outcome


# ---- checkpoints --------------------------------------------------------------------------------


def make_checkpoint(box: Box) -> None:
    run = replace(make_run(), decay="none", examples=80)
    with contextlib.redirect_stderr(io.StringIO()):
        loop.train(run, make_data(), box.shared / "run", kernels="off")
    box.made["tensors"] = checkpoint.load_tensors(box.shared / "run" / "training.safetensors")


@kind(350, make_checkpoint)
def checkpoints(data: st.DataObject, box: Box) -> str:
    import shutil

    tensors, header = box.made["tensors"]
    tensors, typed = dict(tensors), False
    if data.draw(st.booleans()):
        header, what, typed = mutate(data, header, lambda at: False)
    else:
        what = odd_tensor(data, tensors)
    box.note(what)
    shutil.copytree(box.shared / "run", "run")
    written(box.here / "run" / "training.safetensors", tensors, header)
    before = Path("run/training.safetensors").read_bytes()
    run = replace(make_run(), decay="none", examples=96)

    def resume() -> None:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            loop.train(run, make_data(), Path("run"), resume=True, kernels="off")

    outcome = called(resume, errors=(UserError,))
    if outcome == "accepted" and typed and "'made'" not in what:
        raise Fault("a value of another type was taken")
    if outcome == "refused" and Path("run/training.safetensors").read_bytes() != before:
        raise Fault("the checkpoint was written over")
    return outcome


# ---- JSON beside models -------------------------------------------------------------------------


def make_records(box: Box) -> None:
    records = Path(__file__).parents[2] / "docs" / "records"
    box.made["records"] = [json.loads(p.read_text()) for p in sorted(records.glob("*.json"))]
    make_checkpoint(box)


@kind(500, make_records)
def records(data: st.DataObject, box: Box) -> str:
    import results

    record, what, _ = mutate(
        data, data.draw(st.sampled_from(box.made["records"])), lambda at: False
    )
    box.note(what)
    Path("r.json").write_text(dumps(record))
    words = data.draw(st.sampled_from([["r.json"], ["r.json", "--out", "page.md"]]))
    return command(box, words, lambda w: cli.guarded(results.main, w))


EVALUATION = {
    "dataset": "digits", "split": "test", "images": 8, "elbo_nats": 90.5, "elbo_stderr": 1.0,
    "rate_nats": 20.0, "distortion_nats": 70.5, "bits_per_dim": 0.2, "iw_nats": None, "exact": False,
    "importance_samples": None, "cross_entropy_cost_nats": None, "kl_per_step": [1.0, 2.0],
}  # fmt: skip


@kind(350, make_records)
def metrics_and_evaluations(data: st.DataObject, box: Box) -> str:
    import shutil

    import record
    import results

    shutil.copytree(box.shared / "run", "run")
    evaluation, what = EVALUATION, ""
    if data.draw(st.booleans()):
        evaluation, what, _ = mutate(data, EVALUATION, lambda at: False)
    else:
        lines = Path("run/metrics.jsonl").read_text().splitlines()
        at = data.draw(st.integers(0, len(lines) - 1))
        if data.draw(st.booleans()):
            values, what, _ = mutate(data, json.loads(lines[at]), lambda at: False)
            lines[at] = dumps(values)
            Path("run/metrics.jsonl").write_text("\n".join(lines) + "\n")
        else:
            raw = damage(data, Path("run/metrics.jsonl").read_bytes())
            Path("run/metrics.jsonl").write_bytes(raw)
            what = "damaged metrics"
    box.note(what)
    Path("e.json").write_text(dumps(evaluation))
    words = ["run", "e.json", "--out", "r.json"]
    outcome = command(box, words, lambda w: cli.guarded(record.main, w))
    if outcome == "accepted":
        outcome = command(box, ["r.json", "--out", "p.md"], lambda w: cli.guarded(results.main, w))
    return outcome


def make_study(box: Box) -> None:
    """A finished study, as its files say."""
    folder = box.shared / "study"
    words = ["ablate", "digits_quick", "--images", "8", "--variants", "no_read", "--seeds", "1"]
    box.made["words"] = [*words, "--out", "study"]
    study.run_jobs = lambda *_: {}
    with contextlib.redirect_stdout(io.StringIO()):
        cli.main([*words, "--out", str(folder)])
    result = {
        "dataset": "digits", "split": "valid", "images": 8, "examples": 8, "best_at": 8, "skipped": 0,
        "measures": {k: {"mean": 9.0, "stderr": 1.0} for k in ("nats", "rate", "distortion")},
        "parameters": 9, "cpu_seconds": 1.0, "images_per_second": 8.0,
    }  # fmt: skip
    for name in ("baseline", "no_read"):
        (folder / f"{name}-seed0").mkdir()
        (folder / f"{name}-seed0" / "valid.json").write_text(json.dumps(result))
    assert "no_read" in ablation.titles()


@kind(300, make_study)
def studies(data: st.DataObject, box: Box) -> str:
    import shutil

    shutil.copytree(box.shared / "study", "study")
    path = data.draw(
        st.sampled_from(["study.json", "baseline-seed0/valid.json", "no_read-seed0/valid.json"])
    )
    file = Path("study") / path
    if data.draw(st.booleans()):
        values, what, _ = mutate(data, json.loads(file.read_text()), lambda at: False)
        file.write_text(dumps(values))
    else:
        file.write_bytes(damage(data, file.read_bytes()))
        what = "damaged"
    box.note(path, what)
    return command(box, box.made["words"])
