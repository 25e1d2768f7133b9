"""Clients that withhold what they owe: others are served, and they are ended; so is the server."""

import asyncio
import base64
import json
import math
import select
import signal
import socket
import threading
import time
from contextlib import ExitStack, suppress

import pytest
import torch

from drawnet.drawing import sample
from drawnet.models.draw import DrawConfig

for name in ("httpx", "starlette", "uvicorn"):
    pytest.importorskip(name, reason="the demo's tests need httpx, starlette and uvicorn")
from drawnet.demo import studio  # noqa: E402
from served import Server, levels, packed, save  # noqa: E402

LIMITS = "connection.PATIENCE, connection.STALL, connection.LINGER = 1.0, 1.0, 0.5"
SHAPE = (1, 64, 64)
END = b'{"end":true}\n\r\n0\r\n\r\n'
JSON = "Content-Type: application/json\r\n"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A model whose answers are larger than what a system buffers, 14 MB."""
    draw = DrawConfig(steps=40, units=12, latents=4, read=2, write=3)
    return save(tmp_path_factory.mktemp("shown"), "large", draw, SHAPE)


@pytest.fixture(scope="module")
def server(path):
    server = Server(path, limits=LIMITS)
    yield server
    server.close()


def posted(view, request, extra=""):
    """The bytes of a request."""
    body = json.dumps(request)
    head = f"POST /api/{view} HTTP/1.1\r\nHost: localhost\r\n{JSON}{extra}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()


def opened(server, sent=b"", room=0):
    client = socket.socket()
    client.settimeout(20)
    if room:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    client.connect(server.address)
    client.sendall(sent)
    return client


def whole(client, most=math.inf):
    """What comes until the server ends the connection, or until there is as much as this."""
    found = b""
    with suppress(ConnectionError):
        while len(found) < most and (part := client.recv(1 << 16)):
            found += part
    return found


def error(answer):
    """(status, line) of an answer that is an error."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"\n" not in body and b"connection: close" in head.lower()
    return int(head.split()[1]), json.loads(body)["error"]


def drip(clients, part, ended):
    while not ended.wait(0.1):
        for client in clients:
            with suppress(OSError):
                client.sendall(part)


def test_endless_headers_keep_nobody_waiting_and_come_to_an_end(server):
    ended = threading.Event()
    with ExitStack() as stack:
        start = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
        clients = [stack.enter_context(opened(server, start)) for _ in range(50)]
        thread = threading.Thread(target=drip, args=(clients, b"X: y\r\n", ended))
        thread.start()
        try:
            assert server.client.get("/").status_code == 200
            assert server.lines("draw", n=1)[-1] == {"end": True}
            for client in clients:
                assert error(whole(client)) == (408, "the request did not arrive within 1 seconds")
        finally:
            ended.set()
            thread.join()


@pytest.mark.parametrize("start", [posted("draw", {"n": 1})[:-3], b""])
def test_half_a_request_comes_to_an_end(server, start):
    with opened(server, start) as client:
        assert error(whole(client))[0] == 408


@pytest.mark.parametrize("content", ["", JSON])
def test_a_body_that_nobody_wants_comes_to_an_end(server, content):
    ended = threading.Event()
    start = f"POST /api/none HTTP/1.1\r\nHost: localhost\r\n{content}Content-Length: 99999\r\n\r\n"
    with opened(server, start.encode()) as client:
        thread = threading.Thread(target=drip, args=([client], b"x", ended))
        thread.start()
        try:
            assert whole(client).startswith(b"HTTP/1.1 404")
        finally:
            ended.set()
            thread.join()


def test_a_header_of_a_megabyte_is_refused_in_words(server):
    with opened(server, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ") as client:
        client.sendall(b"y" * 1_000_000)
        assert error(whole(client)) == (431, "a request's header may hold 16,384 bytes")


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"POST /api/draw HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        posted("draw", {}).replace(b"Content-Length: 2", b"Transfer-Encoding: chunked")
        + b"\r\nz\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: rot13\r\n\r\n",
        posted("draw", {"n": 1}, "Connection: keep-alive\r\n") + b"\0 garbage\r\n\r\n",
    ],
)
def test_what_is_no_request_gets_an_answer_and_an_end(server, sent):
    with opened(server, sent) as client:
        answer = whole(client)
    status, why = error(answer[answer.rindex(b"HTTP/1.1 ") :])
    assert status in (400, 501) and why
    assert server.process.poll() is None


def test_clients_that_never_read_keep_nobody_waiting_and_come_to_an_end(server):
    request = posted("draw", {"n": 64})
    with ExitStack() as stack:
        silent = []
        for _ in range(2):
            wave = [opened(server, request, 4096) for _ in range(studio.PLACES - 1)]
            silent += [stack.enter_context(client) for client in wave]
            end = time.monotonic() + 20
            while (answer := server.client.post("/api/draw", json={"n": 2})).status_code == 503:
                assert time.monotonic() < end
                time.sleep(0.1)
            assert answer.text.endswith('{"end":true}\n')
        for client in silent:
            wait = select.poll()
            wait.register(client, getattr(select, "POLLRDHUP", 0))
            assert wait.poll(20_000)  # hung up by the server


def test_an_answer_may_take_long_but_not_for_ever(server):
    """A client that takes something before every time limit has it all; one that stops does not."""
    for pauses, complete in (([0.7] * 3, True), ([0.7, 2.5], False)):
        with opened(server, posted("draw", {"n": 16}, "Connection: close\r\n"), 4096) as client:
            found = b""
            for pause in pauses:
                time.sleep(pause)
                found += whole(client, 300_000)
            assert (found + whole(client)).endswith(END) == complete


def test_drawings_that_are_computed_in_slices_are_those_that_are_not(server, path):
    model, found = sample.load(path), {}

    def one(seed):
        found[seed] = server.lines("draw", n=3, seed=seed)

    threads = [threading.Thread(target=one, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, lines in found.items():
        last = levels(sample.sample(model, 3, seed=seed))
        drawn = torch.frombuffer(
            bytearray(base64.b64decode(lines[-2]["canvas"])), dtype=torch.uint8
        )
        assert torch.equal(drawn.view(last.shape), last)


def test_who_has_had_the_least_time_comes_first():
    order = []

    def work(name, count):
        for _ in range(count):
            time.sleep(0.06)
            order.append(name)
            yield name.encode()

    async def taken(thread, name, count, start):
        await start.wait()
        return [part async for part in thread.parts(lambda: work(name, count))]

    async def main():
        thread, now, later = studio.Studio(), asyncio.Event(), asyncio.Event()
        long = [asyncio.create_task(taken(thread, name, 6, now)) for name in "ab"]
        short = asyncio.create_task(taken(thread, "c", 1, later))
        now.set()
        await asyncio.sleep(0.3)
        later.set()
        assert await short == [b"c"]
        assert [len(await task) for task in long] == [6, 6]
        thread.close()
        thread.thread.join(5)
        assert not thread.thread.is_alive() and not thread.active

    asyncio.run(main())
    assert order.index("c") < 8


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_ends_the_server_while_it_draws(path, name):
    server = Server(path)
    picture = packed(torch.ones(SHAPE))
    request = {"x": picture, "known": picture, "rounds": 64, "n": 16}
    with ExitStack() as stack:
        for view in ("complete", "complete.gif", "complete"):
            client = stack.enter_context(opened(server, posted(view, request)))
            if view == "complete":
                client.recv(1)
        stack.enter_context(opened(server, posted("draw", {"n": 64}), 4096))  # never reads
        stack.enter_context(opened(server, b"GET / HT"))
        server.close(getattr(signal, name))
