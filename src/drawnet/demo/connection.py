"""HTTP/1.1 by uvicorn, with limits for what a client may withhold, and an end by any signal."""

import asyncio
import contextlib
import json
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

PATIENCE = 10.0
"""Seconds within which a request must have arrived completely, header and body."""
STALL = 10.0
"""Seconds within which a client must take something, where more than 64 KiB wait for it."""
BUFFER = 1 << 17
"""Bytes of a response that the system buffers for a client that does not read."""
FETCHED = 120.0
"""Seconds within which a response must have been taken, from the arrival of its request on."""
LINGER = 2.0
"""Seconds in which a refused client may read why, while whatever it still sends is discarded."""
CROWD = 256
"""Maximum number of connections."""
HEADER = 16_384
"""Maximum size of a request's header in bytes."""
SIGNALS = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)]


class Connection(H11Protocol):
    """A connection that ends when its client neither sends nor reads in time."""

    due: asyncio.TimerHandle | None = None
    """Ends the wait for a request, and then for the client to have its response."""
    stalled: asyncio.TimerHandle | None = None
    """Ends the wait for a client that reads nothing."""
    answered: Any = None
    """The request and response that `due` is about, if not the next."""
    refused = False

    def expect(self, seconds: float, otherwise: Callable[[], None]) -> None:
        if self.due:
            self.due.cancel()
        self.due = self.loop.call_later(seconds, otherwise)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.expect(PATIENCE, self.late)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        if len(self.connections) > CROWD:
            self.drop()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self.due, self.stalled):
            if timer:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.refused:
            return
        super().data_received(data)
        self.arrived()

    def arrived(self) -> None:
        """Wait no longer for a request that has arrived, but for its response to be taken."""
        if self.cycle and not self.cycle.more_body and self.cycle is not self.answered:
            self.answered = self.cycle
            self.expect(FETCHED, self.drop)

    def on_response_complete(self) -> None:
        if self.conn.their_state is h11.SEND_BODY:  # refused before it was read
            self.end()
        elif not self.transport.get_write_buffer_size():  # else what waits must be taken first
            self.expect(PATIENCE, self.late)
        super().on_response_complete()
        self.arrived()  # the next request may have come with this one

    def pause_writing(self) -> None:
        super().pause_writing()
        self.watch(self.transport.get_write_buffer_size())

    def watch(self, size: int) -> None:
        self.stalled = self.loop.call_later(STALL, self.unread, size)

    def unread(self, before: int) -> None:
        if (size := self.transport.get_write_buffer_size()) < before:
            self.watch(size)
        else:
            self.drop()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.stalled:
            self.stalled.cancel()

    def drop(self) -> None:
        """End the connection, and forget what the client has not taken."""
        linger = struct.pack("ii", 1, 0)
        self.transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, linger
        )
        self.transport.abort()

    def late(self) -> None:
        if self.transport.is_closing():
            self.drop()
        elif self.answered and not self.conn.trailing_data[0]:  # no next request
            self.transport.close()
        else:
            self.refuse(408, f"the request did not arrive within {PATIENCE:g} seconds")

    def send_400_response(self, msg: str) -> None:
        """Answer what is no request: called while uvicorn handles h11's exception."""
        status = getattr(sys.exception(), "error_status_hint", 400)
        if status == 431:
            msg = f"a request's header may hold {HEADER:,} bytes"
        self.refuse(status, msg)

    def refuse(self, status: int, why: str) -> None:
        """Answer, unless an answer has begun, and end the connection."""
        if self.cycle and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = json.dumps({"error": why}).encode()
            headers = [
                *self.server_state.default_headers,
                (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode()),
                (b"connection", b"close"),
            ]
            reason = HTTPStatus(status).phrase.encode()
            events: tuple[Any, ...] = (
                h11.Response(status_code=status, headers=headers, reason=reason),
                h11.Data(data=body),
                h11.EndOfMessage(),
            )
            for event in events:
                self.transport.write(self.conn.send(event) or b"")
        self.end()

    def end(self) -> None:
        """Close, but not before the client can have read: bytes left unread would reset it."""
        if self.transport.is_closing():
            return
        self.refused = True
        self._unset_keepalive_if_required()
        self.transport.write_eof()
        self.flow.resume_reading()
        self.expect(LINGER, self.drop)


class Server(uvicorn.Server):
    """A server that any signal ends: what is drawn is broken off, and `stop` is called."""

    def __init__(self, config: uvicorn.Config, stop: Callable[[], None]) -> None:
        super().__init__(config)
        self.stop = stop

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Note signals; unlike uvicorn, do not raise them again at the end."""
        before = {number: signal.signal(number, self.handle_exit) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.stop()
        asyncio.get_running_loop().call_later(1.0, self.abort)
        await super().shutdown(sockets)

    def abort(self) -> None:
        """Drop the clients that have not taken the last line of their responses."""
        for connection in list(self.server_state.connections):
            if isinstance(connection, Connection):
                connection.drop()
