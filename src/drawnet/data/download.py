"""Download a data set's official files: verified, resumable, and only on request.

pooch (1.9) does less: it deletes a partial download and restarts, knows one address per file, and
repeats a final refusal (404) like a broken transfer.  It too verifies before an atomic rename.
"""

import http.client
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib import request
from urllib.error import HTTPError

from drawnet.data import File, about, default_dir
from drawnet.data.io.files import sha256
from drawnet.errors import UserError, check_target, replace

CHUNK = 1 << 18


class Broken(Exception):
    """A transfer that failed and may succeed at the next attempt."""


class Refused(Broken):
    """A server's final refusal (404, 403, ...)."""


@dataclass(frozen=True)
class Patience:
    """How often and how long to try.

    tries    rounds over all addresses; pause: seconds before the second, doubled each round
    timeout  seconds without a byte after which a connection counts as broken
    """

    tries: int = 4
    pause: float = 1.0
    timeout: float = 30.0


def fetch(
    name: str,
    data_dir: Path | None = None,
    *,
    base: str | None = None,
    progress: bool = True,
    patience: Patience | None = None,
) -> list[Path]:
    """Download the official files of data set `name` into data_dir/name; return their paths.

    A file that is already there, or in data_dir, with the right SHA-256 is left alone, and so is one in
    data_dir with another, which may belong to another set.  A broken download stays in a .part file, and
    the next one resumes from it.

    data_dir  None: `drawnet.data.default_dir`
    base      location of the files in place of their official addresses: base + file name

    For a set that is derived from another, the files are the other's, in the other's folder.
    """
    name = about(name).origin or name
    info, data_dir = about(name), data_dir or default_dir()
    if not info.files:
        print(f"{name}: nothing to download: it comes with drawnet, or see {info.source}")
    paths = []
    for file in info.files:
        own = data_dir / name / file.name
        there = (p for p in (own, data_dir / file.name) if p.is_file() and sha256(p) == file.sha256)
        if (path := next(there, None)) is None:
            addresses = [base + file.name] if base is not None else list(file.addresses)
            _download(file, own, addresses, patience or Patience(), progress)
        paths.append(path or own)
    return paths


def _download(
    file: File, path: Path, addresses: list[str], patience: Patience, progress: bool
) -> None:
    part = path.with_name(path.name + ".part")
    for target in (path, part):
        check_target(target)
    with _on_disk(part):
        part.parent.mkdir(parents=True, exist_ok=True)
    _persist(file, part, addresses, patience, progress)
    with _on_disk(part):
        if (found := sha256(part)) != file.sha256:
            part.unlink()
            raise UserError(
                f"{file.name}: the download has sha256 {found}, not {file.sha256}; it is deleted: "
                "fetch again, or get the file elsewhere"
            )
        replace(part, path)


def _persist(
    file: File, part: Path, addresses: list[str], patience: Patience, progress: bool
) -> None:
    """Try the addresses in rounds until one has delivered the file; one that refuses is tried once."""
    problems: dict[str, str] = {}
    for round_ in range(patience.tries):
        if round_:
            time.sleep(patience.pause * 2 ** (round_ - 1))
        for address in list(addresses):
            try:
                return _receive(address, file, part, patience.timeout, progress)
            except Broken as error:
                problems[address] = str(error)
                if isinstance(error, Refused):
                    addresses.remove(address)
        if not addresses:
            break
    reasons = "; ".join(f"{address}: {why}" for address, why in problems.items())
    raise UserError(f"could not download {file.name} ({reasons}): try again later to resume")


def _receive(address: str, file: File, part: Path, timeout: float, progress: bool) -> None:
    """Complete `part` from one address, or raise Broken."""
    have = part.stat().st_size if part.exists() else 0
    if file.size is not None and have == file.size:
        return
    with _asked(address, part, have, timeout) as response:
        start, total = _offer(response, have, part)
        if file.size is not None and total is not None and total != file.size:
            raise Broken(f"offers {total} bytes, not {file.size}")
        total = file.size if total is None else total
        _write(response, part, start, total, file.name if progress else None)
    got = part.stat().st_size
    if total is not None and got != total:
        if got > total:
            part.unlink()
        raise Broken(f"broke off after {got} of {total} bytes")


@contextmanager
def _asked(address: str, part: Path, have: int, timeout: float) -> Iterator[Any]:
    """Request all bytes from `have` on and yield the response."""
    if not address.startswith(("http://", "https://")):
        raise UserError(f"{address!r} is not an http or https address")
    headers = {"User-Agent": "drawnet", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        response = _opener().open(request.Request(address, headers=headers), timeout=timeout)
    except HTTPError as error:
        error.close()
        if error.code == 416 and have:
            part.unlink()
            raise Broken("has no more bytes than the .part file, which is deleted") from error
        kind = Broken if error.code in (408, 429) or error.code >= 500 else Refused
        raise kind(f"HTTP {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise Broken(str(error) or type(error).__name__) from error
    with response:
        yield response


def _opener() -> request.OpenerDirector:
    """Open http and https, with proxies and redirects; no ftp, no file, which urllib has by default."""
    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler,
        request.HTTPHandler,
        request.HTTPSHandler,
        request.HTTPDefaultErrorHandler,
        request.HTTPRedirectHandler,
        request.HTTPErrorProcessor,
        request.UnknownHandler,
    ):
        opener.add_handler(handler())
    return opener


def _offer(response: Any, have: int, part: Path) -> tuple[int, int | None]:
    """Return the byte at which the response starts, and the file's size if the server states it."""
    if response.status != 206:  # the server has no ranges, or none was requested
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isdigit() else None
    span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if not span or int(span[1]) != have:
        part.unlink(missing_ok=True)
        raise Broken("sent another range than requested")
    return have, None if span[2] == "*" else int(span[2])


def _write(response: Any, part: Path, start: int, total: int | None, title: str | None) -> None:
    """Append to `part`, or overwrite it if the response starts at 0; progress bar only on a terminal."""
    from tqdm import tqdm

    bar = tqdm(
        desc=title,
        initial=start,
        total=total,
        unit="B",
        unit_scale=True,
        disable=None if title else True,
    )
    with bar, _on_disk(part), part.open("ab" if start else "wb") as file:
        for chunk in _chunks(response):
            file.write(chunk)
            bar.update(len(chunk))


def _chunks(response: Any) -> Iterator[bytes]:
    try:
        while chunk := response.read(CHUNK):
            yield chunk
    except (OSError, http.client.HTTPException) as error:
        raise Broken(str(error) or type(error).__name__) from error


@contextmanager
def _on_disk(part: Path) -> Iterator[None]:
    """Raise a disk error, unlike a network error, at once: it is not tried again."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write {part} ({error.strerror or error}): make room or choose another "
            "--data-dir; the partial download is kept"
        ) from error
