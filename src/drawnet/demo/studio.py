"""The thread that draws for all requests, a slice of time for each.

A request has its next slice when its client has taken what the last one gave: who does not read costs
nothing.  Of those that wait, the request that has had the thread for the shortest time comes first.
"""

import asyncio
import itertools
import math
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import Future

from drawnet.demo.requests import Refused

PLACES = 32
"""Maximum number of requests that wait or are computed."""
LONGEST = 60.0
"""Seconds after which a request that waits or is computed is refused."""
IDLE = 1.0
"""Seconds after which a client that has not taken its part leaves its place to others."""
SLICE = 0.05
"""Seconds of a slice, which a long step exceeds."""
BREATH = 0.01
"""Seconds that the thread waits for a request to come back before it takes one that has had more."""

Part = tuple[bytes | None, float]
"""The next part, None after the last, and the seconds that it took."""


def sliced(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Join the parts of every slice."""
    found, end = bytearray(), time.monotonic() + SLICE
    try:
        for part in parts:
            found += part
            if time.monotonic() > end:
                yield bytes(found)
                found, end = bytearray(), time.monotonic() + SLICE
    except Exception:
        if found:
            yield bytes(found)
        raise
    if found:
        yield bytes(found)


class Studio:
    """The thread in which all models draw."""

    def __init__(self) -> None:
        self.waiting: queue.PriorityQueue[
            tuple[float, int, Future[Part] | None, Iterator[bytes]]
        ] = queue.PriorityQueue()
        self.numbers = itertools.count()
        self.active: set[object] = set()
        self.closed = False
        self.thread = threading.Thread(target=self.draw, name="draw", daemon=True)
        self.thread.start()

    def draw(self) -> None:
        """Compute slices, in the thread, until `close`."""
        while True:
            rank, _, future, parts = self.waiting.get()
            if future is None:
                return
            if future.set_running_or_notify_cancel():
                start = time.perf_counter()
                try:
                    if self.closed:
                        raise Refused("the server has been stopped", 503)
                    part = next(parts, None)
                except Exception as why:
                    future.set_exception(why)
                else:
                    future.set_result((part, time.perf_counter() - start))
            del future, parts  # frees what they hold before the next ones arrive
            if any(other > rank for other, *_ in list(self.waiting.queue)):
                time.sleep(BREATH)

    def close(self) -> None:
        """Refuse what waits, and end the thread after the slice that it computes."""
        self.closed = True
        self.waiting.put((math.inf, next(self.numbers), None, iter(())))

    def enqueue(self, parts: Iterator[bytes], spent: float) -> "asyncio.Future[Part]":
        """Enqueue the next slice of a request that has had the thread for `spent` seconds."""
        future: Future[Part] = Future()
        rank = int(spent / SLICE).bit_length()  # doubled times, so that equal requests end in turn
        self.waiting.put((rank, next(self.numbers), future, parts))
        return asyncio.wrap_future(future)

    async def parts(
        self, work: Callable[[], Iterable[bytes]], spent: float = 0
    ) -> AsyncIterator[bytes]:
        """Yield the parts of a response, a slice each, computed when the one before has been taken.

        spent: seconds that the request counts as having had; the more it asks for, the more.
        """
        if len(self.active) >= PLACES:
            raise Refused("too many requests at once: try again later", 503)
        place, rest, left = object(), sliced(work()), LONGEST
        self.active.add(place)
        try:
            while True:
                start = time.monotonic()
                try:
                    async with asyncio.timeout(left):
                        part, seconds = await self.enqueue(rest, spent)
                except TimeoutError:
                    why = f"this took longer than {LONGEST:g} seconds: request less"
                    raise Refused(why, 503) from None
                if part is None:
                    return
                spent, left = spent + seconds, left - (time.monotonic() - start)
                leave = asyncio.get_running_loop().call_later(IDLE, self.active.discard, place)
                yield part
                leave.cancel()
                self.active.add(place)
        finally:
            self.active.discard(place)
