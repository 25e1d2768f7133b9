"""Flags, paths and environments of the commands, and requests to the demo."""

import base64
import contextlib
import io
import os
import re
import socket
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from PIL import Image

from conftest import make_run, small
from drawnet import cli, models
from drawnet.data.config import Data
from drawnet.evaluation import classifier
from drawnet.models.draw import DrawConfig
from drawnet.training import checkpoint
from fuzz.harness import NAMES, Box, Fault, Stopped, command, damage, dumps, kind, mutate

QUICK = ["--model.steps", "2", "--model.units", "8", "--batch", "8", "--validation-images", "4"]
BASE = {
    "sample": ["net.safetensors", "-n", "1", "--out", "o.png"],
    "reconstruct": ["net.safetensors", "p.png", "--out", "o.png"],
    "encode": ["net.safetensors", "p.png", "--out", "o.npz"],
    "complete": ["net.safetensors", "p.png", "--ways", "2", "--rounds", "2", "--out", "o.png"],
    "morph": ["net.safetensors", "p.png", "p.png", "--steps", "2", "--out", "o.png"],
    "classify": ["reader.safetensors", "p.png"],
    "evaluate": ["net.safetensors", "--images", "2"],
    "compare": [
        "net.safetensors",
        "--images",
        "2",
        "--samples",
        "2",
        "--classifier",
        "c.safetensors",
    ],
    "train": ["digits_quick", *QUICK, "--examples", "16", "--out", "run"],
    "ablate": ["digits_quick", *QUICK, "--images", "8", "--variants", "baseline", "--out", "study"],
    "demo": ["net.safetensors", "--no-open"],
    "fetch": ["mnist", "--data-dir", "data"],
    "list": [],
    "record": ["net.safetensors", "--out", "r.json"],
    "results": ["record.json", "--out", "page.md"],
}
"""Every command, in a form that takes little time."""


def make_inputs(box: Box) -> None:
    """What the commands take; and those that would go on for long end once they have begun."""
    from drawnet.ablation import study
    from drawnet.data import download
    from drawnet.demo import server
    from drawnet.training import loop

    draw, reader = DrawConfig(steps=2, units=8, latents=3, read=2, write=2), small("glimpse")
    for name, config in (("net", draw), ("reader", replace(reader, classes=10))):
        torch.manual_seed(0)
        network = models.build(config, (1, 28, 28))
        run = replace(make_run(), model=config, data=Data("digits"))
        checkpoint.save_model(box.shared / f"{name}.safetensors", network, run, {"examples": 8})
    judge = classifier.ReferenceClassifier(classifier.ClassifierConfig((1, 28, 28), 10))
    classifier.save(box.shared / "c.safetensors", judge, {})
    Image.new("L", (28, 28), 255).save(box.shared / "p.png")
    records = Path(__file__).parents[2] / "docs" / "records"
    (box.shared / "record.json").write_bytes((records / "mnist.json").read_bytes())
    real = loop.train_step

    def one(*arguments: Any) -> Any:
        real(*arguments)
        raise Stopped

    def stop(*_: Any, **__: Any) -> Any:
        raise Stopped

    loop.train_step, study.pursue, server.serve, download._persist = one, stop, stop, stop


def perform(box: Box, words: list[str]) -> str:
    """Run a command or a tool where its inputs lie."""
    import record
    import results

    for path in box.shared.iterdir():
        with contextlib.suppress(FileExistsError):
            Path(path.name).symlink_to(path)
    box.note(*words)
    tools = {"record": record, "results": results}
    if words[0] in tools:
        return command(box, words[1:], lambda w: cli.guarded(tools[words[0]].main, w))
    return command(box, words)


@cache
def flags(name: str) -> list[tuple[str, str]]:
    """The flags of a command and the types of their values, as its help says."""
    import record
    import results

    out = io.StringIO()
    words = [*BASE[name][:1], "--help"] if name in ("train", "ablate") else ["--help"]
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        tools = {"record": record, "results": results}
        tools[name].main(words) if name in tools else cli.main([name, *words])
    found = re.findall(r"[│ ,](--[a-z][\w.-]*\w)(?!\.)[ \n│]+([A-Z{][^ │\n]*)?", out.getvalue())
    return sorted({(flag, kind_) for flag, kind_ in found if flag != "--help"})


VALUES = [
    "nan", "inf", "-inf", "1e999", "-1", "0", "1", "2", "3", "0.5", "1e-400", "9" * 30, "2147483648",
    "1000000000", "-9223372036854775809", "", " ", "x", "true", "None", "²", "½", "0x10", "1_000", "--",
    "-x", "\0", "\udcff", "a\nb", "é", "auto", "off", "none", "cpu", "meta", "cuda:99", "28x28", "0x0",
    "float32", "test", "digits", "mnist", "1,2", "[1]", "{}",
]  # fmt: skip


PLAIN = {"INT": ["0", "1", "2", "3", "8", "1000"], "FLOAT": ["0", "0.5", "1", "3", "1e-9", "1e9"]}
"""Values that may have sense, by type."""


@kind(700, make_inputs)
def flags_of_commands(data: st.DataObject, box: Box) -> str:
    name = data.draw(st.sampled_from(sorted(BASE)))
    words: list[str] = []
    taken: dict[str, tuple[str, str]] = {}
    for _ in range(data.draw(st.integers(1, 3))):
        if not flags(name) or data.draw(st.integers(0, 9)) == 0:
            words += [data.draw(st.sampled_from([*VALUES, "--no-such-flag", "--help "]))]
            continue
        flag, kind_ = data.draw(st.sampled_from(flags(name)))
        able = PLAIN.get(kind_.rpartition("|")[2]) if data.draw(st.booleans()) else None
        count = data.draw(st.sampled_from([1] * 8 + [0, 2]))
        words += [flag, *[data.draw(st.sampled_from(able or VALUES)) for _ in range(count)]]
        taken[flag] = kind_, words[-1]
    outcome = perform(box, [name, *BASE[name], *words])
    numbers = [
        value for kind_, value in taken.values() if kind_ in ("FLOAT", "{None}|FLOAT", "INT")
    ]
    if outcome == "accepted" and {"nan", "inf", "-inf", "1e999"} & set(numbers):
        raise Fault("a number that is not finite was taken")
    return outcome


@kind(400, make_inputs)
def words_of_commands(data: st.DataObject, box: Box) -> str:
    """Words dropped, doubled, exchanged and put in."""
    name = data.draw(st.sampled_from(sorted(BASE)))
    words = [name, *BASE[name]]
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(words)))
        match data.draw(st.sampled_from(["drop", "double", "odd", "name", "exchange"])):
            case "drop":
                del words[at : at + 1]
            case "double":
                words[at:at] = words[at : at + 2]
            case "odd":
                words.insert(at, data.draw(st.sampled_from(VALUES)))
            case "name":
                words[at : at + 1] = [data.draw(st.sampled_from(NAMES))]
            case "exchange":
                words[at : at + 2] = words[at : at + 2][::-1]
    if not words or words[0] not in ("record", "results"):
        box.note(*words)
        return perform(box, words) if words else "accepted"
    return perform(box, words)


@kind(500, make_inputs)
def paths(data: st.DataObject, box: Box) -> str:
    """An odd path in the place of one that a command reads or writes."""
    name = data.draw(st.sampled_from([n for n in sorted(BASE) if n != "list"]))
    words = [name, *BASE[name]]
    places = [k for k, word in enumerate(words) if "." in word and not word.startswith("--")]
    places += [k for k, word in enumerate(words) if word in ("run", "study", "data")]
    odd = data.draw(
        st.sampled_from([*NAMES, "pipe", "loop", "gone", "folder", "file/x", "net.safetensors"])
    )
    if data.draw(st.booleans()) and odd:
        odd += data.draw(
            st.sampled_from([".png", ".json", ".gif", ".safetensors", ".md", "/x.png"])
        )
    os.mkfifo("pipe")
    Path("loop").symlink_to("loop")
    Path("gone").symlink_to("nowhere/x")
    Path("folder").mkdir()
    Path("file").write_text("x")
    words[data.draw(st.sampled_from(places))] = odd
    return perform(box, words)


# ---- environments -------------------------------------------------------------------------------

VARIABLES = {
    "OMP_NUM_THREADS": ["abc", "-1", "0", "", "1", "4,2", "9" * 30],
    "DRAWNET_DATA": ["", "relative", "~nosuchuser", "/dev/null", "n" * 300, "a\nb", "\udcff", "~"],
    "DRAWNET_KERNELS": ["0", "1", "abc", "", "-1"],
    "DRAWNET_DAT": ["x"],
    "DRAWNET_": ["x"],
    "XDG_CACHE_HOME": ["", "relative", "/dev/null", "/proc/x", "n" * 300, "~/x", "\udcff"],
    "HOME": ["", "relative", "/nowhere", "\udcff", "/dev/null"],
    "COLUMNS": ["1", "0", "-1", "abc", "99999999999", ""],
    "LINES": ["0", "abc"],
    "TERM": ["", "dumb", "nonsense", "\udcff"],
    "NO_COLOR": ["", "1"],
    "FORCE_COLOR": ["1", "abc"],
    "TMPDIR": ["/nowhere", "", "relative", "/dev/null"],
    "CC": ["", "/nowhere", "true", "false", "cat", "/", "a\nb"],
    "LC_ALL": ["C", "nonsense", "", "\udcff"],
    "PYTHONUTF8": ["0", "1"],
    "PYTHONCOERCECLOCALE": ["0"],
    "PYTHONIOENCODING": ["ascii", "latin-1"],
    "WORLD_SIZE": ["abc", "0", "2", "-1", ""],
    "RANK": ["abc", "5", ""],
    "MASTER_ADDR": ["", "nowhere.invalid"],
    "MASTER_PORT": ["abc", "99999"],
}
LIGHT = [
    ["list"],
    ["--version"],
    ["--help"],
    ["train"],
    ["sample", "--help"],
    ["ablate"],
    ["sampel"],
]
HEAVY = [["sample", "net.safetensors", "-n", "1", "--out", "o.png"]]


@kind(240, make_inputs)
def environments(data: st.DataObject, box: Box) -> str:
    words = data.draw(st.sampled_from(HEAVY if data.draw(st.integers(0, 5)) == 0 else LIGHT))
    names = data.draw(
        st.lists(st.sampled_from(sorted(VARIABLES)), min_size=1, max_size=4, unique=True)
    )
    chosen = {name: data.draw(st.sampled_from(VARIABLES[name])) for name in names}
    box.note(chosen, *words)
    for path in box.shared.iterdir():
        Path(path.name).symlink_to(path)
    before = {p.name for p in box.here.iterdir()}
    stream = data.draw(
        st.sampled_from(["", "", "", "", "> /dev/full", ">&-", "2>&-", "2> /dev/full"])
    )
    line = f'exec "$0" -m drawnet "$@" {stream}'
    try:
        done = subprocess.run(
            ["sh", "-c", line, sys.executable, *words], capture_output=True, timeout=60,
            stdin=subprocess.DEVNULL, env=os.environ | chosen,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Fault("waits longer than 60 seconds") from None
    err = done.stderr.decode(errors="replace")
    if "Traceback" in err or done.returncode not in (0, 2, 120):
        raise Fault(f"status {done.returncode}, said {err[-300:]!r}")
    if done.returncode == 2 and "drawnet: " not in err and "2>" not in stream:
        raise Fault(f"refused without a word: {err[-300:]!r}")
    if left := {p.name for p in box.here.iterdir() if p.name.endswith(".part")} - before:
        raise Fault(f"left {left}")
    return "accepted" if done.returncode == 0 else "refused"


# ---- requests -----------------------------------------------------------------------------------

SHAPE = (1, 12, 10)
X = base64.urlsafe_b64encode(bytes(15)).decode()
BODIES = {
    "draw": {"n": 2, "seed": 1, "temperature": 0.5, "labels": [], "rates": True},
    "redraw": {"x": X, "labels": []},
    "complete": {"x": X, "known": X, "n": 2, "rounds": 2},
    "morph": {"a": X, "b": X, "n": 3},
}


def make_server(box: Box) -> None:
    from served import Server, save

    draw = DrawConfig(steps=3, units=8, latents=3, read=2, write=3)
    path = save(box.shared, "small", draw, SHAPE)
    limits = "connection.PATIENCE, connection.LINGER = 0.4, 0.4"
    box.made["server"] = Server(path, limits=limits)
    import atexit

    atexit.register(box.made["server"].close)


LINES = [
    "X: y", "Host: x", "Host: evil.example", "Origin: null", "Content-Length: 5", "Content-Length: -1",
    "Content-Length: 99999999999999999999", "Transfer-Encoding: chunked", "Transfer-Encoding: gzip",
    "Content-Type: text/plain", "Content-Type: application/json; charset=utf-16", "Expect: 100-continue",
    "Upgrade: websocket", "Connection: upgrade", "X: " + "y" * 20_000, "X:y\x00", ": x", "no colon",
    "Content-Encoding: gzip", "Range: bytes=0-1", "X: \u00ff", "Accept: " + "a," * 500,
]  # fmt: skip
TARGETS = [
    "/", "/api/models", "/api/none", "/api/draw.exe", "/..%2f..%2fetc/passwd", "/%00", "*", "//x", "/é",
    "/api/draw?x=1", "/" + "a" * 9000, "http://localhost/", "/api/draw.png.gif", "/app.js",
]  # fmt: skip


@kind(1100, make_server)
def requests(data: st.DataObject, box: Box) -> str:
    view = data.draw(st.sampled_from(sorted(BODIES)))
    body: Any = BODIES[view]
    what, typed = "", False
    if data.draw(st.booleans()):
        body, what, typed = mutate(data, BODIES[view], lambda at: False)
    text = dumps(body).encode()
    if data.draw(st.integers(0, 5)) == 0:
        text, typed = damage(data, text), False
    method = data.draw(
        st.sampled_from(["POST"] * 16 + ["GET", "HEAD", "PUT", "OPTIONS", "\0", "PoSt"])
    )
    suffix = data.draw(st.sampled_from(["", "", "", ".png", ".gif"]))
    target = data.draw(st.sampled_from([f"/api/{view}{suffix}"] * 40 + TARGETS))
    lines = ["Host: localhost", "Connection: close", "Content-Type: application/json"]
    lines += [f"Content-Length: {len(text)}"]
    odd = (
        data.draw(st.lists(st.sampled_from(LINES), max_size=2))
        if data.draw(st.integers(0, 2)) == 0
        else []
    )
    for line in odd:
        lines.insert(data.draw(st.integers(0, len(lines))), line)
    head = f"{method} {target} HTTP/1.1\r\n" + "\r\n".join(lines) + "\r\n\r\n"
    raw = head.encode("utf-8", "surrogatepass") + text
    if data.draw(st.integers(0, 5)) == 0:
        raw, odd = damage(data, raw), ["damaged"]
    box.note(method, target[:60], what, *(line[:40] for line in odd))
    status, rest = answered(box.made["server"].address, raw)
    if box.made["server"].process.poll() is not None:
        raise Fault("the server has ended")
    if status >= 500 and status not in (501, 503):
        raise Fault(f"status {status}: {rest[:200]!r}")
    if (
        status == 200
        and typed
        and method == "POST"
        and not odd
        and f"/api/{view}{suffix}" == target
    ):
        raise Fault("a value of another type was taken")
    return "accepted" if status < 300 else "refused"


def answered(address: tuple[str, int], raw: bytes) -> tuple[int, bytes]:
    """Send bytes and read all that comes back: the status, and the body."""
    found = b""
    with socket.create_connection(address, timeout=10) as client:
        with contextlib.suppress(ConnectionError):
            client.sendall(raw)
        try:
            while part := client.recv(1 << 16):
                found += part
        except ConnectionError:
            pass
        except TimeoutError:
            raise Fault(f"no end after 10 seconds: {found[:100]!r}") from None
    head, _, body = found.rpartition(b"HTTP/1.1 ")[2].partition(b"\r\n\r\n")
    if not head[:3].isdigit():
        raise Fault(f"no answer: {found[:100]!r}")
    return int(head[:3]), body
