"""Files from pinned addresses: kept while they are incomplete, whole only when their digest is the expected one."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import ssl
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

from star_bench.errors import MissingWeights, Refused
from star_bench.files.atomic import disk_error
from star_bench.files.digests import Digest

PROBE_S = 1.2  # chosen here: an unreachable address must be told in under 2 s
STALL_S = 30  # chosen here: a transfer that brings nothing for so long has failed
CHUNK = 2**20

Advance = Callable[[int, int | None], None]
"""Told of progress: bytes that are here, bytes in all where the server says so."""


def reachable(address: str) -> bool:
    """Whether anything answers there, or at the proxy before it, within PROBE_S. A name look-up takes no timeout, and
    libraries go on trying for minutes."""
    target = urllib.parse.urlsplit(address)
    proxy = urllib.request.getproxies().get(target.scheme)
    if proxy and not urllib.request.proxy_bypass(target.hostname or ""):
        target = urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    answered = threading.Event()

    def knock() -> None:
        default = 80 if target.scheme == "http" else 443
        with contextlib.suppress(OSError), socket.create_connection((target.hostname, target.port or default), PROBE_S):
            answered.set()

    thread = threading.Thread(target=knock, daemon=True)
    thread.start()
    thread.join(PROBE_S)
    return answered.is_set()


def download(url: str, target: Path, *, sha256: str, remedy: str, advance: Advance = lambda here, total: None) -> Path:
    """`download_checked` for a file that is known by its sha256."""
    return download_checked(url, target, digest=Digest("sha256", sha256), remedy=remedy, advance=advance)


def download_checked(
    url: str, target: Path, *, digest: Digest, remedy: str, advance: Advance = lambda here, total: None
) -> Path:
    """Fetches `url` to `target`, which appears only when it is whole. What an interrupted call brought is kept beside it
    and continued.

    remedy says what to do where the address can't be reached. Raises MissingWeights when it can't, Refused when the
    content has another digest, DiskError.
    """
    if target.is_file() and digest.of(target) == digest:
        return target
    if not reachable(url):
        raise MissingWeights(f"{url} can't be reached", remedy)
    partial = target.with_name(f"{target.name}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _transfer(url, partial, advance)
        got = digest.of(partial)
        if got != digest:
            partial.unlink()
            raise Refused(f"{url} has {got} and {digest.value} was expected, so it was not kept", remedy)
        os.replace(partial, target)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError) as error:
        raise MissingWeights(f"{url} could not be fetched ({error})", f"try again, or {remedy}") from None
    except OSError as error:
        raise disk_error(target, error) from None
    return target


def _transfer(url: str, partial: Path, advance: Advance) -> None:
    here = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={here}-"} if here else {})
    try:
        answer = urllib.request.urlopen(request, timeout=STALL_S)
    except urllib.error.HTTPError as error:
        if here and error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # nothing is left to fetch; the digest decides
        raise
    with answer:
        here = here if answer.status == http.client.PARTIAL_CONTENT else 0  # else the server sends it all again
        length = answer.headers.get("Content-Length")
        total = here + int(length) if length else None
        with partial.open("ab" if here else "wb") as file:
            while chunk := answer.read(CHUNK):
                file.write(chunk)
                here += len(chunk)
                advance(here, total)
            file.flush()
            os.fsync(file.fileno())
    if total is not None and here < total:
        raise ConnectionError(f"the connection ended after {here:,} of {total:,} bytes")
