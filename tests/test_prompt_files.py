"""Prompt files: where they are looked for, and how each thing that can be wrong with one is told."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from star_bench import prompt_files
from star_bench.errors import MissingWeights, Refused, UsageError
from star_bench.suites import SuiteCard

TEXT = "a cat\na dog\n"
DIGEST = hashlib.sha256(TEXT.encode()).hexdigest()


def card(folder: Path, **prompts: str) -> SuiteCard:
    return SuiteCard(
        name="pets",
        title="",
        summary="",
        evaluator="preference",
        licence="",
        folder=folder,
        prompts=prompts,
    )


@pytest.fixture
def remote(tmp_path, monkeypatch):
    """A card whose prompts lie in a repository; the cache is empty and the variable unset."""
    monkeypatch.setenv("STAR_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("STAR_BENCH_PROMPTS_DIR", raising=False)
    source = {
        "path": "dataset/pets_sfw/test.txt",
        "repository": "someone/pets",
        "sha256": DIGEST,
    }
    return card(tmp_path / "card", **source)


def put(path: Path, text: str = TEXT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


def test_a_file_beside_the_card(tmp_path):
    put(tmp_path / "prompts.txt", "  a cat \r\na dog\n\n")
    assert prompt_files.read(card(tmp_path, path="prompts.txt")) == ["a cat", "a dog"]


def test_prompts_folder_goes_before_the_cache(remote, tmp_path, monkeypatch):
    cached = put(tmp_path / "cache" / "prompts" / "pets-sfw-test.txt")
    assert prompt_files.locate(remote) == cached
    mine = put(tmp_path / "mine" / "pets-sfw-test.txt")
    monkeypatch.setenv("STAR_BENCH_PROMPTS_DIR", str(tmp_path / "mine"))
    assert prompt_files.locate(remote) == mine


def test_missing_file_is_told_in_one_sentence(remote):
    with pytest.raises(MissingWeights) as caught:
        prompt_files.read(remote)
    sentence = str(caught.value)
    for part in (
        "dataset/pets_sfw/test.txt",
        "someone/pets",
        DIGEST,
        "STAR_BENCH_PROMPTS_DIR",
        "pets-sfw-test.txt",
    ):
        assert part in sentence
    assert "\n" not in sentence
    assert caught.value.exit_code == 4


def test_other_content_is_refused(remote, tmp_path):
    put(tmp_path / "cache" / "prompts" / "pets-sfw-test.txt", "a cat\n")
    with pytest.raises(Refused, match=DIGEST):
        prompt_files.read(remote)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"a\n\nb\n", "line 2, is blank"),
        (b"\xff\xfe", "can't be read"),
    ],
)
def test_a_broken_file_is_a_usage_error(tmp_path, content, says):
    (tmp_path / "prompts.txt").write_bytes(content)
    with pytest.raises(UsageError, match=says):
        prompt_files.read(card(tmp_path, path="prompts.txt"))


def test_a_card_without_its_file_or_without_a_path(tmp_path):
    with pytest.raises(UsageError, match="is not there"):
        prompt_files.read(card(tmp_path, path="prompts.txt"))
    with pytest.raises(UsageError, match="names no prompt file"):
        prompt_files.read(card(tmp_path, generator="x"))


def test_a_prompts_folder_that_is_not_there(remote, monkeypatch):
    monkeypatch.setenv("STAR_BENCH_PROMPTS_DIR", "/nowhere/at/all")
    with pytest.raises(UsageError, match="/nowhere/at/all"):
        prompt_files.read(remote)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("dataset/ocr/test.txt", "ocr-test.txt"),
        ("dataset/pickscore_sfw/test.txt", "pickscore-sfw-test.txt"),
        ("prompts.txt", "prompts.txt"),
    ],
)
def test_local_names(path, name):
    assert prompt_files.local_name(path) == name
