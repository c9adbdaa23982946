"""Prompt sets: fetched from a real server on this machine, verified, and told apart when they are not as they should be."""

from __future__ import annotations

import hashlib
import http.server
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from audit import heard

from star_bench.assets import downloads, prompt_sets
from star_bench.assets.prompt_files import PromptFile, read
from star_bench.assets.prompt_sets import State
from star_bench.catalogue.suites import load
from star_bench.errors import Incomplete, MissingWeights, Refused, UsageError

TEST, TRAINING = b"a cat\na dog\n", b"a fox\n\na fox\na cow\n"
PLACES = {"/someone/pets/v1/dataset/pets/test.txt": TEST, "/someone/pets/v1/dataset/pets/train.txt": TRAINING}


def git_blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class Site:
    """Serves `files` by path and keeps a record."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=lambda: dict(PLACES))
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    urllib.request.install_opener(None)  # it keeps the proxies that it found first
    monkeypatch.setattr(downloads, "PROBE_S", 60)  # a busy machine may take its time
    told = Site()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.asked.append(self.path)
            body = told.files.get(self.path)
            if body is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        told.address = f"http://127.0.0.1:{listener.server_port}"
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield told
        listener.shutdown()
        thread.join()


@pytest.fixture
def pets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A suite of one's own whose files lie in a repository; nothing is on this machine."""
    monkeypatch.setenv("STAR_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("STAR_BENCH_PROMPTS_DIR", raising=False)
    return write_card(tmp_path / "pets")


def write_card(folder: Path, **changes: Any) -> Path:
    source = {"repository": "someone/pets", "revision": "v1"}
    prompts = {
        **source,
        "path": "dataset/pets/test.txt",
        "sha256": hashlib.sha256(TEST).hexdigest(),
        "training": {**source, "path": "dataset/pets/train.txt", "digest": f"git-blob:{git_blob(TRAINING)}"},
    }
    card = {"name": "pets", "title": "", "summary": "", "evaluator": "preference", "licence": ""}
    folder.mkdir(exist_ok=True)
    (folder / "card.yaml").write_text(yaml.safe_dump({**card, "prompts": prompts | changes}))
    return folder


def named(folder: Path, *, training: bool = True) -> list[PromptFile]:
    return prompt_sets.files([str(folder)], training=training)


def nothing(here: int, total: int | None) -> None: ...


def test_what_is_fetched_is_where_a_run_looks_for_it(pets: Path, site: Site, tmp_path: Path) -> None:
    steps: list[tuple[int, int | None]] = []
    for file in named(pets):
        prompt_sets.fetch(file, lambda here, total: steps.append((here, total)), site=site.address)
    assert steps == [(len(TEST), len(TEST)), (len(TRAINING), len(TRAINING))]
    assert site.asked == list(PLACES)
    kept = {path.name: path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    assert kept == {"pets-test.txt": TEST, "pets-train.txt": TRAINING}
    assert read(load(str(pets))) == ["a cat", "a dog"]
    rows = [prompt_sets.verify(file).row() for file in named(pets)]
    assert [(row["set"], row["state"], row["prompts"], row["different"]) for row in rows] == [
        ("test", "ok", 2, 2),
        ("training", "ok", 3, 2),
    ]


def test_what_is_here_is_not_fetched(pets: Path, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (file,) = named(pets, training=False)
    cached = prompt_sets.fetch(file, nothing, site=site.address)
    assert prompt_sets.fetch(file, nothing, site=site.address) == cached
    mine = tmp_path / "mine" / "pets-test.txt"
    mine.parent.mkdir()
    mine.write_bytes(TEST)
    monkeypatch.setenv("STAR_BENCH_PROMPTS_DIR", str(mine.parent))
    cached.unlink()
    assert prompt_sets.fetch(file, nothing, site=site.address) == mine
    assert len(site.asked) == 1
    mine.write_bytes(b"mine\n")
    with pytest.raises(Refused, match=r"mine/pets-test\.txt has sha256"):
        prompt_sets.fetch(file, nothing, site=site.address)


def test_a_damaged_copy_in_the_cache_is_replaced(pets: Path, site: Site) -> None:
    (file,) = named(pets, training=False)
    prompt_sets.fetch(file, nothing, site=site.address).write_bytes(b"damaged")
    assert prompt_sets.fetch(file, nothing, site=site.address).read_bytes() == TEST


@pytest.mark.parametrize("which", [0, 1], ids=["sha256", "git-blob"])
def test_another_content_is_refused_and_not_kept(pets: Path, site: Site, tmp_path: Path, which: int) -> None:
    site.files = {place: content + b"one more\n" for place, content in PLACES.items()}
    file = named(pets)[which]
    with pytest.raises(Refused, match="was not kept"):
        prompt_sets.fetch(file, nothing, site=site.address)
    assert site.asked and not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_offline_is_told_at_once_with_all_that_one_needs(pets: Path, site: Site) -> None:
    (file,) = named(pets, training=False)
    with heard("urllib.Request") as asked, pytest.raises(MissingWeights) as caught:
        prompt_sets.fetch(file, nothing, site="http://star-bench.invalid")
    assert asked == []
    sentence = str(caught.value)
    for part in ("someone/pets at v1", f"star-bench fetch --prompts {pets}", "pets-test.txt", "STAR_BENCH_PROMPTS_DIR"):
        assert part in sentence
    assert "\n" not in sentence


def test_a_file_that_nothing_pins_is_not_fetched(tmp_path: Path, pets: Path, site: Site) -> None:
    (file,) = named(write_card(tmp_path / "loose", sha256=None), training=False)
    with pytest.raises(UsageError, match="gives no digest"):
        prompt_sets.fetch(file, nothing, site=site.address)
    assert site.asked == []


def test_each_state_has_its_exit_code(tmp_path: Path, pets: Path) -> None:
    test, training = (prompt_sets.verify(file) for file in named(pets))
    assert (test.state, training.state) == (State.ABSENT, State.ABSENT)
    with pytest.raises(
        Incomplete, match=r"dataset/pets/train.txt of someone/pets at v1: run 'star-bench .* --training'"
    ):
        prompt_sets.require([test, training])
    cached = test.file.cached
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"\xff not even text")
    other = prompt_sets.verify(test.file)
    assert (other.state, other.where, other.prompts) == (State.OTHER, cached, None)
    with pytest.raises(Refused, match=test.file.digest.value):
        prompt_sets.require([training, other])
    (tmp_path / "loose").mkdir()
    (tmp_path / "loose" / "mine.txt").write_bytes(TEST)
    loose = write_card(tmp_path / "loose", path="mine.txt", repository=None, sha256=None, training=None)
    (mine,) = (prompt_sets.verify(file) for file in named(loose))
    assert (mine.state, mine.prompts) == (State.UNCHECKED, 2)
    prompt_sets.require([mine])


def test_files_of_the_suites_that_ship(pets: Path) -> None:
    everything = prompt_sets.files([], training=True)
    assert {(f.suite, f.purpose) for f in everything if f.suite == "geneval"} == {("geneval", "training")}
    assert {f.suite for f in everything if f.purpose == "test"} > {"ocr", "pickscore", "pickscore-sfw", "drawbench"}
    assert all(file.digest for file in everything)
    with pytest.raises(UsageError, match="add --training"):
        prompt_sets.files(["ocr", "geneval"], training=False)
    with pytest.raises(UsageError, match="did you mean 'ocr'"):
        prompt_sets.files(["ocrr"], training=False)


@pytest.mark.network
@pytest.mark.parametrize(
    ("suite", "purpose", "prompts", "different"),
    [
        ("ocr", "test", 1018, 1018),
        ("ocr", "training", 19653, None),
        ("pickscore", "test", 2048, None),
        ("pickscore", "training", 25432, None),
        ("pickscore-sfw", "test", 1024, 1024),
        ("drawbench", "test", 1000, 200),
        ("geneval", "training", 50000, None),
    ],
)
def test_the_published_files_are_where_the_cards_say(
    suite: str, purpose: str, prompts: int, different: int | None
) -> None:
    """Fetches into the user's own cache what neither it nor STAR_BENCH_PROMPTS_DIR has."""
    (file,) = (f for f in prompt_sets.files([suite], training=True) if f.purpose == purpose)
    prompt_sets.fetch(file, nothing)
    verified = prompt_sets.verify(file)
    assert (verified.state, verified.prompts) == (State.OK, prompts)
    assert different in (None, verified.different)
