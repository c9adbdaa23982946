"""Downloads from a real server on this machine: whole, cut, resumed, refused, unreachable."""

from __future__ import annotations

import hashlib
import http.server
import re
import socket
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from audit import heard

from star_bench.assets import downloads
from star_bench.assets.downloads import CHUNK, PROBE_S, download, reachable
from star_bench.errors import MissingWeights, Refused
from star_bench.files.atomic import DiskError

CONTENT = np.random.default_rng(0).bytes(2 * CHUNK + 12_345)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
REMEDY = "give it as '--weights PATH'"


@dataclass
class Server:
    """Serves CONTENT at /weights.pth, as a test tells it to, and keeps a record."""

    address: str = ""
    content: bytes = CONTENT
    ranges: bool = True
    """Whether it honours a Range header; else it sends all."""
    cut_after: int | None = None
    """So many bytes of a body it sends, and then it hangs up."""
    says_length: bool = True
    asked: list[str | None] = field(default_factory=list)
    """The Range header of each request."""
    sent: int = 0

    @property
    def url(self) -> str:
        return f"{self.address}/weights.pth"

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range")
        self.asked.append(wanted)
        if not handler.path.endswith("/weights.pth"):
            handler.send_error(404)
            return
        match = re.fullmatch(r"bytes=(\d+)-", wanted or "") if self.ranges else None
        start = int(match[1]) if match else 0
        if match and start >= len(self.content):
            handler.send_error(416)
            return
        body = self.content[start:]
        handler.send_response(206 if match else 200)
        if match:
            handler.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        if self.says_length:
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        part = body[: self.cut_after]
        handler.wfile.write(part)
        self.sent += len(part)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    urllib.request.install_opener(None)  # it keeps the proxies that it found first
    monkeypatch.setattr(downloads, "PROBE_S", 60)  # a busy machine may take its time
    told = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.answer(self)

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        told.address = f"http://127.0.0.1:{listener.server_port}"
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield told
        listener.shutdown()
        thread.join()
    urllib.request.install_opener(None)


def fetched(url: str, folder: Path, **changes: str) -> Path:
    return download(url, folder / "cache" / "weights.pth", **{"sha256": SHA256, "remedy": REMEDY, **changes})


def kept(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("says_length", [True, False])
def test_a_whole_file(server: Server, tmp_path: Path, says_length: bool) -> None:
    server.says_length = says_length
    steps: list[tuple[int, int | None]] = []
    target = tmp_path / "cache" / "weights.pth"
    path = download(
        server.url, target, sha256=SHA256, remedy=REMEDY, advance=lambda here, total: steps.append((here, total))
    )
    assert path == target
    assert kept(tmp_path) == {"weights.pth": CONTENT}
    assert server.asked == [None]
    assert [here for here, _ in steps] == sorted(here for here, _ in steps)
    assert steps[-1] == (len(CONTENT), len(CONTENT) if says_length else None)


def test_a_file_that_is_here_is_not_asked_for(server: Server, tmp_path: Path) -> None:
    fetched(server.url, tmp_path)
    assert fetched(server.url, tmp_path) == tmp_path / "cache" / "weights.pth"
    assert server.asked == [None]
    assert fetched("http://127.0.0.1:9/nobody-listens", tmp_path) == tmp_path / "cache" / "weights.pth"


@pytest.mark.parametrize("ranges", [True, False])
def test_a_cut_connection_is_told_and_the_next_call_goes_on(server: Server, tmp_path: Path, ranges: bool) -> None:
    half = len(CONTENT) // 2
    server.ranges, server.cut_after = ranges, half
    with pytest.raises(MissingWeights, match=r"could not be fetched .*try again, or give it as '--weights PATH'"):
        fetched(server.url, tmp_path)
    assert kept(tmp_path) == {"weights.pth.partial": CONTENT[:half]}
    server.cut_after = None
    steps: list[tuple[int, int | None]] = []
    download(
        server.url,
        tmp_path / "cache" / "weights.pth",
        sha256=SHA256,
        remedy=REMEDY,
        advance=lambda here, total: steps.append((here, total)),
    )
    assert kept(tmp_path) == {"weights.pth": CONTENT}
    assert server.asked == [None, f"bytes={half}-"]
    assert server.sent == len(CONTENT) + (0 if ranges else half), "what was here is fetched again only where it must"
    assert steps[0][0] > half or not ranges
    assert steps[-1] == (len(CONTENT), len(CONTENT))


def test_a_connection_may_be_cut_many_times(server: Server, tmp_path: Path) -> None:
    server.cut_after = CHUNK // 2
    for _ in range(4):
        with pytest.raises(MissingWeights):
            fetched(server.url, tmp_path)
    fetched(server.url, tmp_path)
    assert kept(tmp_path) == {"weights.pth": CONTENT}
    assert server.sent == len(CONTENT)


def test_a_whole_file_that_was_not_renamed_yet_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "weights.pth.partial").write_bytes(CONTENT)
    fetched(server.url, tmp_path)
    assert kept(tmp_path) == {"weights.pth": CONTENT}
    assert server.sent == 0


@pytest.mark.parametrize("rest", [b"something else", CONTENT + b"and more"], ids=["other", "longer"])
def test_the_rest_of_something_else_costs_one_refusal(server: Server, tmp_path: Path, rest: bytes) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "weights.pth.partial").write_bytes(rest)
    with pytest.raises(Refused, match="was expected, so it was not kept"):
        fetched(server.url, tmp_path)
    assert kept(tmp_path) == {}
    fetched(server.url, tmp_path)
    assert kept(tmp_path) == {"weights.pth": CONTENT}


def test_other_content_is_refused_and_not_kept(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    with pytest.raises(Refused) as caught:
        fetched(server.url, tmp_path)
    assert hashlib.sha256(server.content).hexdigest() in str(caught.value) and SHA256 in str(caught.value)
    assert kept(tmp_path) == {}


def test_a_damaged_file_in_its_place_is_replaced(server: Server, tmp_path: Path) -> None:
    fetched(server.url, tmp_path).write_bytes(b"damaged")
    assert kept(tmp_path.joinpath()) == {"weights.pth": b"damaged"}
    fetched(server.url, tmp_path)
    assert kept(tmp_path) == {"weights.pth": CONTENT}


def test_an_address_that_holds_nothing(server: Server, tmp_path: Path) -> None:
    with pytest.raises(MissingWeights, match=r"moved\.bin could not be fetched .*404.*--weights PATH"):
        fetched(f"{server.address}/moved.bin", tmp_path)
    assert kept(tmp_path) == {}


def test_a_folder_that_cannot_be_made_is_told(server: Server, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(DiskError, match=re.escape(str(tmp_path / "cache" / "weights.pth"))):
        fetched(server.url, tmp_path)


@pytest.fixture
def full_queue(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of somebody who listens and never answers: packets to it are dropped, as behind a firewall."""
    monkeypatch.setattr(downloads, "PROBE_S", PROBE_S)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        for each in waiting:
            each.close()


def test_nobody_listens(server: Server, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    in_vain(f"http://127.0.0.1:{port}", tmp_path)


def test_a_name_that_nobody_has(server: Server, tmp_path: Path) -> None:
    in_vain("http://star-bench.invalid", tmp_path)


def test_packets_are_dropped(server: Server, tmp_path: Path, full_queue: str) -> None:
    in_vain(full_queue, tmp_path)


def test_an_answer_that_never_comes_is_not_waited_for(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a name that is looked up for ever nor a connection; under 2 s is what a user waits."""
    told = threading.Event()

    def wait(*_: object) -> None:
        told.wait()
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", wait)
    monkeypatch.setattr(downloads, "PROBE_S", PROBE_S)
    in_vain(server.address, tmp_path)
    told.set()
    assert server.asked == []
    assert 0 < PROBE_S < 2


def in_vain(address: str, folder: Path) -> None:
    """Told after one knock, with what to do instead; nothing is asked for, nothing is written."""
    assert not reachable(address)
    with (
        heard("urllib.Request") as asked,
        heard("socket.getaddrinfo") as looked_up,
        pytest.raises(MissingWeights) as caught,
    ):
        fetched(f"{address}/weights.pth", folder)
    assert asked == [] and len(looked_up) <= 1
    assert str(caught.value) == f"{address}/weights.pth can't be reached: {REMEDY}."
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("scheme", ["http://", ""])
def test_a_proxy_reaches_what_this_machine_does_not(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """Proxies are often given without a scheme."""
    monkeypatch.setenv("http_proxy", server.address.replace("http://", scheme))
    fetched("http://star-bench.invalid/weights.pth", tmp_path)
    assert kept(tmp_path) == {"weights.pth": CONTENT}


def test_a_proxy_that_is_not_to_be_asked_does_not_matter(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    fetched(server.url, tmp_path)
    assert kept(tmp_path) == {"weights.pth": CONTENT}


def test_a_proxy_that_is_down(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    in_vain("http://star-bench.invalid", tmp_path)
