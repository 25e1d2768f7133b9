"""Every command does its job; everything wrong gets one line and exit status 2."""

import json
import math
import re
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from drawnet import ablation, cli, data, recipes
from drawnet.cli import catalogue
from drawnet.data.config import Data
from drawnet.errors import UserError
from drawnet.evaluation import classifier
from drawnet.training import checkpoint, loop
from reference import drawnet, refused

QUICK = ["--model.steps", 3, "--model.units", 16, "--model.latents", 4, "--model.read", 2]
QUICK += ["--model.write", 3, "--examples", 320, "--batch", 16, "--validation-images", 20]
QUICK += ["--evaluate-every", 160, "--precision", "float32"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder that the command line made from the embedded digits."""
    folder = tmp_path_factory.mktemp("runs") / "quick"
    cli.main([str(w) for w in ["train", "digits_quick", *QUICK, "--out", folder]])
    return folder


def test_help_groups_all_commands_in_one_screen(capsys):
    for words in ([], ["--help"], ["help"]):
        status, out, _ = drawnet(capsys, *words)
        assert (status, out) == (0, cli.overview())
    lines = out.splitlines()
    assert len(lines) <= 26 and max(map(len, lines)) <= 80
    assert sorted(re.findall(r"^  (\w+)", out, re.M)) == sorted(catalogue.commands())
    headings = [line for line in lines if line in catalogue.GROUPS.values()]
    assert headings == [line for line in catalogue.GROUPS.values() if line in headings]
    assert (
        lines.index("Look and make pictures")
        < lines.index("  sample RUN              draw images: a grid, an animation, files, numbers")
        < lines.index("Measure")
    )


def test_a_command_finds_its_group_by_a_line_of_its_file(monkeypatch, tmp_path):
    (tmp_path / "cli").mkdir()
    text = '"""Frame a picture."""\nGROUP, WORDS = "publish", "RUN"\n\ndef main(words):\n    pass\n'
    (tmp_path / "cli" / "frame.py").write_text(text)
    monkeypatch.setattr(catalogue, "PACKAGE", tmp_path)
    assert catalogue.overview() == f"Publish and export\n  {'frame RUN':<23} frame a picture"


@pytest.mark.parametrize("command", ["evaluate", "sample", "reconstruct", "fetch"])
def test_every_command_has_help(capsys, command):
    status, out, err = drawnet(capsys, command, "--help")
    assert (status, err) == (0, "")
    assert f"drawnet {command}" in out


def test_train_help_shows_recipes_and_their_settings(capsys):
    status, out, _ = drawnet(capsys, "train")
    assert status == 0 and all(name in out for name in recipes.names())
    status, out, _ = drawnet(capsys, "train", "mnist", "--help")
    assert status == 0 and "--model.units" in out and "(default: 64)" in out


def test_ablate_help_shows_recipes_variants_and_settings(capsys):
    status, out, _ = drawnet(capsys, "ablate")
    assert status == 0 and all(f"  {name} " in out for name in ablation.titles())
    status, out, _ = drawnet(capsys, "ablate", "mnist", "--help")
    assert status == 0 and "--minutes" in out and "--model.units" in out


def test_the_command_line_starts_without_torch():
    code = "import sys; from drawnet import cli; cli.main(['--help']); cli.main(['list']);"
    code += "sys.exit(1 if 'torch' in sys.modules or 'numpy' in sys.modules else 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert done.returncode == 0


def test_list_shows_all_there_is(capsys):
    status, out, _ = drawnet(capsys, "list")
    assert status == 0
    for name in ("draw", "digits", "binarized_mnist", "mnist_no_attention"):
        assert re.search(rf"^  {name} +\S", out, re.M)


def test_train_leaves_a_run(run):
    names = {p.name for p in run.iterdir()}
    assert names >= {"model.safetensors", "training.safetensors", "metrics.jsonl", "samples"}
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["examples"] == 320
    assert len([row for row in rows if "valid_nats" in row]) == 2
    sheets = sorted((run / "samples").iterdir())
    assert [p.name for p in sheets] == ["0000000160.png", "0000000320.png"]


def test_evaluate_writes_the_promised_keys(capsys, run, tmp_path):
    path = tmp_path / "deep" / "evaluation.json"
    words = ["evaluate", run, "--split", "test", "--importance-samples", 3, "--json", "--out", path]
    status, out, _ = drawnet(capsys, *words)
    assert status == 0
    result = json.loads(out)
    assert json.loads(path.read_text()) == result
    keys = "dataset split images elbo_nats elbo_stderr rate_nats distortion_nats"
    keys += " importance_samples iw_nats bits_per_dim kl_per_step"
    assert set(keys.split()) <= set(result)
    assert (result["dataset"], result["split"], result["images"]) == ("digits", "test", 500)
    assert len(result["kl_per_step"]) == 3
    assert result["iw_nats"] < result["elbo_nats"]


def test_evaluate_says_it_in_lines(capsys, run):
    status, out, _ = drawnet(capsys, "evaluate", run, "--images", 20, "--importance-samples", 2)
    assert status == 0
    assert re.search(r"digits, test: 20 images\nbound +\d+\.\d\d ± \d+\.\d\d nats\n", out)
    gap = r" ± \d+\.\d\d nats, -?\d+\.\d\d ± \d+\.\d\d below the bound"
    assert re.search(rf"K = 2 +\d+\.\d\d{gap}", out)


def test_sample_draws_the_same_from_the_same_seed(capsys, run, tmp_path):
    for name, batch, option in (("a", 64, "--trajectory"), ("b", 5, "--film")):  # its former name
        out = [tmp_path / f"{name}.npz", option, tmp_path / f"{name}.gif"]
        out += ["--stages", tmp_path / f"{name}.png", "--batch", batch]
        status, said, _ = drawnet(capsys, "sample", run, "-n", 12, "--seed", 3, "--out", *out)
        assert status == 0 and said.count("\n") == 3
    a, b = (np.load(tmp_path / f"{name}.npz")["images"] for name in "ab")
    assert a.shape == (12, 1, 28, 28)
    np.testing.assert_allclose(a, b, atol=1e-5)
    drawnet(capsys, "sample", run, "-n", 12, "--seed", 4, "--out", tmp_path / "c.npz")
    assert np.abs(np.load(tmp_path / "c.npz")["images"] - a).max() > 1e-3
    with Image.open(tmp_path / "a.gif") as trajectory:
        assert trajectory.n_frames == 3 + 2


@pytest.fixture(scope="module")
def conditional(tmp_path_factory):
    """A run of a model that is conditional which digit it draws."""
    folder = tmp_path_factory.mktemp("runs") / "conditional"
    words = ["train", "digits_quick", *QUICK, "--model.classes", 10, "--out", folder]
    cli.main([str(w) for w in words])
    return folder


def drawn(capsys, run, folder, *words):
    """The images that `sample` draws, with these further words."""
    path = folder / "drawn.npz"
    status, _, err = drawnet(capsys, "sample", run, "-n", 12, "--out", path, *words)
    assert status == 0, err
    return np.load(path)["images"]


def test_a_conditional_run_is_evaluated_and_drawn_by_label(capsys, conditional, tmp_path):
    status, out, _ = drawnet(
        capsys, "evaluate", conditional, "--images", 20, "--importance-samples", 2
    )
    assert status == 0 and "digits, test: 20 images" in out
    turns = drawn(capsys, conditional, tmp_path)
    every = drawn(capsys, conditional, tmp_path, "--label", *range(10), "--batch", 5)
    np.testing.assert_allclose(turns, every, atol=1e-5)
    sevens = drawn(capsys, conditional, tmp_path, "--label", 7)
    pair = drawn(capsys, conditional, tmp_path, "--label", 7, 0)
    # Noise belongs to the image's number: those of the same label are the same, the others not.
    same = [np.abs(a - b).max() < 1e-5 for a, b in zip(turns, sevens, strict=True)]
    assert [k for k in range(12) if same[k]] == [7]
    same = [np.abs(a - b).max() < 1e-5 for a, b in zip(pair, sevens, strict=True)]
    assert same == [True, False] * 6


def test_the_python_function_takes_labels(conditional, run):
    from drawnet import load, sample

    model = load(conditional)
    images = sample(model, n=4, labels=[3])
    assert torch.equal(images[3], sample(model, n=4)[3])
    assert not torch.equal(images[0], sample(model, n=4)[0])
    with pytest.raises(UserError, match="not conditional"):
        sample(load(run), n=4, labels=[3])


def test_a_conditional_run_reconstructs_by_label(capsys, conditional, tmp_path):
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in paths:
        Image.effect_noise((28, 28), 90).save(path)
    results = []
    for label in ([3], [3, 3], [3, 4]):
        out = tmp_path / "out.png"
        words = [*paths, "--out", out, "--label", *label]
        status, _, err = drawnet(capsys, "reconstruct", conditional, *words)
        assert status == 0, err
        results.append(out.read_bytes())
    assert results[0] == results[1] != results[2]
    for label in ([], ["--label", 1, 2, 3]):
        assert "one for all or one for each" in refused(
            capsys, "reconstruct", conditional, *paths, *label
        )


def test_labels_out_of_place_get_one_line(capsys, conditional, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.effect_noise((28, 28), 90).save("a.png")
    assert "leave out --label" in refused(capsys, "sample", run, "--label", 7)
    assert "leave out --label" in refused(capsys, "reconstruct", run, "a.png", "--label", 7)
    assert "--label 10 is not one of the model's classes, 0 to 9" in refused(
        capsys, "sample", conditional, "--label", 10
    )
    assert "0 to 9" in refused(capsys, "sample", conditional, "--label", -1)
    assert "--label" in refused(capsys, "sample", conditional, "--label", "seven")
    few = ["train", "digits_quick", *QUICK, "--model.classes", 5]
    assert "--model.classes 10" in refused(capsys, *few)
    for k in range(9):
        Image.effect_noise((28, 28), 90).save(f"{k}.png")
    words = ["--data.name", tmp_path, "--model.classes", 2]
    assert "has no labels" in refused(capsys, "train", "digits_quick", *QUICK, *words)
    assert {p.suffix for p in tmp_path.iterdir()} == {".png"}


def test_samples_with_their_neighbours(capsys, run, tmp_path):
    out = ["--out", tmp_path / "s.png", "--neighbours", tmp_path / "n.png"]
    assert drawnet(capsys, "sample", run, "-n", 4, *out)[0] == 0
    with Image.open(tmp_path / "n.png") as picture:
        assert min(picture.size) > 28


def test_a_single_file_is_a_run(capsys, run, tmp_path):
    alone = tmp_path / "model.safetensors"
    alone.write_bytes((run / "model.safetensors").read_bytes())
    assert drawnet(capsys, "sample", alone, "-n", 2, "--out", tmp_path / "x.png")[0] == 0


def test_reconstruct_reads_pictures_of_any_size(capsys, run, tmp_path):
    paths = []
    for k, size in enumerate([(28, 28), (60, 90)]):
        paths.append(tmp_path / f"{k}.png")
        Image.effect_noise(size, 90).convert("RGB").save(paths[-1])
    for name in ("still.png", "film.gif"):
        status, _, err = drawnet(capsys, "reconstruct", run, *paths, "--out", tmp_path / name)
        assert status == 0, err
        with Image.open(tmp_path / name) as picture:
            assert picture.size[0] > 56


def test_a_stopped_run_says_130_and_resumes(capsys, tmp_path, monkeypatch):
    import os
    import signal

    real = loop.train_step

    def once(*arguments):
        monkeypatch.setattr(loop, "train_step", real)
        os.kill(os.getpid(), signal.SIGINT)
        return real(*arguments)

    monkeypatch.setattr(loop, "train_step", once)
    words = ["train", "digits_quick", *QUICK, "--out", tmp_path]
    assert drawnet(capsys, *words)[0] == 130
    assert drawnet(capsys, *words, "--resume")[0] == 0


def test_a_folder_of_mixed_pictures_goes_through_the_same_commands(capsys, tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for k in range(200):
        size = tuple(int(side) for side in rng.integers(9, 60, 2))
        picture = Image.new("RGB", size, tuple(int(v) for v in rng.integers(0, 256, 3)))
        picture.convert("P" if k % 5 == 0 else "RGB").save(folder / f"{k}.png")
    out = tmp_path / "run"
    small = ["--model.steps", 3, "--model.units", 16, "--model.latents", 4, "--batch", 16]
    small += ["--examples", 160, "--data.size", 16]
    assert drawnet(capsys, "train", "images", "--data.name", folder, *small, "--out", out)[0] == 0
    status, text, _ = drawnet(capsys, "evaluate", out, "--json")
    result = json.loads(text)
    assert status == 0 and result["bits_per_dim"] > 0 and result["images"] > 0
    assert drawnet(capsys, "sample", out, "-n", 4, "--out", out / "s.gif")[0] == 0


def test_options_of_a_data_set_reach_it_and_stay_with_the_run(capsys, tmp_path):
    both = {"small": np.zeros((30, 6, 6), np.uint8), "large": np.zeros((30, 9, 9), np.uint8)}
    np.savez(tmp_path / "p.npz", **both)
    words = ["train", "images", "--data.name", tmp_path / "p.npz", "--data.size", 0]
    words += ["--data.options", "key", "large", *QUICK, "--out", tmp_path / "run"]
    assert drawnet(capsys, *words)[0] == 0
    status, text, _ = drawnet(capsys, "evaluate", tmp_path / "run", "--json")
    assert status == 0 and json.loads(text)["images"] == 3
    assert checkpoint.load_model(tmp_path / "run").network.shape == (1, 9, 9)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], {"affine": "true"}),
        (["--data.options", "split", "random"], {"split": "random"}),
        (["--data.name", "digits"], {}),
    ],
)
def test_a_recipes_own_data_options_are_its_default(words, expected, monkeypatch, tmp_path):
    """They were lost on the way through the command line; they belong to the recipe's data alone."""
    plain = recipes.get("omniglot")
    own = replace(plain, data=replace(plain.data, options={"affine": "true"}))
    monkeypatch.setattr(recipes, "get", lambda name: own)
    loaded = []
    monkeypatch.setattr(Data, "load", lambda self, where: loaded.append(self) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["train", "omniglot", *words, "--out", str(tmp_path / "run")])
    assert loaded[0].options == expected


def test_whole_numbers_among_the_options_are_numbers(monkeypatch):
    given = {}
    monkeypatch.setattr(data, "load", lambda name, where, **options: given.update(options))
    options = {"clutter": "12", "which": "frey", "extra": "true", "version": "1b"}
    Data("toy", options=options).load()
    assert given == {"clutter": 12, "which": "frey", "extra": True, "version": "1b"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["smaple"], "did you mean 'sample'"),
        (["train", "mnits"], "did you mean 'mnist'"),
        (["train", "--out", "x"], "name the recipe first"),
        (["train", "mnist", "--model.unit", "3"], "did you mean --model.units"),
        (["train", "mnist", "--batch", "many"], "--batch"),
        (["train", "mnist", "--decay", "fast"], "'cosine'"),
        (
            ["train", "digits_quick", "--model.steps", "0"],
            "--model.steps is 0; it must be greater than 0",
        ),
        (
            ["train", "digits_quick", "--kl-weight", "0"],
            "--kl-weight is 0.0; it must be greater than 0",
        ),
        (["train", "digits_quick", "--model.read", "1"], "no stride"),
        (["train", "digits_quick", "--data.name", "digts"], "did you mean 'digits'"),
        (["train", "digits_quick", "--data.binarise", "no"], "--data.binarise dynamic"),
        (["train", "digits_quick", "--data.options", "colour", "red"], "no option"),
        (["train", "images"], "FOLDER"),
        (["evaluate"], "drawnet evaluate"),
        (["evaluate", "nowhere"], "nowhere"),
        (["sample", "nowhere", "-n", "0"], "-n must be at least 1"),
        (
            ["evaluate", "nowhere", "--importance-samples", "0"],
            "--importance-samples is 0; it must",
        ),
        (["evaluate", "nowhere", "--split", "tset"], "invalid choice"),
        (["fetch", "minst"], "did you mean 'mnist'"),
        (["list", "more"], "no options"),
        (["ablate", "mnits"], "did you mean 'mnist'"),
        (["ablate", "--seeds", "2"], "name the recipe first"),
        (["ablate", "digits_quick"], "--minutes or --images"),
        (["ablate", "digits_quick", "--images", "1", "--minutes", "1"], "give one of them"),
        (["ablate", "digits_quick", "--images", "9", "--variants", "no_raed"], "mean 'no_read'"),
        (["ablate", "digits_quick", "--images", "9", "--seeds", "0"], "--seeds must be at least 1"),
        (["ablate", "digits_quick", "--images", "9", "--jobs", "0"], "--jobs must be at least 1"),
        (["ablate", "digits_quick", "--images", "9", "--examples", "7"], "leave it out"),
        (
            ["ablate", "digits_quick", "--images", "9", "--data.name", "digts"],
            "did you mean 'digits'",
        ),
        (["ablate", "digits_quick", "--images", "9", "--data.binarise", "no"], "--data.binarise"),
        (["ablate", "mnist_conv", "--images", "9"], "variants are DRAW's"),
    ],
)
def test_mistakes_get_one_line(capsys, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, *words)
    assert list(tmp_path.iterdir()) == []


def test_bad_files_get_one_line(capsys, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    assert "torn.png" in refused(capsys, "reconstruct", run, tmp_path / "torn.png")
    assert "gone.png" in refused(capsys, "reconstruct", run, tmp_path / "gone.png")
    assert "x.bmpp" in refused(capsys, "sample", run, "-n", 1, "--out", "x.bmpp")
    assert ".gif" in refused(capsys, "sample", run, "-n", 1, "--trajectory", "x.png")
    (tmp_path / "data").mkdir()
    words = ["train", "mnist", "--data-dir", tmp_path / "data"]
    assert "drawnet fetch binarized_mnist" in refused(capsys, *words)
    tensors, header = checkpoint.load_tensors(run / "model.safetensors")
    tensors["c"].view(-1)[0] = math.nan
    checkpoint.save_tensors(tmp_path / "nan.safetensors", tensors, header)
    assert "not finite" in refused(capsys, "sample", "nan.safetensors")
    assert not (tmp_path / "samples.png").exists()


def test_another_data_set_than_the_models_is_refused(capsys, run, tmp_path):
    tensors, header = checkpoint.load_tensors(run / "model.safetensors")
    header["run"]["data"]["name"] = str(tmp_path / "p.npz")
    np.savez(tmp_path / "p.npz", images=np.zeros((30, 12, 12), np.uint8))
    checkpoint.save_tensors(tmp_path / "m.safetensors", tensors, header)
    assert "12" in refused(capsys, "evaluate", tmp_path / "m.safetensors")


def test_the_python_example_of_the_readme(run):
    from drawnet import load, sample

    model = load(run)
    images = sample(model, n=3, seed=0)
    assert images.shape == (3, 1, 28, 28)
    assert torch.equal(images, sample(model, n=3, seed=0))


def test_the_conditional_benchmark_judges_a_run(capsys, conditional, run, monkeypatch, tmp_path):
    path = Path(__file__).parents[2] / "benchmarks" / "conditional.py"
    main = runpy.run_path(str(path))["main"]
    out = tmp_path / "conditional.json"
    words = ["conditional.py", conditional, "--samples", 30, "--json", out]
    results = []
    for _ in range(2):  # the second time with the classifier that the first has kept
        monkeypatch.setattr(sys, "argv", [str(word) for word in words])
        main()
        kept = (conditional / "classifier.safetensors").stat().st_mtime_ns
        results.append((json.loads(out.read_text()), kept))
    assert results[0] == results[1]
    result = results[0][0]
    assert result["accuracy"] > 0.8 and result["samples"] == 30
    for kind in ("drawn", "means"):
        share, error = result[kind]["all"]
        assert error == pytest.approx(math.sqrt(share * (1 - share) / 30), abs=1e-4)
        each = result[kind]["classes"]
        assert set(each) == set(map(str, range(10)))
        assert sum(p for p, _ in each.values()) / 10 == pytest.approx(share, abs=1e-3)
    assert re.search(r"drawn: +\d+\.\d ± \d+\.\d %", capsys.readouterr().out)
    monkeypatch.setattr(sys, "argv", ["conditional.py", str(run)])
    with pytest.raises(UserError, match="0 classes"):
        main()


def test_runs_are_compared(capsys, run, tmp_path):
    network = classifier.ReferenceClassifier(classifier.ClassifierConfig((1, 28, 28), 10))
    classifier.save(tmp_path / "c.safetensors", network, {})
    words = [
        "compare",
        run,
        "--samples",
        12,
        "--images",
        9,
        "--classifier",
        tmp_path / "c.safetensors",
    ]
    status, out, _ = drawnet(capsys, *words, "--out", tmp_path / "t.json")
    assert status == 0 and f"| {run} | draw | digits |" in out
    (row,) = json.loads((tmp_path / "t.json").read_text())["rows"]
    assert row["figures"]["bound"]["text"] in out and row["figures"]["frechet"]["value"] > 0
    assert drawnet(capsys, *words, "--out", tmp_path / "t.md")[0] == 0
    assert (tmp_path / "t.md").read_text().startswith("| run | model | data |")
    assert "name the runs" in refused(capsys, "compare")
    assert "none" in refused(capsys, "compare", tmp_path / "none")
    assert "--samples" in refused(capsys, "compare", run, "--samples", 1)
    assert ".json" in refused(capsys, "compare", run, "--out", tmp_path / "t.csv")
    assert "c2" in refused(capsys, "compare", run, "--classifier", tmp_path / "c2")


def test_kernels_may_be_left_out(capsys, run, tmp_path):
    """The same figures to rounding, and the same digits."""
    bounds, sheets = [], []
    for mode in ("auto", "off"):
        out = tmp_path / f"{mode}.npz"
        words = ["--kernels", mode]
        _, text, _ = drawnet(capsys, "evaluate", run, "--images", 20, "--json", *words)
        bounds.append(json.loads(text)["elbo_nats"])
        drawnet(capsys, "sample", run, "-n", 4, "--out", out, *words)
        sheets.append(np.load(out)["images"])
    assert bounds[0] == pytest.approx(bounds[1], rel=1e-4)
    np.testing.assert_allclose(sheets[0], sheets[1], atol=1e-3)
    status, _, err = drawnet(capsys, "sample", run, "--kernels", "some")
    assert status == 2 and "--kernels" in err
