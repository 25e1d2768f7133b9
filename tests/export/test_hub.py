"""Repositories of the Hub, played by a server on loopback; a file from there is read like any other."""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from safetensors.torch import save_file

import drawnet
from conftest import make_run
from drawnet import models, weights
from drawnet.errors import UserError
from drawnet.export import hub
from drawnet.models.draw import DrawConfig
from drawnet.training import checkpoint

OID = "c" * 40
CODE = """
import sys, torch, drawnet
from drawnet.errors import UserError
run, name = sys.argv[1:]
try:
    print(drawnet.push_to_hub(run, name, licence="cc-by-4.0", private=True, token="secret"))
    model = drawnet.from_pretrained(name)
    assert drawnet.sample(model, n=2).equal(drawnet.sample(drawnet.load(run), n=2))
    drawnet.from_pretrained(name.replace("draw", "none"))
except UserError as why:
    print(why)
"""


class Hub(BaseHTTPRequestHandler):
    """The endpoints that an upload and a download need."""

    def answer(self, values, status=200, **headers):
        content = values if isinstance(values, bytes) else json.dumps(values).encode()
        self.send_response(status)
        for name, value in {"Content-Length": len(content), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_POST(self):
        content = self.rfile.read(int(self.headers["Content-Length"]))
        store, base = self.server.store, f"http://{self.headers['Host']}"
        store["calls"].append((self.path, self.headers.get("Authorization")))
        if self.path == "/api/repos/create":
            store["created"] = json.loads(content)
            made = store["created"]
            self.answer({"url": f"{base}/{made['organization']}/{made['name']}"})
        elif self.path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            paths = [f["path"] for f in json.loads(content)["files"]]
            modes = {"uploadMode": "regular", "shouldIgnore": False}
            self.answer({"files": [{"path": path, **modes} for path in paths]})
        elif "/commit/" in self.path:
            for line in map(json.loads, content.splitlines()):
                if line["key"] == "file":
                    value = line["value"]
                    store["files"][value["path"]] = base64.b64decode(value["content"])
            self.answer({"commitUrl": f"{base}/me/draw/commit/{OID}", "commitOid": OID})
        else:
            self.answer({}, 404)

    def do_GET(self):
        found = re.fullmatch(r"/me/draw/resolve/main/(.*)", self.path)
        content = found and self.server.store["files"].get(found[1])
        if content is None:
            error = "EntryNotFound" if found else "RepoNotFound"
            self.answer({}, 404, X_Error_Code=error, X_Error_Message="Repository not found")
        else:
            tag = hashlib.sha256(content).hexdigest()
            self.answer(content, ETag=f'"{tag}"', X_Repo_Commit=OID)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        server.store = {"calls": [], "files": {}}
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def run(tmp_path):
    """A run folder with a small model."""
    config = DrawConfig(steps=2, units=8, latents=3, read=2, write=2)
    torch.manual_seed(0)
    path = tmp_path / "run" / "model.safetensors"
    about = {"examples": 800, "valid_nats": 123.456}
    checkpoint.save_model(
        path, models.build(config, (1, 8, 8)), replace(make_run(), model=config), about
    )
    return path.parent


def client(port, tmp_path, *words):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    environment |= {"HF_ENDPOINT": f"http://127.0.0.1:{port}", "HF_HOME": str(tmp_path / "hf")}
    command = [sys.executable, "-c", CODE, *map(str, words)]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_model_goes_there_and_comes_back(server, run, tmp_path):
    port = server.server_address[1]
    commit, missing = client(port, tmp_path, run, "me/draw")
    assert commit == f"http://127.0.0.1:{port}/me/draw/commit/{OID}"
    assert missing.startswith("me/none: the Hub says: ") and "404 Not Found" in missing
    store = server.store
    assert store["created"]["name"] == "draw" and store["created"]["visibility"] == "private"
    assert {token for _, token in store["calls"]} == {"Bearer secret"}
    assert store["files"].keys() == {"model.safetensors", "README.md"}
    assert store["files"]["model.safetensors"] == (run / "model.safetensors").read_bytes()
    assert b"license: cc-by-4.0\n" in store["files"]["README.md"]


def test_a_hub_that_is_not_reached_is_one_line(server, run, tmp_path):
    port = server.server_address[1]
    server.server_close()
    (said,) = client(port, tmp_path, run, "me/draw")
    assert said.startswith("me/draw: the Hub is not reached: ") and "refused" in said


def test_a_folder_is_what_a_repository_holds(run, tmp_path):
    files = drawnet.save_pretrained(run, tmp_path / "made")
    assert [f.name for f in files] == ["model.safetensors", "README.md"]
    model = drawnet.from_pretrained(tmp_path / "made")
    assert drawnet.sample(model, n=2).equal(drawnet.sample(drawnet.load(run), n=2))
    card = files[1].read_text()
    assert "license: unknown" in card and "library_name: drawnet" in card
    assert "| blobs, valid | bound on -log p(x), nats per image | 123.46 |" in card
    assert "trained on blobs, 800 examples" in card


@pytest.mark.parametrize("name", sorted(weights.bundled().keys() - {"cluttered_4", "cluttered_8"}))
def test_the_card_of_bundled_weights_has_every_figure(name):
    path = weights.bundled()[name]
    saved = checkpoint.load_model(path, "off")
    text = hub.card(saved, path)
    from huggingface_hub import ModelCard

    data = ModelCard(text).data
    assert (data.license, data.library_name) == ("mit", "drawnet")
    assert data.tags[:2] == ["drawnet", saved.kind]
    for e in json.loads(path.with_suffix(".json").read_text())["evaluations"]:
        found = {r.metric_type: r.metric_value for r in data.eval_results
                 if (r.dataset_name, r.dataset_split) == (e["dataset"], e["split"])}  # fmt: skip
        if "draws" in e:
            assert found["nats"] and f", mean of {e['draws']} draws" in text
            assert f"{e['nats']['mean']:.2f} ± {e['nats']['stderr']:.2f}" in text
        else:
            assert found["elbo_nats"]
            assert f"{e['elbo_nats']:.2f} ± {e['elbo_stderr']:.2f}" in text
        assert f"{e['images']:,} images" in text


@pytest.mark.parametrize("name", ["no name", "a/b/c", "..", ""])
def test_what_is_no_name_is_one_line(name, run):
    with pytest.raises(UserError):
        drawnet.push_to_hub(run, name)


def test_files_of_others_are_refused(tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="safetensors file, but not drawnet's"):
        drawnet.from_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x80\x04K\x01.")  # a pickle
    with pytest.raises(UserError, match="damaged or not a safetensors file"):
        drawnet.from_pretrained(tmp_path)


def test_a_classifier_is_not_for_drawing(tmp_path):
    with pytest.raises(UserError, match="cannot generate images"):
        drawnet.save_pretrained("cluttered_4", tmp_path)


def test_without_the_extra_it_is_one_line(monkeypatch, run, tmp_path):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for call in (drawnet.from_pretrained, lambda name: drawnet.push_to_hub(run, name)):
        with pytest.raises(UserError, match=r"pip install 'drawnet\[hub\]'"):
            call("me/draw")
    with pytest.raises(UserError, match=r"pip install 'drawnet\[hub\]'"):
        drawnet.save_pretrained(run, tmp_path / "made")
    assert not (tmp_path / "made").exists()
