"""A copy at an address: a run goes on from it on another machine, and nothing strange comes from it."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from star_bench.errors import Incomplete, Refused, UsageError
from star_bench.files.pictures import encode_png
from star_bench.runs.mirror import Mirror, mirrored
from star_bench.runs.pictures import open_pictures
from star_bench.runs.progress import Silent

NAME = "runs/model/suite/0123456789abcdef"


@pytest.fixture
def address() -> str:
    """An object store's double: keys and bytes, no folders, no locks."""
    return f"memory://bucket-{uuid.uuid4().hex}"


def at(address: str) -> dict[str, bytes]:
    """Everything that is at an address."""
    fs, root = fsspec.core.url_to_fs(address)
    return {path.removeprefix(f"{root}/"): fs.cat_file(path) for path in fs.find(root)}


def stored(folder: Path, count: int) -> Path:
    """A run's directory with so many pictures, each with its row."""
    with open_pictures(folder) as store:
        for k in range(len(store.rows), count):
            picture = np.random.default_rng(k).integers(0, 256, (8, 8, 3)).astype(np.uint8)
            store.add([store.save_image(("00000", k), encode_png(picture))])
        store.write("manifest.json", {"schema": 1})
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_what_was_pushed_is_pulled_byte_for_byte_without_the_lock(address: str, tmp_path: Path) -> None:
    here = stored(tmp_path / "here", 3)
    Mirror(address).push(NAME, here, Silent())
    assert Mirror(address).runs() == [NAME]
    assert Mirror(address).pull(NAME, tmp_path / "there", Silent()) == 5
    expected = files(here)
    del expected["lock"]
    assert files(tmp_path / "there") == expected


def test_pictures_that_are_there_are_not_written_again(address: str, tmp_path: Path) -> None:
    here, mirror = stored(tmp_path / "here", 2), Mirror(address)
    assert mirror.push(NAME, here, Silent()) == 4
    stored(here, 3)
    assert mirror.push(NAME, here, Silent()) == 3, "one picture, samples.jsonl and manifest.json"
    assert len([path for path in at(address) if path.endswith(".png")]) == 3


def test_another_machine_goes_on_and_the_longer_rows_win(address: str, tmp_path: Path) -> None:
    first, second, mirror = stored(tmp_path / "first", 2), tmp_path / "second", Mirror(address)
    mirror.push(NAME, first, Silent())
    with mirrored(address, {NAME: second}, Silent()):
        stored(second, 4)
    assert mirror.pull(NAME, first, Silent()) == 3, "two pictures and the longer samples.jsonl"
    assert (first / "samples.jsonl").read_bytes() == (second / "samples.jsonl").read_bytes()
    assert mirror.pull(NAME, second, Silent()) == 0


def test_what_is_new_is_written_also_when_the_work_fails(address: str, tmp_path: Path) -> None:
    def stopped() -> None:
        with mirrored(address, {NAME: tmp_path}, Silent()):
            stored(tmp_path, 1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert f"{NAME}/images/00000/0.png" in at(address)


def test_two_machines_that_went_apart_are_refused(address: str, tmp_path: Path) -> None:
    here, mirror = stored(tmp_path / "here", 1), Mirror(address)
    mirror.push(NAME, here, Silent())
    with open_pictures(tmp_path / "other") as store:
        store.add([{"prompt_id": "00007", "k": 0, "path": None, "sha256": None, "status": "missing"}])
    with pytest.raises(Refused, match="went on otherwise from the same beginning"):
        mirror.pull(NAME, tmp_path / "other", Silent())


def test_what_another_machine_wrote_meanwhile_is_not_written_over(address: str, tmp_path: Path) -> None:
    def both_at_work() -> None:
        with mirrored(address, {NAME: tmp_path / "here"}, Silent()):
            Mirror(address).push(NAME, stored(tmp_path / "other", 3), Silent())
            stored(tmp_path / "here", 2)

    with pytest.raises(Refused, match=r"has rows that .* has not: another machine works on this run"):
        both_at_work()
    assert at(address)[f"{NAME}/samples.jsonl"] == (tmp_path / "other/samples.jsonl").read_bytes()
    assert len((tmp_path / "here/samples.jsonl").read_text().splitlines()) == 2, "what is here stays"


class Unsteady(MemoryFileSystem):
    """A store that answers 503 to the next `failures` writes."""

    protocol = "unsteady"
    failures = 0

    def pipe_file(self, path: str, value: bytes, **more: Any) -> None:
        if Unsteady.failures:
            Unsteady.failures -= 1
            raise OSError("503 Service Unavailable")
        super().pipe_file(path, value, **more)


@pytest.fixture
def unsteady() -> Iterator[str]:
    fsspec.register_implementation("unsteady", Unsteady, clobber=True)
    yield f"unsteady://bucket-{uuid.uuid4().hex}"
    Unsteady.failures = 0


def test_an_upload_that_fails_for_a_moment_is_tried_again(unsteady: str, tmp_path: Path) -> None:
    Unsteady.failures = 2
    assert Mirror(unsteady, pauses=(0, 0)).push(NAME, stored(tmp_path, 1), Silent()) == 3
    assert Unsteady.failures == 0


def test_an_upload_that_fails_every_time_is_noted_and_made_up_for(
    unsteady: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("star_bench.runs.mirror.EVERY", -1)
    with mirrored(unsteady, {NAME: tmp_path}, Silent(), pauses=(0, 0)) as bar:
        stored(tmp_path, 1)
        Unsteady.failures = 3
        bar.advance(1)
        assert bar.is_behind
        stored(tmp_path, 2)
        bar.advance(1)
        assert not bar.is_behind and f"{NAME}/images/00000/1.png" in at(unsteady)
        Unsteady.failures = 3
    assert bar.is_behind, "the last one failed, and the work has its end all the same"
    said = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(row["level"], row["message"]) for row in said] == [
        ("warning", f"{unsteady} failed (503 Service Unavailable): the copy there is behind, and the work goes on")
    ] * 2
    with mirrored(unsteady, {NAME: tmp_path}, Silent(), pauses=()) as bar:
        pass
    assert not bar.is_behind and (tmp_path / "samples.jsonl").read_bytes() == at(unsteady)[f"{NAME}/samples.jsonl"]


@pytest.mark.parametrize("name", ["../outside.txt", "images/../../outside.txt", "a:b", "line\nbreak"])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = Mirror(f"file://{tmp_path}/store")
    monkeypatch.setattr(mirror._fs, "find", lambda base: [f"{base}{name}"])
    with pytest.raises(Refused, match="which is no file of a run"):
        mirror.pull(NAME, tmp_path / "run", Silent())
    assert not (tmp_path / "outside.txt").exists()


def test_an_address_of_an_unknown_kind_and_one_that_fails(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nonsense://x can't be reached"):
        Mirror("nonsense://x")
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(Incomplete, match="failed"):
        Mirror(f"file://{tmp_path}/file").push(NAME, stored(tmp_path / "run", 1), Silent())


@pytest.fixture
def cli(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def call(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "star_bench", *words]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=200, check=False)

    return call


def test_a_run_on_a_second_machine_makes_nothing_again(
    cli: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    words = [
        "run",
        "--model",
        "miniature",
        "--suite",
        "ocr-miniature",
        "--limit",
        "3",
        "--steps",
        "2",
        "--device",
        "cpu",
    ]
    store = f"file://{tmp_path}/store"
    first = cli(*words, "--runs", "first", "--mirror", store)
    assert first.returncode == 0, first.stderr
    second = cli(*words, "--runs", "second", "--mirror", store)
    assert second.returncode == 0, second.stderr
    (manifest,) = tmp_path.glob("second/*/pictures/*/manifest.json")
    assert [session["images_made"] for session in json.loads(manifest.read_text())["sessions"]] == [6]
    (manifest,) = tmp_path.glob("second/*/ocr-miniature/*/manifest.json")
    assert len(json.loads(manifest.read_text())["sessions"]) == 2
    assert len(list(tmp_path.glob("store/reports/*/index.html"))) == 1
    third = cli("pull", store, "--runs", "third", "--no-pictures")
    assert third.returncode == 0, third.stderr
    assert cli("ls", "runs", "--runs", "third").stdout == cli("ls", "runs", "--runs", "second").stdout
    assert not list(tmp_path.glob("third/**/*.png"))
