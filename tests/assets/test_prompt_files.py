"""Prompt files: where they are looked for, how they are read, and how each thing that can be wrong is told."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from star_bench.assets import prompt_files
from star_bench.catalogue.suites import SuiteCard
from star_bench.errors import MissingWeights, Refused, UsageError

TEXT = "a cat\na dog\n"
DIGEST = hashlib.sha256(TEXT.encode()).hexdigest()


def card(folder: Path, **prompts: Any) -> SuiteCard:
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
    assert prompt_files.prompts_of(remote).locate() == cached
    mine = put(tmp_path / "mine" / "pets-sfw-test.txt")
    monkeypatch.setenv("STAR_BENCH_PROMPTS_DIR", str(tmp_path / "mine"))
    assert prompt_files.prompts_of(remote).locate() == mine


def test_missing_file_is_told_in_one_sentence(remote):
    with pytest.raises(MissingWeights) as caught:
        prompt_files.read(remote)
    sentence = str(caught.value)
    for part in (
        "dataset/pets_sfw/test.txt",
        "someone/pets",
        DIGEST,
        f"star-bench fetch --prompts {remote.folder}",
        "--prompts-dir",
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


def test_a_folder_of_the_command_line_wins(remote, tmp_path, monkeypatch):
    put(tmp_path / "mine" / "pets-sfw-test.txt", "another content\n")
    monkeypatch.setenv("STAR_BENCH_PROMPTS_DIR", str(tmp_path / "mine"))
    given = put(tmp_path / "given" / "pets-sfw-test.txt")
    prompt_files.use_folder(None)
    with pytest.raises(Refused):
        prompt_files.read(remote)
    prompt_files.use_folder(given.parent)
    assert os.environ["STAR_BENCH_PROMPTS_DIR"] == str(given.parent)
    assert prompt_files.read(remote) == ["a cat", "a dog"]


def test_prompts_that_the_file_repeats_are_read_once(tmp_path):
    put(tmp_path / "prompts.txt", "a dog\na cat\na cat\na dog\n")
    assert prompt_files.read(card(tmp_path, path="prompts.txt")) == ["a dog", "a cat", "a cat", "a dog"]
    assert prompt_files.read(card(tmp_path, path="prompts.txt", repeats=2)) == ["a dog", "a cat"]
    put(tmp_path / "prompts.txt", "a dog\na cat\na dog\n")
    with pytest.raises(UsageError, match=r"line 2, stands there 1 times and the card .* says 2"):
        prompt_files.read(card(tmp_path, path="prompts.txt", repeats=2))


def test_a_training_set_is_found_and_checked_like_the_prompts(remote, tmp_path):
    assert prompt_files.training_of(remote) is None
    training = {"path": "dataset/pets/train.txt", "repository": "someone/pets", "digest": f"sha256:{DIGEST}"}
    file = prompt_files.training_of(card(tmp_path, generator="x", training=training))
    with pytest.raises(MissingWeights, match=r"the training prompts of .*fetch .* --training'"):
        file.locate()
    cached = put(tmp_path / "cache" / "prompts" / "pets-train.txt")
    assert file.locate() == cached
    put(cached, "a cat\n")
    with pytest.raises(Refused, match=DIGEST):
        file.locate()


def test_a_training_digest_of_no_known_kind(tmp_path):
    with pytest.raises(ValueError, match="git-blob:"):
        card(tmp_path, generator="x", training={"path": "train.txt", "digest": DIGEST})
