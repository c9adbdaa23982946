"""Without a network the program works from what is here, or says at once what is missing; what is cut off is not whole."""

from __future__ import annotations

import hashlib
import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np
import pytest
from figures import Row, count, publish
from processes import SMALL, call, call_and_imports

from star_bench.assets.downloads import PROBE_S, download
from star_bench.catalogue.shipped import MINIATURE_FOLDER
from star_bench.errors import StarBenchError

NOTED = """
import os, socket
def note():
    with open(os.environ["ASKED"], "a") as file:
        file.write("asked\\n")
"""
"""Each time that a network is asked for something."""
CLOSED = f"""{NOTED}
def refuse(*_args, **_named):
    note()
    raise ConnectionRefusedError(111, "blocked by the test")
def unknown(*_args, **_named):
    note()
    raise socket.gaierror(-3, "blocked by the test")
REAL = socket.socket.connect
socket.socket.connect = lambda self, place: REAL(self, place) if self.family == socket.AF_UNIX else refuse()
socket.getaddrinfo = unknown
"""
"""A machine without any network."""
SILENT = f"""{NOTED}
import time
def wait(self, *_args, **_named):
    note()
    time.sleep(600 if self.gettimeout() is None else self.gettimeout())
    raise TimeoutError("blocked by the test")
REAL = socket.socket.connect
socket.socket.connect = lambda self, place: REAL(self, place) if self.family == socket.AF_UNIX else wait(self)
socket.getaddrinfo = lambda *_args, **_named: (note(), time.sleep(600))
"""
"""One whose packets are dropped: nothing answers, and no name is found."""
SD35 = "stabilityai/stable-diffusion-3.5-medium@b940f670f0eda2d07fbb75229e779da1ad11eb80"
MISSING = [  # words, and what the sentence names
    (
        ("run", "--model", "sd3.5-medium", "--suite", "geneval-miniature"),
        SD35,
    ),
    (
        ("run", "--model", "flow-grpo-geneval", "--suite", "geneval-miniature"),
        SD35,
    ),
    (("run", "--model", "someone/something@v2", "--suite", "ocr-miniature"), "someone/something@v2"),
    (
        ("train", "--recipe", "star-geneval-80gb"),
        SD35,
    ),
    (
        ("masks", "--model", "sd3.5-medium", "--prompt", "a red car"),
        SD35,
    ),
    (("fetch", "--prompts", "pickscore-sfw"), "flow_grpo"),
    (("geneval", "fetch"), "mask2former"),
]
HERE = [("run", *SMALL), ("ls", "models"), ("ls", "suites"), ("prompts", "verify", "ocr-miniature")]


@pytest.fixture(params=[CLOSED, SILENT], ids=["closed", "silent"])
def cut_off(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """The environment of a machine that reaches nobody and has fetched nothing."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(request.param)
    folders = ("HF_HOME", "STAR_BENCH_CACHE", "STAR_BENCH_WEIGHTS_DIR")
    return {
        "PYTHONPATH": str(tmp_path / "site"),
        "HF_HUB_OFFLINE": "0",
        "ASKED": str(tmp_path / "asked"),
        **{name: str(tmp_path / name) for name in folders},
    }


@pytest.mark.timeout(900)
def test_what_is_missing_is_told_at_once(
    cut_off: dict[str, str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    failures, asked = [], Path(cut_off["ASKED"])
    cases = MISSING[: count(quick=1, full=len(MISSING))]
    for words, named in cases:
        asked.write_text("")
        done, imported = call_and_imports(tmp_path, *words, **cut_off)
        said, times = done.stderr.strip(), len(asked.read_text().splitlines())
        if done.returncode != 4 or named not in said or "\n" in said or times != 1 or "torch" in imported:
            failures.append(f"{' '.join(words)}: exit code {done.returncode}, asked {times} times, {said[-300:]!r}")
    publish(
        Row(
            area="network",
            fault=f"weights or prompts that are not here, and a {request.node.callspec.id} network",
            requirement="one sentence that names repository and revision, exit 4; the network is asked once, for "
            f"{PROBE_S:g} s, and torch is not loaded",
            tried=len(cases),
            held=len(cases) - len(failures),
        ),
        failures,
    )


@pytest.mark.timeout(900)
def test_what_is_here_works_without_a_network(
    cut_off: dict[str, str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    cases = HERE[: count(quick=1, full=len(HERE))]
    done = [(words, call(tmp_path, *words, **cut_off)) for words in cases]
    failures = [f"{' '.join(words)}: {each.stderr[-300:]!r}" for words, each in done if each.returncode]
    publish(
        Row(
            area="network",
            fault=f"work whose files are all here, and a {request.node.callspec.id} network",
            requirement="it is done as with one",
            tried=len(cases),
            held=len(cases) - len(failures),
        ),
        failures,
    )


COMMIT = "0123456789abcdef0123456789abcdef01234567"


def snapshot(hub: Path) -> Path:
    """The miniature as the cache of a hub has a repository that was fetched whole."""
    repository = hub / "hub" / "models--someone--miniature"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text(COMMIT)
    folder = repository / "snapshots" / COMMIT
    shutil.copytree(MINIATURE_FOLDER / "pipeline", folder)
    return folder


@pytest.mark.timeout(900)
def test_a_snapshot_that_lacks_a_file_is_not_taken_for_whole(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(CLOSED)
    folder = snapshot(tmp_path / "hf")
    around = {
        "PYTHONPATH": str(tmp_path / "site"),
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(tmp_path / "hf"),
        "ASKED": str(tmp_path / "asked"),
    }
    around["STAR_BENCH_CACHE"] = str(tmp_path / "cache")
    words = ["run", "--model", "someone/miniature", "--suite", "ocr-miniature", "--limit", "1"]
    whole = call(tmp_path, *words, **around)
    # Its files are taken; what is asked for next, nobody says of a model that only a hub knows.
    assert (whole.returncode, "is generated with" in whole.stderr) == (2, True), whole.stderr
    weights = sorted(path.relative_to(folder) for path in folder.rglob("*.safetensors"))
    failures = []
    lost = [*weights, Path("model_index.json")][: count(quick=2, full=99)]
    for name in lost:
        kept = (folder / name).read_bytes()
        (folder / name).unlink()
        partial = folder.parents[1] / "blobs" / f"{hashlib.sha256(kept).hexdigest()}.incomplete"
        partial.parent.mkdir(exist_ok=True)
        partial.write_bytes(kept[: len(kept) // 2])
        done = call(tmp_path, *words, **around)
        if done.returncode != 4 or "someone/miniature@" not in done.stderr:
            failures.append(f"without {name}: exit code {done.returncode}, {done.stderr[-300:]!r}")
        partial.unlink()
        (folder / name).write_bytes(kept)
    publish(
        Row(
            area="network",
            fault="a hub's cache in which one file was never fetched to its end",
            requirement="exit 4, naming repository and revision; nothing is run on the rest",
            tried=len(lost),
            held=len(lost) - len(failures),
        ),
        failures,
    )


@pytest.fixture
def cutting() -> Iterator[tuple[str, list[int], bytes]]:
    """A server that hangs up: its address, after how many bytes it does next, and the whole content."""
    content, cuts = np.random.default_rng(0).bytes(3_000_000), [0]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start : start + cuts[0]])

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/weights", cuts, content
        server.shutdown()


def test_a_download_that_is_cut_goes_on_and_is_whole_or_not_there(
    cutting: tuple[str, list[int], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    url, cuts, content = cutting
    digest = hashlib.sha256(content).hexdigest()
    random, tried, failures = Random(0), count(quick=5, full=50), []
    for number in range(tried):
        target = tmp_path / str(number)
        hangs_up = 0
        while not target.exists() and hangs_up < 100:
            cuts[0] = random.randrange(1, len(content))
            try:
                download(url, target, sha256=digest, remedy="try again")
            except StarBenchError:
                hangs_up += 1
                if target.exists():
                    failures.append(f"{number}: the target is there after {hangs_up} cuts")
        if not target.exists() or target.read_bytes() != content or list(tmp_path.glob("*.partial")):
            failures.append(f"{number}: not whole in the end")
    publish(
        Row(
            area="network",
            fault="a connection that is cut at random bytes, again and again",
            requirement="what came is kept and gone on with; the file appears only when it is whole",
            tried=tried,
            held=tried - len({failure.split(":")[0] for failure in failures}),
        ),
        failures,
    )
