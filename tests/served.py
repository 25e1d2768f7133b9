"""The demo's server in a process of its own, and small models for it to show."""

import base64
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import httpx
import torch

from conftest import make_run
from drawnet import models
from drawnet.training import checkpoint

SHAPE = (1, 12, 10)


def save(folder, name, config, shape=SHAPE, std=0.3):
    """A model with random weights that draws different things."""
    model = models.build(config, shape)
    torch.manual_seed(0)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=std)
    run = replace(make_run(), model=config)
    path = folder / f"{name}.safetensors"
    checkpoint.save_model(path, model, run, {"examples": 160, "valid_nats": 12.5})
    return path


class Server:
    """The real thing, in a process of its own."""

    def __init__(self, *paths, words=(), limits="pass"):
        """limits: statements that shorten those of `connection`, by this name."""
        code = (
            f"from drawnet.demo import connection; {limits}; from drawnet.cli import main; main()"
        )
        command = [sys.executable, "-c", code, "demo", *map(str, paths), "--port", "0"]
        self.process = subprocess.Popen(
            [*command, "--no-open", *words],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        self.said = self.process.stdout.readline()
        assert self.said.startswith("http://"), self.process.stderr.read()
        self.url = self.said.split()[0]
        host, port = self.url.split("/")[2].split(":")
        self.address = host, int(port)
        self.client = httpx.Client(base_url=self.url, timeout=60, trust_env=False)

    def lines(self, view, **request):
        answer = self.client.post(f"/api/{view}", json=request)
        assert answer.status_code == 200, answer.text
        return [json.loads(line) for line in answer.text.splitlines()]

    def close(self, number=signal.SIGTERM):
        self.client.close()
        self.process.send_signal(number)
        try:
            status = self.process.wait(20)
        finally:
            self.process.kill()
        said = self.process.stderr.read()
        self.process.stdout.close()
        self.process.stderr.close()
        assert not said, said
        assert status == 0


def levels(frames):
    """Means of pixels as they are shown, uint8."""
    return (frames * 255).round().byte()


def packed(x):
    """Pixels as the API takes them: a bit a value."""
    bits = "".join(str(int(v)) for v in (x >= 0.5).flatten())
    bits += "0" * (-len(bits) % 8)
    raw = bytes(int(bits[k : k + 8], 2) for k in range(0, len(bits), 8))
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
