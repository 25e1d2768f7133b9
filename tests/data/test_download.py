"""Downloads from a loopback server that breaks off, lies and refuses."""

import hashlib
import io
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

import drawnet.data.download
from drawnet.data import File, Info
from drawnet.data.download import Patience, fetch
from drawnet.data.io.files import find_file
from drawnet.errors import UserError

BODY = np.random.default_rng(0).bytes(1_000_003)
QUICK = Patience(tries=3, pause=0.001, timeout=2)


class Server(ThreadingHTTPServer):
    """Serves BODY; `script` holds what to do at each request, the last entry for good.

    ok, and: cut (half of what was promised), norange (200 whatever is asked), elsewhere (206 of
    another range), wrong (other bytes), long/short (lies about the length), silent (no length),
    404, 503, ftp (redirects there), moved (redirects to itself), hang, 416
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.asked, self.on_half = ["ok"], [], None

    def handle_error(self, *_):
        """A client that hangs up is part of the tests."""

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_):
        pass

    def do_GET(self):
        server, asked = self.server, self.headers.get("Range")
        server.asked.append(asked)
        act = server.script.pop(0) if len(server.script) > 1 else server.script[0]
        if act in ("ftp", "moved"):
            self.send_response(302)
            target = "ftp://127.0.0.1/x" if act == "ftp" else f"{server.base}moved"
            self.send_header("Location", target)
            return self.end_headers()
        if act == "hang":
            return threading.Event().wait(3)
        if act.isdigit():
            return self.send_error(int(act))
        start = int(asked[6:-1]) if asked and act != "norange" else 0
        body = BODY[start:] if act != "wrong" else b"?" * (len(BODY) - start)
        self.head(act, start, bool(asked), len(body))
        half = len(body) // 2
        self.wfile.write(body[:half])
        self.wfile.flush()
        if server.on_half:
            server.on_half()
        if act != "cut":
            self.wfile.write(body[half:])
        return None

    def head(self, act: str, start: int, ranged: bool, length: int) -> None:
        self.send_response(206 if ranged and act != "norange" else 200)
        if ranged and act != "norange":
            first = start + 7 if act == "elsewhere" else start
            self.send_header("Content-Range", f"bytes {first}-{len(BODY) - 1}/{len(BODY)}")
        if act != "silent":
            wrong = {"long": 10, "short": -10}.get(act, 0)
            self.send_header("Content-Length", str(length + wrong))
        self.end_headers()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def know(monkeypatch, *names: str, size: int | None = len(BODY), **changed) -> None:
    """The data set `toy` has the files `names`, each of them BODY."""
    fields = {"addresses": ("http://127.0.0.1:9/none",), "sha256": hashlib.sha256(BODY).hexdigest()}
    files = tuple(File(name=name, size=size, **(fields | changed)) for name in names)
    monkeypatch.setattr(drawnet.data.download, "about", lambda name: Info(name, "", "", "", files))


@pytest.fixture
def toy(server, monkeypatch, tmp_path):
    """Fetches `toy` into tmp_path from the server."""
    know(monkeypatch, "a.gz")

    def run() -> bytes:
        (path,) = fetch("toy", tmp_path, base=server.base, patience=QUICK)
        assert path == tmp_path / "toy" / "a.gz" and not part(tmp_path).exists()
        return path.read_bytes()

    return run


def part(tmp_path: Path) -> Path:
    return tmp_path / "toy" / "a.gz.part"


def leave(tmp_path: Path, content: bytes) -> None:
    part(tmp_path).parent.mkdir()
    part(tmp_path).write_bytes(content)


def test_downloads_every_file_and_only_once(server, monkeypatch, tmp_path):
    know(monkeypatch, "a.gz", "b.gz")
    for _ in range(2):
        paths = fetch("toy", tmp_path, base=server.base)
        assert [p.read_bytes() == BODY for p in paths] == [True, True]
    assert server.asked == [None, None]
    paths[0].write_bytes(b"damaged")
    assert fetch("toy", tmp_path, base=server.base)[0].read_bytes() == BODY
    assert len(server.asked) == 3


def test_another_sets_file_of_the_same_name_is_left_alone(server, monkeypatch, tmp_path):
    """Fashion-MNIST's files are called as MNIST's are; readers look in the set's folder first."""
    know(monkeypatch, "a.gz")
    (tmp_path / "a.gz").write_bytes(b"another set's")
    for _ in range(2):
        assert fetch("toy", tmp_path, base=server.base) == [tmp_path / "toy" / "a.gz"]
    assert (tmp_path / "a.gz").read_bytes() == b"another set's" and len(server.asked) == 1
    assert find_file(tmp_path, "toy", "a.gz") == tmp_path / "toy" / "a.gz"
    (tmp_path / "toy" / "a.gz").replace(tmp_path / "a.gz")
    assert fetch("toy", tmp_path, base=server.base) == [tmp_path / "a.gz"]


def test_the_default_folder(server, monkeypatch, tmp_path):
    know(monkeypatch, "a.gz")
    monkeypatch.setenv("DRAWNET_DATA", str(tmp_path / "here"))
    assert fetch("toy", base=server.base) == [tmp_path / "here" / "toy" / "a.gz"]


def test_a_broken_download_goes_on_where_it_stopped(server, toy):
    server.script = ["cut", "cut", "ok"]
    assert toy() == BODY
    half = len(BODY) // 2
    assert server.asked == [None, f"bytes={half}-", f"bytes={half + (len(BODY) - half) // 2}-"]


def test_what_an_earlier_run_left_is_gone_on_with(server, toy, tmp_path):
    leave(tmp_path, BODY[:1234])
    assert toy() == BODY and server.asked == ["bytes=1234-"]


def test_a_part_that_is_whole_is_not_asked_for(server, toy, tmp_path):
    leave(tmp_path, BODY)
    assert toy() == BODY and server.asked == []


def test_giving_up_keeps_the_part(server, toy, tmp_path):
    server.script = ["cut"]
    with pytest.raises(UserError, match=r"a\.gz \(http.*broke off after \d+ of 1000003 bytes\)"):
        toy()
    assert len(server.asked) == QUICK.tries
    assert BODY.startswith(part(tmp_path).read_bytes()) and part(tmp_path).stat().st_size > 5e5


@pytest.mark.parametrize("act", ["norange", "silent", "ok"])
def test_servers_without_ranges_or_lengths(server, toy, tmp_path, act):
    server.script = [act]
    leave(tmp_path, BODY[:1234])
    assert toy() == BODY and server.asked == ["bytes=1234-"]


@pytest.mark.parametrize("first", ["elsewhere", "416"])
def test_a_range_that_does_not_fit_starts_anew(server, toy, tmp_path, first):
    leave(tmp_path, BODY[:1234])
    server.script = [first, "ok"]
    assert toy() == BODY and server.asked == ["bytes=1234-", None]


def test_a_part_that_is_too_long_starts_anew(server, toy, tmp_path):
    leave(tmp_path, BODY + b"more")
    assert toy() == BODY and server.asked[-1] is None


@pytest.mark.parametrize("lie", ["long", "short"])
def test_a_lie_about_the_length_is_tried_again(server, toy, tmp_path, lie):
    server.script = [lie, "ok"]
    assert toy() == BODY and len(server.asked) == 2
    (tmp_path / "toy" / "a.gz").unlink()
    server.script = [lie]
    with pytest.raises(UserError, match=r"offers \d+ bytes, not 1000003"):
        toy()


def test_an_unknown_length_is_checked_by_what_the_server_said(server, toy, monkeypatch):
    know(monkeypatch, "a.gz", size=None)
    server.script = ["cut", "ok"]
    assert toy() == BODY


def test_wrong_bytes_are_deleted(server, toy, tmp_path):
    server.script = ["wrong"]
    with pytest.raises(
        UserError, match=r"a\.gz: the download has sha256 \w+, not \w+; it is deleted"
    ):
        toy()
    assert list((tmp_path / "toy").iterdir()) == [] and len(server.asked) == 1
    server.script = ["ok"]
    assert toy() == BODY


def test_a_final_no_is_not_asked_again(server, toy):
    server.script = ["404"]
    with pytest.raises(UserError, match="HTTP 404 Not Found"):
        toy()
    assert len(server.asked) == 1


def test_a_busy_or_hanging_server_is_asked_again(server, toy, monkeypatch):
    monkeypatch.setitem(globals(), "QUICK", Patience(tries=3, pause=0.001, timeout=0.2))
    server.script = ["503", "hang", "ok"]
    assert toy() == BODY and len(server.asked) == 3


def test_the_pauses_double(server, toy, monkeypatch):
    pauses = []
    monkeypatch.setattr(drawnet.data.download.time, "sleep", pauses.append)
    server.script = ["503"]
    with pytest.raises(UserError, match="HTTP 503"):
        toy()
    assert pauses == [QUICK.pause, 2 * QUICK.pause]


def test_the_next_mirror_is_asked_and_goes_on_with_the_part(server, monkeypatch, tmp_path):
    mirrors = ("http://127.0.0.1:9/a.gz", f"{server.base}one/a.gz", f"{server.base}two/a.gz")
    know(monkeypatch, "a.gz", addresses=mirrors)
    server.script = ["cut", "ok"]
    (path,) = fetch("toy", tmp_path, patience=QUICK)
    assert path.read_bytes() == BODY and server.asked == [None, f"bytes={len(BODY) // 2}-"]


def test_nobody_there(monkeypatch, tmp_path):
    know(monkeypatch, "a.gz")
    monkeypatch.setenv("NO_PROXY", "*")
    with pytest.raises(UserError, match=r"http://127\.0\.0\.1:9/none: .*refused"):
        fetch("toy", tmp_path, patience=QUICK)


@pytest.mark.parametrize("base", ["file:///etc/", "ftp://127.0.0.1/", "data:,"])
def test_only_http(monkeypatch, tmp_path, base):
    know(monkeypatch, "a.gz")
    with pytest.raises(UserError, match="is not an http or https address"):
        fetch("toy", tmp_path, base=base, patience=QUICK)


def test_redirects_are_followed(server, toy):
    server.script = ["moved", "ok"]
    assert toy() == BODY


def test_a_redirect_to_ftp_is_refused(server, toy):
    server.script = ["ftp"]
    with pytest.raises(UserError, match="unknown url type: ftp"):
        toy()


def test_a_full_disk_is_reported_at_once(server, toy, tmp_path, monkeypatch):
    class Full(io.BytesIO):
        def write(self, _):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", lambda *_: Full())
    with pytest.raises(UserError, match=r"cannot write .*a\.gz\.part \(No space left on device\)"):
        toy()
    assert len(server.asked) == 1


def test_only_a_file_is_written_over(server, toy, tmp_path):
    part(tmp_path).parent.mkdir()
    part(tmp_path).symlink_to("/dev/null")
    with pytest.raises(UserError, match="is a device, pipe or socket"):
        toy()
    assert not server.asked and part(tmp_path).is_symlink()


def test_a_folder_that_cannot_be_made(server, monkeypatch, tmp_path):
    know(monkeypatch, "a.gz")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/toy cannot be a folder: .*file is not one"):
        fetch("toy", tmp_path / "file", base=server.base, patience=QUICK)


def test_ctrl_c_leaves_a_part_to_go_on_with(server, toy, tmp_path):
    main = threading.main_thread().ident

    def interrupt_once_some_is_on_disk():
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and not (
            part(tmp_path).exists() and part(tmp_path).stat().st_size
        ):
            time.sleep(0.001)
        signal.pthread_kill(main, signal.SIGINT)

    server.on_half = interrupt_once_some_is_on_disk
    # A shell that puts the tests in the background has them ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            toy()
    finally:
        signal.signal(signal.SIGINT, before)
    server.on_half = None
    left = part(tmp_path).read_bytes()
    assert left and BODY.startswith(left)
    assert toy() == BODY
    assert server.asked == [None, f"bytes={len(left)}-"]


@pytest.mark.parametrize("name", ["digits", "images", "faces"])
def test_nothing_to_fetch(name, tmp_path, capsys):
    assert fetch(name, tmp_path) == [] and list(tmp_path.iterdir()) == []
    out = capsys.readouterr().out
    assert out.startswith(f"{name}: nothing to download: it comes with drawnet, or see ")
    assert out.count("\n") == 1 and (name != "faces" or "https://cs.nyu.edu/" in out)


def test_an_unknown_name(tmp_path):
    with pytest.raises(UserError, match="did you mean 'mnist'"):
        fetch("mnis", tmp_path)


def test_of_a_set_made_from_another_the_other_is_fetched(server, monkeypatch, tmp_path):
    know(monkeypatch, "a.gz")
    base, about = drawnet.data.download.about("toy"), drawnet.data.download.about
    made = Info("made", "", "", "", origin="toy")
    monkeypatch.setattr(drawnet.data.download, "about", lambda n: made if n == "made" else about(n))
    assert not made.files and base.files
    assert fetch("made", tmp_path, base=server.base) == [tmp_path / "toy" / "a.gz"]
