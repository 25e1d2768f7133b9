"""Nothing that is read back is believed: every field of every kind, each with values that it is not."""

import json
import sys
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass, replace
from typing import Any, get_args, get_type_hints

import pytest
import torch
from safetensors.torch import save_file

import records
from conftest import make_run, small
from drawnet import models
from drawnet.ablation import jobs, study, table
from drawnet.data.manifest import Manifest
from drawnet.errors import UserError, schema
from drawnet.evaluation import classifier, compare
from drawnet.evaluation.likelihood import Evaluation, Measure
from drawnet.training import checkpoint, provenance, run_dir, state
from drawnet.training.config import Run, to_json
from drawnet.training.state import Progress, Session

RUN = make_run()
MANIFEST = Manifest("ab", 2, (1, 8, 8), "cd", {"train": 60}, ("a", "b"), "/x")
MADE = provenance.Metadata("0.2", "abc", "2.13", "cpu", "cpu", 1)
BOUND = Evaluation(
    "x", "test", 9, 80.0, 0.5, 20.0, 60.0, 5, 79.0, 0.1, [20.0], 90.0, True, 0.5, 0.1, 50, 79.5, 0.5, 0.1
)  # fmt: skip
RESULT = table.Result(
    "x", "valid", 9, {k: Measure(1.0, 0.1, 0.2) for k in ("nats", "rate", "distortion")},
    640, 640, 0, 99, 1.5, 9.5,
)  # fmt: skip
KINDS = {
    "checkpoint": state.Header(RUN, Progress(sums={"nats": 1.0}, steps=2), MANIFEST),
    "model": checkpoint.Header(RUN, (1, 8, 8), 160, {"nats": 9.5}, 1.5, 2.5, True, MANIFEST, MADE),
    "classifier": classifier.Header(classifier.ClassifierConfig((1, 8, 8), 10), "ab", True, 0.9),
    "metrics": run_dir.Metrics(8, 1.5, 1.5, {"nats": 9.5}),
    "study": study.Head(images=64, run=RUN),
    "rate": jobs.Rate(9.5, 640),
    "job": jobs.Job(RUN, "out", 1.5, "data", "valid"),
    "result": RESULT,
    "comparison": records.Comparison(
        compare.Plan(importance_samples=5),
        [compare.Row("run", "draw", "x", {"bound": compare.Figure(1.0, "1", 0.1, "")})],
    ),
    "record": records.Record(
        "mnist", "drawnet train mnist", "80", 99, 640, 1.5, 1.5, MADE,
        records.Source("x", "MIT", "ab", 2),
        [BOUND, records.Measured("x", "test", 9, {"error": Measure(0.1, 0.01, 0.1)}, 7, 2)],
        [(1, 1.5, 2.5)], RUN, records.Check("digits", "test", 9, 80.0),
    ),
    **{kind: replace(RUN, model=small(kind)) for kind in models.names()},
}  # fmt: skip
"""What is read back, by the file that holds it; runs of every model."""
WRONG = ["1.5", True, None, 5, 1.5, -1, [], {}, float("nan"), [[]], {"a": {}}]


def values_of(kind):
    """JSON values, with every run as it is written."""

    def written(value: Any) -> Any:
        if isinstance(value, Run):
            return to_json(value)
        if is_dataclass(value):
            return {f.name: written(getattr(value, f.name)) for f in fields(value)}
        if isinstance(value, list | tuple):
            return [written(v) for v in value]
        return {k: written(v) for k, v in value.items()} if isinstance(value, dict) else value

    return json.loads(json.dumps(written(KINDS[kind])))


def places(values, path=()):
    """The path of every value, however deep."""
    pairs = (
        values.items()
        if isinstance(values, dict)
        else enumerate(values)
        if isinstance(values, list)
        else ()
    )
    for key, value in pairs:
        yield (*path, key)
        yield from places(value, (*path, key))


def changed(values, path, value):
    copy = json.loads(json.dumps(values))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return copy


def same_type(old, new):
    """Whether JSON's types agree, an integer being a number too."""
    if isinstance(old, bool) or isinstance(new, bool):
        return type(old) is type(new)
    return type(old) is type(new) or (isinstance(old, float) and isinstance(new, int))


def inside(kind, path):
    """What lies at a path."""
    of = KINDS[kind]
    for key in path:
        of = of[key] if isinstance(of, dict | list | tuple) else getattr(of, str(key), None)
    return of


def optional(kind, path):
    """Whether null stands there for 'not known'."""
    parent = inside(kind, path[:-1])
    if isinstance(parent, records.Measured) and path[-1] not in vars(parent):
        return False
    hints = get_type_hints(type(parent)) if is_dataclass(parent) else {}
    return type(None) in get_args(hints.get(path[-1]))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_read(kind):
    found = schema.convert(values_of(kind), type(KINDS[kind]), "file")
    assert found == KINDS[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_no_field_of_any_file_takes_another_type(kind):
    """… and says which file, which field and which value in one line."""
    values, cases = values_of(kind), 0
    for path in places(values):
        if kind in models.names() and path[0] != "model":  # of every run alike
            continue
        old = values
        for key in path:
            old = old[key]
        for wrong in WRONG:
            if same_type(old, wrong) or (wrong is None and optional(kind, path)):
                continue
            if path[-1] == "size" and wrong == 5:  # a side, or two
                continue
            cases += 1
            with pytest.raises(UserError) as caught:
                schema.convert(changed(values, path, wrong), type(KINDS[kind]), "the file")
            line = str(caught.value)
            assert line.startswith("the file: ") and "\n" not in line and len(line) < 300, line
            field = next(key for key in reversed(path) if isinstance(key, str))
            assert field in line or "kind" in path, (path, line)
    assert cases


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_that_no_field_has_is_named(kind):
    values = values_of(kind)
    for path in [(), *places(values)]:
        of = inside(kind, path)
        if is_dataclass(of) and not isinstance(of, records.Measured):  # takes any measure
            with pytest.raises(UserError, match="colour is unknown to this version of drawnet"):
                schema.convert(changed(values, (*path, "colour"), 1), type(KINDS[kind]), "file")


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_field_is_named(kind):
    values, of = values_of(kind), type(KINDS[kind])
    for field in fields(of):
        if field.default is MISSING and field.default_factory is MISSING:
            rest = {k: v for k, v in values.items() if k != field.name}
            with pytest.raises(UserError, match=f"file: {field.name} is missing"):
                schema.convert(rest, of, "file")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("whole", [None, [], 5, "x", True])
def test_a_file_is_an_object(kind, whole):
    with pytest.raises(UserError, match=r"file is .*; it must be an object"):
        schema.convert(whole, type(KINDS[kind]), "file")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"a": 1} {}',
        10_000 * b"[" + 10_000 * b"]",
        b'{"a":' * 10_000,
        b"\x00",
    ],
)
def test_what_is_no_json_is_one_line(text, tmp_path):
    path = tmp_path / "file.json"
    path.write_bytes(text)
    with pytest.raises(UserError, match=r"file\.json is not JSON: ") as caught:
        schema.read(path, Run)
    assert "\n" not in str(caught.value)


def test_a_folder_or_nothing_is_no_file(tmp_path):
    for path, why in ((tmp_path, "is a folder"), (tmp_path / "x", "is not there")):
        with pytest.raises(UserError, match=why):
            schema.read(path, Run)


def test_a_path_that_is_not_utf8_is_itself():
    for name in ("\udcc3tudes", "études", "\U0001f600", "a\udcffb"):
        run = replace(RUN, data=replace(RUN.data, name=name, options={"which": name}))
        assert schema.convert(schema.parse(json.dumps(to_json(run)), "file"), Run, "file") == run


def test_integers_are_numbers_and_numbers_no_integers():
    run = schema.convert(to_json(RUN) | {"lr": 1}, Run, "file")
    assert type(run.lr) is float and run.lr == 1
    with pytest.raises(UserError, match=r"file: batch is 8\.0; it must be a valid integer"):
        schema.convert(to_json(RUN) | {"batch": 8.0}, Run, "file")


def test_a_model_of_ones_own_is_checked_too(monkeypatch):
    @dataclass(frozen=True)
    class Config:
        sides: tuple[int, int] = (3, 4)
        share: float = 0.5

    class Own(models.module("vae").Model):
        pass

    Own.Config = Config
    home = sys.modules[__name__]
    monkeypatch.setattr(home, "Own", Own, raising=False)
    run = replace(RUN, model=Config())
    values = json.loads(json.dumps(to_json(run)))
    assert schema.convert(values, Run, "file") == run
    for wrong, said in (
        ({"share": "x"}, "model.share"),
        ({"sides": [1]}, "model.sides.1 is missing"),
    ):
        with pytest.raises(UserError, match=said):
            schema.convert(values | {"model": values["model"] | wrong}, Run, "file")


# ---- files --------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "model.safetensors"
    checkpoint.save_model(path, models.build(RUN.model, (1, 8, 6)), RUN, {"examples": 5})
    return path


def with_header(path, header, **tensors):
    held = checkpoint.load_tensors(path)[0] | tensors
    text = header if isinstance(header, str) else json.dumps(header)
    save_file(held, path, {checkpoint.KEY: text})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: [], r"is \[\]; it must be an object"),
        (lambda h: 10_000 * "[" + 10_000 * "]", "is not JSON"),
        (lambda h: h | {"shape": ["x", 28, 28]}, r'shape\.0 is "x"; it must be a valid integer'),
        (lambda h: h | {"shape": [1, 28]}, "shape"),
        (lambda h: h | {"shape": [1, -8, 6]}, "shape.1 is -8"),
        (lambda h: h | {"run": h["run"] | {"data": {"options": None}}}, "run.data.options is null"),
        (lambda h: h | {"seconds": "x"}, 'seconds is "x"'),
        (lambda h: h | {"valid_nats": "x"}, 'valid.nats is "x"'),
        (lambda h: h | {"shape": [1, 10**9, 10**9]}, "does not fit|more than any machine"),
        (lambda h: h["run"]["model"].update(units=10**9) or h, "fit|more than"),
    ],
)  # fmt: skip
def test_a_header_is_checked_before_a_model_is_built(saved, change, message):
    with_header(saved, change(checkpoint.load_tensors(saved)[1]))
    with pytest.raises(UserError, match=message) as caught:
        checkpoint.load_model(saved)
    assert str(saved) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["float8_e4m3fn", "float8_e5m2", "int32", "bool"])
def test_tensors_of_another_type_are_named(saved, kind):
    header = checkpoint.load_tensors(saved)[1]
    with_header(saved, header, c=torch.zeros(1, 8, 6).to(getattr(torch, kind)))
    with pytest.raises(UserError, match=f"'c' is torch.{kind}, not torch.float32"):
        checkpoint.load_model(saved)


def test_a_position_between_two_batches_is_none(tiny_run, tiny_data, tmp_path):
    session = Session.fresh(tiny_run, torch.from_numpy(tiny_data.splits["train"].pixels), 2)
    session.progress.examples_seen = 3
    session.save(tmp_path / "x.safetensors")
    with pytest.raises(
        UserError, match=r"examples_seen is 3; it must be a multiple of the batch, 8"
    ):
        session.load(tmp_path / "x.safetensors")


LINE = b'{"examples": 8, "seconds": 0.1, "cpu_seconds": 0.1, "train_nats": 9.5}\n'


@pytest.mark.parametrize("cut", range(1, len(LINE) - 1))
def test_a_line_that_a_kill_has_cut_is_left_out(cut, tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(LINE + LINE[:cut])
    assert [m.values for _, m in run_dir.read_metrics(path)] == [{"train_nats": 9.5}]
    run_dir.open_metrics(path, 8).close()
    assert path.read_bytes() == LINE


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"5", "line 1 is 5; it must be an object"),
        (b"\xff\xfe", "line 1 is not JSON"),
        (LINE + b"{\n" + LINE, "line 2 is not JSON"),
        (LINE + b'{"examples": "x"}\n', 'line 2: examples is "x"'),
        (b'{"seconds": 1.0}\n', "line 1: examples is missing"),
        (b'{"examples": 8, "nats": [1]}\n', r"line 1: values.nats is \[1\]"),
    ],
)
def test_metrics_that_are_none_are_named(content, message, tiny_run, tiny_data, tmp_path):
    from drawnet.training import loop

    (tmp_path / "metrics.jsonl").write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        loop.train(tiny_run, tiny_data, tmp_path)
    assert "metrics.jsonl" in str(caught.value)
    assert (tmp_path / "metrics.jsonl").read_bytes() == content


def test_metrics_that_are_a_folder_are_named(tiny_run, tiny_data, tmp_path):
    from drawnet.training import loop

    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(UserError, match=r"metrics\.jsonl.* is a folder: name a file"):
        loop.train(tiny_run, tiny_data, tmp_path)


def test_settings_in_python_are_checked_as_those_of_a_file():
    for wrong in ("x", True, 1.5, None, 0):
        with pytest.raises(UserError, match="--batch is"):
            replace(RUN, batch=wrong)
    assert asdict(replace(RUN, lr=1))["lr"] == 1
