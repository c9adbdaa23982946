"""One run, and the words for it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from star_bench.errors import UsageError
from star_bench.runs.references import find

RUNS = (
    "m/geneval/db32aaaaaaaaaaaa",
    "m/ocr/db32bbbbbbbbbbbb",
    "org--name/ocr/1234567890abcdef",
    "m/ocr/abcdef0123456789",
)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for age, name in enumerate(reversed(RUNS)):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text("{}")
        (folder / "results.json").write_text("{}")
        os.utime(folder / "results.json", (age, age))
    pictures = tmp_path / "runs" / "m" / "pictures" / "eeee000011112222"
    pictures.mkdir(parents=True)
    (pictures / "manifest.json").write_text("{}")
    return tmp_path / "runs"


@pytest.mark.parametrize(
    ("word", "run"),
    [
        ("latest", RUNS[0]),
        ("m/geneval", RUNS[0]),
        ("org/name/ocr", RUNS[2]),
        ("org--name/ocr", RUNS[2]),
        ("1234", RUNS[2]),
        ("db32b", RUNS[1]),
        ("ocr/db32", RUNS[1]),
        ("m/ocr/abcd", RUNS[3]),
        ("m/geneval/db32", RUNS[0]),
    ],
)
def test_words_for_a_run(runs: Path, word: str, run: str) -> None:
    assert find(Path(word), runs) == runs / run


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        (
            "db32",
            r"'db32' means 2 runs in .* \(m/geneval/db32a+, m/ocr/db32b+\): give one by its digest",
        ),
        ("m/ocr", "means 2 runs"),
        ("m/ocrs", r"there is no run 'm/ocrs' \(.*m/ocr.*\)"),
        ("123", "there is no run '123': give runs/"),
        ("eeee", "there is no run 'eeee'"),
        ("m/pictures", "there is no run 'm/pictures'"),
    ],
)
def test_words_for_none_and_for_several(runs: Path, word: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        find(Path(word), runs)


def test_a_path_means_itself(runs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    here = runs / RUNS[1]
    assert find(here) == here
    assert find(here / "results.json") == here
    monkeypatch.chdir(tmp_path)
    assert find(Path("m/geneval")) == Path("runs") / RUNS[0]
    (tmp_path / "latest").mkdir()
    with pytest.raises(UsageError, match="latest is no run directory"):
        find(Path("latest"))


def test_another_folder_of_runs(runs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    runs.rename(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="there is no finished run in runs"):
        find(Path("latest"))
    monkeypatch.setenv("STAR_BENCH_RUNS", "elsewhere")
    assert find(Path("latest")) == Path("elsewhere") / RUNS[0]
