"""`star-bench geneval` as a user meets it: official files, conversion, detections, rescoring, refusals."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from safetensors.torch import load_file

from benchmarks.parity.detectors import write_random
from star_bench.catalogue.shipped import MINIATURE_FOLDER
from star_bench.cli.main import main
from star_bench.errors import MissingWeights, Refused, UsageError
from star_bench.evaluators.geneval.detection.architecture import Architecture
from star_bench.evaluators.geneval.detection.layout import to_mmdet
from star_bench.evaluators.geneval.prompts import COCO_CLASSES, official
from star_bench.files.atomic import DiskError

Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """cli("prompts", OUT) is `star-bench geneval prompts OUT` in an empty folder: one thread, no hub."""

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "star_bench", "geneval", *words],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )

    return call


def pictures(folder: Path, *sizes: tuple[int, int]) -> list[str]:
    """The names of one noisy picture of each (width, height)."""
    rng = np.random.default_rng(0)
    for i, (width, height) in enumerate(sizes):
        PIL.Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(folder / f"{i}.png")
    return [f"{i}.png" for i in range(len(sizes))]


def test_prompts_are_the_official_files(cli: Cli, tmp_path: Path) -> None:
    official = {
        "evaluation_metadata.jsonl": "5c48e0813e812e3c373fa5c8ed07a8f0a483be30272b4427b0559c8048e67c13",
        "generation_prompts.txt": "55b6e3650e980c13daf30569eb666e000faf19bfc2b7b4cbe999fcdb7aa9d680",
    }
    done = cli("prompts", "new/folder", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    folder = tmp_path / "new" / "folder"
    assert {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()} == official
    assert [(Path(told["file"]).name, told["sha256"]) for told in json.loads(done.stdout)] == list(official.items())


def test_a_checkpoint_is_converted_and_its_detections_are_told(cli: Cli, tmp_path: Path) -> None:
    small = Architecture(
        patch_size=4,
        embed_dim=12,
        depths=(1, 1, 2, 1),
        heads=(1, 2, 3, 4),
        window=4,
        encoder_layers=1,
        encoder_ffn=40,
        decoder_layers=2,
        decoder_ffn=48,
        decoder_heads=4,
        width=32,
        mask_width=32,
        queries=8,
        classes=80,
    )
    write_random(tmp_path / "random", small, None)
    state = to_mmdet(small, load_file(tmp_path / "random" / "model.safetensors"))
    torch.save({"state_dict": state}, tmp_path / "mmdet.pth")
    done = cli("convert", "mmdet.pth", "weights", "--json")
    assert done.returncode == 0 and "another metric" in done.stderr  # it is smaller than GenEval's
    told = json.loads(done.stdout)
    assert (told["out"], told["source"], told["recognised_as"]) == ("weights", "mmdet.pth", None)
    assert told["source_sha256"] == hashlib.sha256((tmp_path / "mmdet.pth").read_bytes()).hexdigest()

    done = cli("detect", "weights", *pictures(tmp_path, (56, 40), (32, 48)), "--json", "--all", "--device", "cpu")
    assert (done.returncode, done.stderr) == (0, "")
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    assert [each["image"] for each in rows] == ["0.png"] * 100 + ["1.png"] * 100
    for start, (width, height) in ((0, (56, 40)), (100, (32, 48))):
        of_picture = rows[start : start + 100]
        scores = [each["score"] for each in of_picture]
        assert scores == sorted(scores, reverse=True)
        for each in of_picture:
            assert list(each) == ["image", "class", "label", "score", "box", "mask_area"]
            assert each["class"] == COCO_CLASSES[each["label"]]
            assert 0 <= each["score"] <= 1
            x1, y1, x2, y2 = each["box"]
            assert 0 <= x1 <= x2 <= width and 0 <= y1 <= y2 <= height
            assert 0 <= each["mask_area"] <= (x2 - x1) * (y2 - y1)
            assert (each["mask_area"] == 0) == (x1 == x2) == (each["score"] == 0)


def recorded(**changes: Any) -> str:
    """A line of the official evaluator's results.jsonl."""
    metadata = changes.pop("metadata")
    details = {name: [[10.0, 10.0, 20.0, 20.0, 0.95]] * n for name, n in changes.pop("details").items()}
    common = {"tag": metadata["tag"], "prompt": metadata["prompt"], "metadata": json.dumps(metadata)}
    return json.dumps({**changes, **common, "details": json.dumps(details)}) + "\n"


def test_a_result_file_is_rescored(cli: Cli, tmp_path: Path) -> None:
    counted = next(each for each in official() if each["tag"] == "counting")
    colored = next(each for each in official() if each["tag"] == "colors")
    (clause,), (thing,) = counted["include"], colored["include"]
    name, n = clause["class"], clause["count"]
    lines = [
        recorded(filename="a.png", metadata=counted, correct=True, reason="", details={name: n}),
        recorded(filename="b.png", metadata=counted, correct=True, reason="", details={name: n + 1}),
        recorded(filename="c.png", metadata=colored, correct=True, reason="", details={thing["class"]: 1}),
    ]
    (tmp_path / "results.jsonl").write_text("".join(lines))
    done = cli("rescore", "results.jsonl", "--out", "new/rescored.jsonl", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    reason = f"expected {name}<{n + 1}, found {n + 1}"
    assert told["changed"] == [{"filename": "b.png", "was": True, "now": False, "reason": reason}]
    assert (told["rows"], told["recomputed"], told["taken_over"]) == (3, 2, 1)
    assert told["tags"] == {"counting": {"value": 0.5, "images": 2}, "colors": {"value": 1.0, "images": 1}}
    assert (told["overall"], told["official_prompts_missing"], told["complete"]) == (0.75, 551, False)
    old = [json.loads(line) for line in lines]
    new = [json.loads(line) for line in (tmp_path / "new" / "rescored.jsonl").read_text().splitlines()]
    assert [each["correct"] for each in new] == [True, False, True]
    assert new[1]["reason"] == reason
    verdict = ("correct", "reason")
    assert [{k: v for k, v in each.items() if k not in verdict} for each in new] == [
        {k: v for k, v in each.items() if k not in verdict} for each in old
    ]
    assert all(line.startswith("star-bench: ") for line in done.stderr.splitlines())
    assert "these are not GenEval scores" in done.stderr and "1 changed" in done.stderr


# --- refusals ---


@pytest.fixture
def refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., tuple[int, str]]]:
    """refused("detect", ...) gives the exit code and the sentence, through the console script's own function: a process
    for each would take seconds to import what most of them then don't use."""
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)

    def call(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["star-bench", "geneval", *words])
        with pytest.raises(SystemExit) as caught:
            main()
        out, said = capfd.readouterr()
        assert out == ""
        assert said.startswith("star-bench: ") and said.count("\n") == 1 and said.endswith("\n"), said
        assert isinstance(caught.value.code, int)
        return caught.value.code, said

    yield call
    signal.signal(signal.SIGTERM, before)


MINIATURE = str(MINIATURE_FOLDER / "detector")


@pytest.fixture
def things(tmp_path: Path) -> None:
    """0.png, which is a picture; half.png, text.png and text.pth, which are not what they seem; empty, a folder."""
    (name,) = pictures(tmp_path, (56, 40))
    content = (tmp_path / name).read_bytes()
    (tmp_path / "half.png").write_bytes(content[: len(content) // 2])
    for each in ("text.png", "text.pth", "results.jsonl"):
        (tmp_path / each).write_text("hello\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "model.safetensors").write_text("hello\n")


@pytest.mark.usefixtures("things")
@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("detect", "empty", "0.png"), MissingWeights.exit_code, "empty holds no safetensors: give a folder that"),
        (("detect", "nowhere", "0.png"), MissingWeights.exit_code, "nowhere holds no safetensors"),
        (("detect", "broken", "0.png"), Refused.exit_code, "broken holds no Mask2Former that can be loaded"),
        (("detect", MINIATURE, "0.png", "half.png"), UsageError.exit_code, "half.png can't be read"),
        (("detect", MINIATURE, "text.png"), UsageError.exit_code, "text.png can't be read"),
        (("detect", MINIATURE, "nowhere.png"), UsageError.exit_code, "nowhere.png can't be read"),
        (("detect", MINIATURE, "empty"), UsageError.exit_code, "empty can't be read"),
        (("detect", MINIATURE), UsageError.exit_code, "IMAGE..."),
        (("detect", MINIATURE, "0.png", "--preprocessing", "nonsense"), UsageError.exit_code, "named 'nonsense'"),
        (("detect", MINIATURE, "0.png", "--preprocessing", "mmdet-2"), UsageError.exit_code, "mean 'mmdet-2.x'"),
        (("detect", MINIATURE, "0.png", "--detector", "transformer"), UsageError.exit_code, "mean 'transformers'"),
        (("detect", MINIATURE, "0.png", "--threshold", "2"), UsageError.exit_code, "--threshold"),
        (("detect", MINIATURE, "0.png", "--device", "tpu"), UsageError.exit_code, "device 'tpu'"),
        (("convert", "nowhere.pth", "out"), UsageError.exit_code, "nowhere.pth is not a file"),
        (("convert", "text.pth", "out"), Refused.exit_code, "text.pth can't be read"),
        (("fetch", "--only", "colour"), UsageError.exit_code, "did you mean 'color'"),
        (("fetch", "--only", "detector", "--weights", "text.pth"), Refused.exit_code, "text.pth can't be read"),
        (("fetch", "--only", "color", "--color-weights", "text.pth"), Refused.exit_code, "no safetensors file"),
        (("rescore", "results.jsonl", "--out", "out"), UsageError.exit_code, "results.jsonl, line 1"),
        (("rescore", "nowhere.jsonl", "--out", "out"), UsageError.exit_code, "nowhere.jsonl can't be read"),
        (("prompts", "0.png"), DiskError.exit_code, "could not be written"),
    ],
)
def test_a_refusal_is_one_sentence_and_writes_nothing(
    refused: Callable[..., tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    words: tuple[str, ...],
    code: int,
    sentence: str,
) -> None:
    monkeypatch.setenv("STAR_BENCH_WEIGHTS_DIR", str(tmp_path / "weights"))
    before = sorted(tmp_path.rglob("*"))
    got, said = refused(*words)
    assert got == code, said
    assert sentence in said
    assert sorted(tmp_path.rglob("*")) == before


def test_a_refusal_ends_the_process_with_its_code(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_text("")
    done = cli("rescore", "results.jsonl", "--json")
    assert (done.returncode, done.stdout) == (UsageError.exit_code, "")
    assert done.stderr == (
        "star-bench: results.jsonl is empty: give the results.jsonl that GenEval's evaluator wrote.\n"
    )
