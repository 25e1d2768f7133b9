"""What is exported gives, in its own runtime, what the model gives; else nothing is written."""

import json
import re
import sys
from dataclasses import replace

import pytest
import torch

from drawnet import __version__, cli, export, models, weights
from drawnet.errors import UserError
from drawnet.export import functions, onnx, torchscript
from drawnet.models.base import Model
from drawnet.models.sequential import StepModel, encode, generate
from drawnet.training import checkpoint, config
from everywhere import run_of

KINDS = models.names()
STEPS = [kind for kind in KINDS if issubclass(models.module(kind).Model, StepModel)]
DRAWING = sorted(weights.bundled().keys() - {"cluttered_4", "cluttered_8"})
ABOUT = {"drawnet": "0"}
LEARNED = {"classes": 0, "prior": "learned"}
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.load. is deprecated:DeprecationWarning")


def build(kind="draw", **settings):
    """A small model whose weights are all at work."""
    torch.manual_seed(0)
    config = replace(run_of(kind).model, **settings)
    shape = {"chairs": (2, 8, 7), "darn": (1, 4, 4)}.get(kind, (1, 8, 7))  # a DARN is long
    model = models.build(config, shape).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model


def named(model):
    return {f.name: f for f in functions.functions(model)}


# ---- what the functions are ---------------------------------------------------------------------


@pytest.mark.parametrize("prior", ["standard", "learned"])
def test_the_steps_in_turn_are_generation(prior):
    model = build(prior=prior)
    f, (noise, label) = named(model), named(model)["picture"].examples(4).values()
    with torch.no_grad():
        *_, last = generate(model, noise, label)
        want = model.likelihood(last).mean
        assert torch.equal(f["picture"](noise, label)[0], want)
        state = f["start"].compute(label=label)
        for eps in noise:
            mean, log_sigma = (
                state.pop(f"prior_{k}", torch.zeros(())) for k in ("mean", "log_sigma")
            )
            out = f["step"].compute(**state, z=mean + log_sigma.exp() * eps)
            image = out.pop("image")
            state = {k.removeprefix("new_"): v for k, v in out.items()}
    torch.testing.assert_close(image, want)
    assert ("prior_mean" in f["step"].outputs) == (prior == "learned")


@pytest.mark.parametrize("features", [0, 2])
def test_encode_and_step_in_turn_read_an_image(features):
    model = build(features=features)
    f, x = named(model), torch.rand(3, *model.shape)
    label, eps = torch.eye(3), torch.randn(model.steps, 3, *model.latents)
    want = encode(model, x, eps, label)
    with torch.no_grad():
        state = f["start"].compute(label=label)
        for noise, z in zip(eps, want, strict=True):
            out = f["encode"].compute(**state, x=x, noise=noise)
            torch.testing.assert_close(out["z"], z)
            torch.testing.assert_close(out["mean"] + out["log_sigma"].exp() * noise, z)
            parts = {k[4:]: v for k, v in out.items() if k.startswith("new_")}
            out = f["step"].compute(**parts, z=out["z"])
            state = {k[4:]: v for k, v in out.items() if k.startswith("new_")}


def test_nothing_of_no_width_goes_in():
    f = named(build("conv_draw", classes=0))
    assert {"read", "write", "next_read", "y"}.isdisjoint(f["step"].inputs)
    assert list(f["picture"].inputs) == ["noise"]
    assert f["start"].signature()["inputs"] == {"label": ["B", 0]}


def test_a_model_that_does_neither_is_named():
    class Other(Model):
        pass

    with pytest.raises(UserError, match="a Other neither draws nor classifies: nothing to export"):
        functions.functions(Other())


# ---- TorchScript --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_torchscript_gives_what_the_model_gives(kind, tmp_path):
    found = functions.functions(build(kind))
    (tmp_path / "m.pt").write_bytes(torchscript.convert(found, ABOUT))
    extra = {torchscript.METADATA: ""}
    module = torch.jit.load(tmp_path / "m.pt", _extra_files=extra)
    signatures = json.loads(extra[torchscript.METADATA])["functions"]
    assert list(signatures) == [f.name for f in found]
    for f in found:
        for batch in (1, 5):
            values = list(f.examples(batch).values())
            out = getattr(module, f.name)(*values)
            out = out if isinstance(out, tuple) else (out,)
            for ours, theirs in zip(out, f(*values), strict=True):
                assert onnx.distance(ours, theirs) <= 1e-5, f.name


# ---- ONNX ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, pytest.param(LEARNED, marks=pytest.mark.slow)])
def test_onnx_gives_what_the_model_gives(settings):
    import onnx as library

    found = named(build(**settings))
    contents = onnx.convert(list(found.values()), ABOUT)
    assert list(contents) == ["picture", "start", "step", "encode"]
    for name, f in found.items():
        assert onnx.difference(contents[name], f) <= 1e-5, name
        proto = library.load_from_string(contents[name])
        library.checker.check_model(proto, full_check=True)
        said = json.loads({p.key: p.value for p in proto.metadata_props}["drawnet"])
        assert said == {**ABOUT, **f.signature()}
        for i in proto.graph.input:
            dims = [d.dim_param or d.dim_value for d in i.type.tensor_type.shape.dim]
            assert dims == said["inputs"][i.name]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_onnx_of_every_model(kind):
    found = functions.functions(build(kind))
    for f, content in zip(found, onnx.convert(found, ABOUT).values(), strict=True):
        assert onnx.difference(content, f) <= 1e-4, f.name


@pytest.mark.slow
@pytest.mark.parametrize("to", ["onnx", "torchscript"])
@pytest.mark.parametrize("name", DRAWING)
def test_bundled_weights(name, to, tmp_path):
    written = export.export(name, to, tmp_path / f"m{export.SUFFIXES[to]}")
    names = [f for each in written for f in each.functions]
    assert names == ["picture", "start", "step", "encode"]
    assert all(each.difference <= 1e-4 and each.path.is_file() for each in written)
    assert to == "torchscript" or all(each.difference > 0 for each in written)


# ---- the command --------------------------------------------------------------------------------


@pytest.fixture
def net(tmp_path):
    """A file with a small model."""
    run = run_of("draw")
    torch.manual_seed(0)
    path = tmp_path / "net.safetensors"
    checkpoint.save_model(path, models.build(run.model, (1, 8, 8)), run, {"examples": 8})
    return path


def test_the_command_says_what_it_wrote_and_how_far_off(net, tmp_path, capsys):
    cli.main(["export", str(net), "--to", "torchscript", "--out", str(tmp_path / "m.pt")])
    out = capsys.readouterr().out
    assert re.fullmatch(
        rf"{tmp_path}/m.pt  picture, start, step, encode: largest difference \d\.\de[-+]\d\d\n", out
    )
    extra = {torchscript.METADATA: ""}
    torch.jit.load(tmp_path / "m.pt", _extra_files=extra)
    about = json.loads(extra[torchscript.METADATA])
    assert about["model"] == config.to_json(run_of("draw"))["model"]
    assert (about["drawnet"], about["licence"]) == (__version__, "none stated")
    assert (about["steps"], about["shape"], about["latents"]) == (3, [1, 8, 8], [100])


@pytest.mark.parametrize("to", [pytest.param("onnx", marks=pytest.mark.slow), "torchscript"])
def test_a_file_that_differs_is_not_written(net, to, tmp_path, monkeypatch):
    module = {"onnx": onnx, "torchscript": torchscript}[to]
    convert = module.convert

    def then_changed(found, about):
        content = convert(found, about)
        with torch.no_grad():
            for p in found[0].model.parameters():
                p.add_(0.1)
        return content

    monkeypatch.setattr(module, "convert", then_changed)
    with pytest.raises(UserError, match=r"more than 0\.0001: nothing was written"):
        export.export(net, to, tmp_path / "made" / f"m{export.SUFFIXES[to]}")
    assert not (tmp_path / "made").exists()


def test_without_the_extra_it_is_one_line(net, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(SystemExit) as end:
        cli.main(["export", str(net), "--out", str(tmp_path / "m.onnx")])
    assert end.value.code == 2
    assert capsys.readouterr().err == (
        "drawnet: ONNX needs an extra: pip install 'drawnet[export]'\n"
    )


def test_the_source_is_not_written_over(net, tmp_path):
    before = net.read_bytes()
    net.rename(tmp_path / "net.pt")
    with pytest.raises(UserError, match="is a file that is read"):
        export.export(tmp_path / "net.pt", "torchscript", tmp_path / "net.pt")
    assert (tmp_path / "net.pt").read_bytes() == before
