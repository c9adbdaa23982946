"""Pictures made elsewhere, in both layouts."""

import json
from pathlib import Path

import pytest

from star_bench.errors import UsageError
from star_bench.evaluators.base import Prompt
from star_bench.runs.foreign import find

PROMPTS = [Prompt("00000", "a photo of a car"), Prompt("00001", "a photo of a kite")]


def test_geneval_layout(tmp_path: Path) -> None:
    for number, prompt in enumerate(reversed(PROMPTS)):  # folders are matched by their prompt, not by their number
        samples = tmp_path / f"{number:05d}" / "samples"
        samples.mkdir(parents=True)
        (samples.parent / "metadata.jsonl").write_text(json.dumps({"prompt": prompt.text}) + "\n")
        for k in range(2):
            (samples / f"{k:04d}.png").write_bytes(b"x")
    found = find(tmp_path, PROMPTS)
    assert found["00000", 1] == tmp_path / "00001" / "samples" / "0001.png"
    assert len(found) == 4


def test_flat_layout(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a photo of a kite\na photo of a car\n")
    for name in ("00000_0.png", "00000_1.png", "00001.png"):
        (tmp_path / name).write_bytes(b"x")
    found = find(tmp_path, PROMPTS)
    assert set(found) == {("00001", 0), ("00001", 1), ("00000", 0)}


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({}, "neither"),
        ({"prompts.txt": "a photo of a dog\n", "0.png": "x"}, "has no prompt 'a photo of a dog'"),
        ({"prompts.txt": "a photo of a car\n"}, "no pictures"),
        ({"prompts.txt": "a photo of a car\n", "7.png": "x"}, "belongs to no line"),
    ],
)
def test_other_folders_are_explained(tmp_path: Path, files: dict[str, str], sentence: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(UsageError, match=sentence):
        find(tmp_path, PROMPTS)
