"""Loggers: what each has kept is read back by its own library, and none of them reaches the network."""

import json
import sys
from dataclasses import replace

import pytest

from drawnet.errors import UserError
from drawnet.training import loggers, loop
from drawnet.training.run_dir import read_metrics


def written(folder):
    """The last line of metrics.jsonl."""
    return read_metrics(folder / "metrics.jsonl")[-1][1]


def test_tensorboard_has_every_metric_once(tiny_run, tiny_data, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = replace(tiny_run, decay="none")
    for examples in (80, 160):
        args = replace(run, examples=examples), tiny_data, tmp_path / "run"
        loop.train(*args, resume=True, log=["tensorboard"])
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    last = written(tmp_path / "run")
    for name, value in last.values.items():
        found = events.Scalars(name)
        assert found[-1].step == last.examples and found[-1].value == pytest.approx(value), name
        assert len({event.step for event in found}) == len(found)


def test_mlflow_keeps_a_run_in_the_folder(tiny_run, tiny_data, tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    loop.train(tiny_run, tiny_data, tmp_path / "run", log=["mlflow"])
    from mlflow import MlflowClient

    client = MlflowClient((tmp_path / "run" / "mlruns").as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("drawnet").experiment_id])
    last = written(tmp_path / "run")
    assert run.info.status == "FINISHED" and run.info.run_name == "run"
    assert run.data.params["model.units"] == "12" and run.data.params["lr"] == "0.001"
    for name, value in last.values.items():
        kept = client.get_metric_history(run.info.run_id, name)[-1]
        assert (kept.step, kept.value) == (last.examples, value), name


def test_wandb_keeps_a_run_offline(tiny_run, tiny_data, tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")
    loop.train(tiny_run, tiny_data, tmp_path / "run", log=["wandb"])
    wandb.teardown()
    (file,) = (tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb")
    text = file.read_bytes()
    for word in (b"valid_nats", b"train_rate", b"latents", b"tiny"):
        assert word in text, word


class Recorded:
    """What a logger takes."""

    def __init__(self):
        self.lines, self.closed = [], False

    def log(self, step, metrics):
        self.lines.append((step, dict(metrics)))

    def close(self):
        self.closed = True


def test_ones_own_logger_takes_the_lines_of_metrics_jsonl(tiny_run, tiny_data, tmp_path):
    mine = Recorded()
    loop.train(tiny_run, tiny_data, tmp_path / "run", log=[mine])
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [metrics for _, metrics in mine.lines] == [json.loads(line) for line in lines]
    assert all(step == metrics["examples"] for step, metrics in mine.lines) and mine.closed


def test_a_full_disk_ends_the_logging_only(tiny_run, tiny_data, tmp_path, capsys):
    class Full(Recorded):
        def log(self, step, metrics):
            raise OSError(28, "No space left on device")

    full, sound = Full(), Recorded()
    progress = loop.train(tiny_run, tiny_data, tmp_path / "run", log=[full, sound])
    assert progress.examples_seen == tiny_run.examples and full.closed
    assert capsys.readouterr().err.count("Full takes no more metrics: No space left") == 1
    assert sound.lines[-1][0] == written(tmp_path / "run").examples == tiny_run.examples


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_missing_extra_is_said_before_any_work(name, tiny_run, tiny_data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, loggers.MODULES[name], None)
    with pytest.raises(
        UserError, match=rf"--log {name} needs an extra: pip install 'drawnet\[{name}"
    ):
        loop.train(tiny_run, tiny_data, tmp_path / "run", log=[name])
    assert not (tmp_path / "run").exists()
