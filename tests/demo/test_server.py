"""The API gives what Python computes; it answers whatever comes, and stands."""

import asyncio
import base64
import http.client
import importlib
import json
import math
import os
import random
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import small
from drawnet import cli, weights
from drawnet.drawing import sample
from drawnet.errors import UserError
from drawnet.models import latent, sequential
from drawnet.models.draw import DrawConfig
from drawnet.models.vae import VAEConfig

httpx, _, _ = (
    pytest.importorskip(name, reason="the demo's tests need httpx, starlette and uvicorn")
    for name in ("httpx", "starlette", "uvicorn")
)
from served import SHAPE, Server, levels, packed, save  # noqa: E402

requests, serve, studio = (
    importlib.import_module(f"drawnet.demo.{name}") for name in ("requests", "server", "studio")
)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """A DRAW with windows, one with labels, a colour model of grey levels and a VAE of one step."""
    folder = tmp_path_factory.mktemp("shown")
    draw = DrawConfig(steps=5, units=12, latents=4, read=2, write=3)
    return [
        save(folder, "windows", draw),
        save(folder, "told", replace(draw, classes=3, prior="learned")),
        save(folder, "colour", small("conv_draw", likelihood="mixture"), (3, 8, 8)),
        save(folder, "vae", VAEConfig(units=9, latents=3)),
    ]


@pytest.fixture(scope="module")
def server(paths):
    server = Server(*paths)
    yield server
    server.close()


def canvases(lines, shape):
    """Every step's canvas, (T + 1, n, C, H, W) uint8."""
    steps = [line for line in lines if "step" in line]
    assert [line["step"] for line in steps] == list(range(len(steps)))
    raw = [bytearray(base64.b64decode(line["canvas"])) for line in steps]
    return torch.stack([torch.frombuffer(r, dtype=torch.uint8).view(-1, *shape) for r in raw])


def picture(shape=SHAPE, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)).round()


# ---- what it computes ---------------------------------------------------------------------------


def test_it_says_what_it_shows(server):
    shown = {m["name"]: m for m in server.client.get("/api/models").json()["models"]}
    assert list(shown) == ["windows", "told", "colour", "vae"]
    assert shown["windows"] | {"shape": [1, 12, 10], "steps": 5, "classes": 0} == shown["windows"]
    assert shown["windows"]["windows"] == ["read", "write"] and shown["vae"]["windows"] == []
    assert (shown["told"]["classes"], shown["colour"]["binary"]) == (3, False)
    assert (shown["vae"]["steps"], shown["vae"]["nats"]) == (1, 12.5)


@pytest.mark.parametrize("k", range(4))
def test_a_drawing_is_the_trajectory_that_python_computes(server, paths, k):
    model = sample.load(paths[k])
    labels = [2, 0] if model.classes else []
    request = {"model": paths[k].stem, "n": 7, "seed": 3, "temperature": 0.8, "labels": labels}
    lines = server.lines("draw", **request, rates=True)
    trajectory = sample.sample_trajectory(model, 7, labels=labels, seed=3, temperature=0.8)
    assert torch.equal(canvases(lines, model.shape), levels(trajectory.frames))
    for name, windows in trajectory.windows.items():
        told = torch.tensor([line["windows"][name] for line in lines if line.get("step")])
        torch.testing.assert_close(told, windows, atol=1e-4, rtol=1e-4)
    *_, state = latent.sampling(model, range(7), labels=labels, seed=3, temperature=0.8)
    (rates,) = (line["rates"] for line in lines if "rates" in line)
    expected = sample.rates(model, state, range(7), seed=3)
    torch.testing.assert_close(torch.tensor(rates), expected, atol=2e-2, rtol=1e-3)
    assert lines[-1] == {"end": True}
    assert lines[0]["labels"] == ([2, 0, 2, 0, 2, 0, 2] if labels else [])


@pytest.mark.parametrize("k", range(4))
def test_a_redrawing_is_the_trajectory_that_python_computes(server, paths, k):
    model = sample.load(paths[k])
    x = picture(model.shape)
    if paths[k].stem == "colour":
        x = levels(torch.rand(model.shape)).float() / 255
        sent = base64.urlsafe_b64encode(levels(x).numpy().tobytes()).decode()
    else:
        sent = packed(x)
    lines = server.lines("redraw", model=paths[k].stem, x=sent, seed=4)
    labels = lines[0]["labels"]
    if model.classes:
        p = sample.reads_as(model, x[None], seed=4)
        assert labels == [int(p.argmax())]
        assert lines[0]["read_as"] == pytest.approx([p.max().item()], abs=1e-3)
    trajectory = sample.redraw_trajectory(model, x[None], labels=labels, seed=4)
    assert torch.equal(canvases(lines, model.shape), levels(trajectory.frames))
    moments = sample.redrawing(model, x[None], range(1), labels=labels, seed=4)
    rates = torch.stack([moment.rate for moment in moments])
    told = torch.tensor([line["rate"] for line in lines if line.get("step")])
    torch.testing.assert_close(told, rates, atol=2e-2, rtol=1e-3)


@pytest.mark.parametrize("k", range(4))
def test_completions_and_morphs_are_what_python_computes(server, paths, k):
    model, name = sample.load(paths[k]), paths[k].stem
    a, b = picture(model.shape, 1), picture(model.shape, 2)
    known = picture(model.shape[1:], 3).bool()
    lines = server.lines(
        "complete", model=name, x=packed(a), known=packed(known), n=3, rounds=4, seed=5
    )
    rounds = torch.stack(list(latent.completing(model, a, known, 3, seed=5, rounds=4)))
    assert torch.equal(canvases(lines, model.shape), levels(rounds))
    labels = {"labels": [1, 2]} if model.classes else {}
    lines = server.lines("morph", model=name, a=packed(a), b=packed(b), n=6, seed=5, **labels)
    states = latent.morphing(model, torch.stack((a, b)), 6, seed=5, **labels)
    means = torch.stack([model.likelihood(state).mean.clamp(0, 1) for state in states])
    assert torch.equal(canvases(lines, model.shape)[1:], levels(means.detach()))


def test_films_and_pictures_are_those_of_the_shell(server, paths, tmp_path):
    request = {"model": "windows", "n": 4, "seed": 2}
    for suffix, kind in (("gif", "GIF"), ("png", "PNG")):
        answer = server.client.post(f"/api/draw.{suffix}", json=request)
        path = tmp_path / f"served.{suffix}"
        path.write_bytes(answer.content)
        with Image.open(path) as image:
            assert image.format == kind and answer.headers["content-type"] == f"image/{suffix}"
            assert getattr(image, "n_frames", 1) == (7 if suffix == "gif" else 1)
    cli.main(["sample", str(paths[0]), "-n", "4", "--seed", "2", "--out", str(tmp_path / "s.npz")])
    images = torch.from_numpy(np.load(tmp_path / "s.npz")["images"])
    scale = 640 // 24
    with Image.open(tmp_path / "served.png") as sheet:
        first = np.asarray(sheet)[: 12 * scale, : 10 * scale].reshape(12, scale, 10, scale)
    assert (first == first[:, :1, :, :1]).all()
    assert torch.equal(torch.from_numpy(first[:, 0, :, 0].copy()), levels(images[0, 0]))


@pytest.mark.parametrize(
    ("k", "suffix"), [(0, "gif"), (2, "gif"), (0, "png"), (1, "png"), (2, "png"), (3, "png")]
)
def test_every_view_has_its_picture_and_film(server, paths, k, suffix):
    shape = sample.load(paths[k]).shape
    x, known = packed(picture(shape)), packed(picture(shape[1:]))
    views = {
        "draw": {"n": 3, "only": 1},
        "redraw": {"x": x},
        "complete": {"x": x, "known": known, "n": 2, "rounds": 2},
        "morph": {"a": x, "b": x, "n": 5},
    }
    for view, values in views.items():
        answer = server.client.post(f"/api/{view}.{suffix}", json={"model": paths[k].stem} | values)
        assert answer.status_code == 200, answer.text
        assert answer.content[:4] == (b"GIF8" if suffix == "gif" else b"\x89PNG")


# ---- what it refuses ----------------------------------------------------------------------------

GOOD = {"model": "windows", "n": 2}


@pytest.mark.parametrize(
    ("view", "request_", "status", "message"),
    [
        ("draw", {"n": 0}, 400, "n must be an integer from 1 to 64"),
        ("draw", {"n": 2.5}, 400, "n must be"),
        ("draw", {"n": True}, 400, "n must be"),
        ("draw", {"sede": 1}, 400, "did you mean 'seed'"),
        ("draw", {"seed": -1}, 400, "seed must be"),
        ("draw", {"temperature": 3}, 400, "from 0 to 2"),
        ("draw", {"temperature": math.nan}, 400, "from 0 to 2"),
        ("draw", {"labels": [1]}, 400, "windows is not conditional"),
        ("draw", {"model": "told", "labels": [3]}, 400, "from 0 to 2"),
        ("draw", {"n": 2, "only": 2}, 400, "below n"),
        ("draw", {"model": "tolt"}, 404, "there are: windows, told, colour, vae"),
        ("draw", [1], 400, "JSON object"),
        ("redraw", {}, 400, "redraw needs x"),
        ("redraw", {"x": "AA"}, 400, "15 bytes (a bit a value) or 120"),
        ("redraw", {"x": "?"}, 400, "not base64url"),
        ("complete", {"x": "A" * 20}, 400, "needs known"),
        ("complete", {"x": "A" * 20, "known": "A" * 8}, 400, "known must hold 15 bytes"),
        ("morph", {"a": "A" * 20, "b": 3}, 400, "b must be a string"),
    ],
)
def test_bad_values_get_one_line(server, view, request_, status, message):
    answer = server.client.post(
        f"/api/{view}", content=json.dumps(request_), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == status
    assert message in answer.json()["error"] and "\n" not in answer.text


def test_bad_requests_get_one_line(server):
    client, kind = server.client, {"Content-Type": "application/json"}
    cases = [
        (client.post("/api/draw", content=b"{}"), 415),
        (client.post("/api/draw", content=b"{", headers=kind), 400),
        (client.post("/api/draw", content=b"[" * 100_000, headers=kind), 400),
        (client.post("/api/draw", content=b" " * 300_000, headers=kind), 413),
        (client.get("/api/draw"), 405),
        (client.post("/api/paint", json=GOOD), 404),
        (client.post("/api/draw.exe", json=GOOD), 404),
        (client.get("/../cli.py"), 404),
        (client.get("/api.py"), 404),
        (client.get("/", headers={"Host": "rebound.example"}), 403),
        (client.post("/api/draw", json=GOOD, headers={"Origin": "http://elsewhere.example"}), 403),
        (client.post("/api/draw", json=GOOD, headers={"Origin": "null"}), 403),
    ]
    for answer, status in cases:
        assert answer.status_code == status, answer.text
        assert list(answer.json()) == ["error"] and "\n" not in answer.text
    own = {"Origin": server.url.rstrip("/")}
    assert client.post("/api/draw", json=GOOD, headers=own).status_code == 200
    port = server.url.rsplit(":", 1)[1].strip("/")
    for host in ("localhost", "127.0.0.1", "[::1]"):
        assert client.get("/", headers={"Host": f"{host}:{port}"}).status_code == 200


def test_the_page_may_load_nothing_from_elsewhere(server):
    for name in ("/", *(f"/{path.name}" for path in serve.WEB.iterdir())):
        answer = server.client.get(name)
        assert answer.status_code == 200 and answer.content
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
        hosts = re.findall(r"https?://[^\s\"'<>)]+", answer.text)
        assert set(hosts) <= {"http://www.w3.org/2000/svg"}


def test_five_hundred_malformed_requests_get_nothing_but_4xx(server):
    rng = random.Random(0)
    good = {"model": "windows", "x": packed(picture()), "seed": 1}
    odd = [None, -1, 2**70, 1.5, "x", [], {}, [[]], "\x00", "A" * 5000, True, math.inf, "é"]

    def one(k):
        text = json.dumps(
            {**good, rng.choice(["x", "seed", "model", "labels", "z"]): rng.choice(odd)}
        )
        match k % 4:
            case 0:
                broken = bytearray(text.encode())
                for _ in range(3):
                    broken[rng.randrange(len(broken))] = rng.randrange(256)
                return bytes(broken) + b"}"
            case 1:
                return rng.randbytes(rng.randrange(200))
            case 2:
                return text[: rng.randrange(1, len(text))].encode()
        return json.dumps({**good, rng.choice(["z", "X", ""]): rng.choice(odd)}).encode()

    bodies = [one(k) for k in range(500)]
    paths = ["/api/redraw", "/api/redraw.gif", "/api/redraw.png"]
    kind = {"Content-Type": "application/json"}
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(
                lambda k: server.client.post(paths[k % 3], content=bodies[k], headers=kind),
                range(500),
            )
        )
    for answer in answers:
        assert 400 <= answer.status_code < 500, answer.text
        assert list(answer.json()) == ["error"]
    assert server.lines("draw", **GOOD)[-1] == {"end": True}


# ---- what it stands -----------------------------------------------------------------------------


def memory(process):
    """Resident bytes of a process."""
    pages = Path(f"/proc/{process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_two_hundred_requests_at_once_are_all_answered_and_leave_nothing(server):
    address, kind = server.url.split("/")[2], {"Content-Type": "application/json"}

    def burst():
        gate = threading.Barrier(200)

        def one(k):
            client = http.client.HTTPConnection(address, timeout=120)
            gate.wait()
            client.request("POST", "/api/draw", json.dumps({"n": 64, "seed": k}), kind)
            answer = client.getresponse()
            text = answer.read().decode()
            client.close()
            return answer.status, answer.headers.get("Retry-After"), text

        with ThreadPoolExecutor(200) as pool:
            return list(pool.map(one, range(200)))

    burst()  # what the first time needs, buffers and threads, it may keep
    before = memory(server.process)
    answers = burst()
    good = [text for status, _, text in answers if status == 200]
    assert len(good) >= studio.PLACES
    assert all(text.endswith('{"end":true}\n') for text in good)
    for status, again, text in answers:
        if status != 200:
            assert (status, again) == (503, "1") and "try again later" in json.loads(text)["error"]
    assert server.process.poll() is None
    assert server.lines("draw", **GOOD)[-1] == {"end": True}
    assert memory(server.process) < before + 40e6


def test_a_client_that_leaves_frees_its_place(server):
    request = {"n": 64, "seed": 1}
    for _ in range(3 * studio.PLACES):
        with server.client.stream("POST", "/api/draw", json=request) as answer:
            assert answer.status_code in (200, 503)
    end = time.monotonic() + 20
    while server.client.post("/api/draw", json=GOOD).status_code != 200:
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def app(paths):
    thread = studio.Studio()
    yield serve.application(serve.exhibited(paths[:1]), thread)
    thread.close()
    thread.thread.join(20)


def ask(app, *arguments, **values):
    """A request to an app in this process."""

    async def one():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.post(*arguments, **values)

    return asyncio.run(one())


def test_a_drawing_that_takes_too_long_is_broken_off(app, monkeypatch):
    monkeypatch.setattr(studio, "LONGEST", 0.3)
    real = sequential.generate

    def slow(*arguments, **options):
        for state in real(*arguments, **options):
            time.sleep(0.2)
            yield state

    monkeypatch.setattr(sequential, "generate", slow)
    *_, before, last = ask(app, "/api/draw", json={"n": 1}).text.splitlines()
    assert "step" in json.loads(before) and "0.3 seconds" in json.loads(last)["error"]


def test_what_goes_wrong_inside_is_500_and_in_the_log(app, monkeypatch, caplog):
    monkeypatch.setattr(sequential, "generate", lambda *a, **k: 1 / 0)
    answer = ask(app, "/api/draw.png", json={"n": 1})
    assert answer.status_code == 500 and "log" in answer.json()["error"]
    assert "ZeroDivisionError" in caplog.text


# ---- the command --------------------------------------------------------------------------------


def test_the_demo_takes_what_is_bundled_or_says_how_to_make_it(paths, tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    with pytest.raises(UserError, match="drawnet train digits_quick"):
        serve.exhibited([])
    for path in paths[:2]:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    save(tmp_path, "reader", small("glimpse"), (1, 28, 28))  # names classes and draws nothing
    assert list(serve.exhibited([])) == ["told", "windows"]
    (tmp_path / "windows.safetensors").rename(tmp_path / "mnist.safetensors")
    assert list(serve.exhibited([])) == ["mnist", "told"]
    assert list(serve.exhibited([paths[0], paths[0]])) == ["windows", "windows-2"]
    with pytest.raises(UserError, match="at most 8"):
        serve.exhibited([paths[0]] * 9)


def test_a_model_that_reads_nothing_is_refused(tmp_path):
    path = save(tmp_path, "reader", small("glimpse", classes=3), (1, 8, 8))
    with pytest.raises(UserError, match="cannot reconstruct images"):
        serve.exhibited([path])


def test_a_port_that_is_taken_gets_one_line(server, paths):
    port = int(server.url.rsplit(":", 1)[1].strip("/"))
    with pytest.raises(UserError, match="choose another --port"):
        serve.serve(paths[:1], "127.0.0.1", port, show=False)


def test_a_missing_extra_is_named():
    code = (
        "import sys; sys.modules['starlette'] = None; from drawnet import cli; cli.main(['demo'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "drawnet: the demo needs starlette: pip install 'drawnet[demo]'\n"


# ---- its description ----------------------------------------------------------------------------

PAGE = (Path(__file__).parents[2] / "docs" / "http-api.md").read_text(encoding="utf-8")


def examples(kind):
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.S)


@pytest.mark.parametrize("kind", ["sh", "python"])
def test_the_examples_of_the_description_work(kind, tmp_path):
    """Against a model of the size that they speak of, 28 × 28."""
    folder = tmp_path / "weights"
    folder.mkdir()
    path = save(folder, "mnist", DrawConfig(steps=6, units=12, latents=4), (1, 28, 28), std=0.1)
    server = Server(path)
    try:
        found = examples(kind)
        assert found
        for text in found:
            code = text.replace("http://127.0.0.1:8765/", server.url)
            words = ["bash", "-ec", code] if kind == "sh" else [sys.executable, "-c", code]
            done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
            assert '"error"' not in done.stdout
        (made,) = (path for path in tmp_path.iterdir() if path != folder)
        with Image.open(made) as image:
            assert (made.name, image.format) == {
                "sh": ("drawing.gif", "GIF"), "python": ("redrawn.png", "PNG")
            }[kind]  # fmt: skip
    finally:
        server.close()


def test_the_description_names_every_value():
    for view, fields in requests.FIELDS.items():
        (part,) = re.findall(rf"^##+ `{view}`\n(.*?)(?=^#|\Z)", PAGE, re.M | re.S)
        assert set(re.findall(r"^\| `(\w+)`", part, re.M)) == set(fields)
