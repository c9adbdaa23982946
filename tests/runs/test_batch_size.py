"""A batch size that is found by itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from star_bench.cli.main import app
from star_bench.errors import UsageError
from star_bench.runs.batch_size import GAIN, fastest
from star_bench.runs.run import Options, prepare

RUN = "run --model miniature --suite ocr-miniature --limit 8 --samples 1 --steps 2 --device cpu"


def test_it_grows_while_more_at_a_time_is_faster() -> None:
    assert fastest(lambda size: size / (4 + size), largest=64) == 64
    assert fastest(lambda size: size / (1 + size), largest=64) == 16  # 32 is 3 % faster, 16 is 6 %
    assert fastest(lambda size: float(size), largest=20) == 16
    assert fastest(lambda size: 1.0 + GAIN / 100, largest=64) == 1


@pytest.mark.parametrize("fits", [1, 2, 7, 32])
@pytest.mark.parametrize("error", [MemoryError("no"), RuntimeError("CUDA error: out of memory")])
def test_it_stays_within_memory(fits: int, error: Exception) -> None:
    def rate(size: int) -> float:
        if size > fits:
            raise error
        return float(size)

    found = fastest(rate, largest=64)
    assert found <= fits < 2 * found


def test_a_trial_that_fails_otherwise_is_not_taken_for_full_memory() -> None:
    def rate(size: int) -> float:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        fastest(rate, largest=64)


def test_a_run_finds_it_says_it_and_goes_on_with_it(tmp_path: Path) -> None:
    def call(words: str, runs: str) -> Path:
        done = CliRunner().invoke(
            app, [*RUN.split(), *words.split(), "--runs", str(tmp_path / runs), "--reports", str(tmp_path / "reports")]
        )
        assert done.exit_code == 0, done.output
        return next((tmp_path / runs).glob("miniature/*/*"))

    folder = call("--batch-size auto", "auto")
    (session,) = json.loads((folder / "manifest.json").read_text())["sessions"]
    size = session["batch_size"]
    assert size in (1, 2, 4, 8)
    assert f"{size} pictures at a time are fastest here" in (folder / "log.jsonl").read_text()

    # The trials drew with fewer steps and moved no noise: pictures are those of any other batch size.
    eight = call("--batch-size 8", "eight")
    for path in eight.glob("images/*/*.png"):
        one, other = (np.asarray(Image.open(each), int) for each in (path, folder / path.relative_to(eight)))
        assert abs(one - other).max() <= 1

    before = {path.name: path.read_bytes() for path in (folder / "images").glob("*/*.png")}
    shutil.rmtree(folder / "images" / "00003")
    call("--batch-size auto", "auto")
    sessions = json.loads((folder / "manifest.json").read_text())["sessions"]
    assert [each["batch_size"] for each in sessions] == [size, size]
    assert (folder / "log.jsonl").read_text().count("fastest here") == 1
    assert before == {path.name: path.read_bytes() for path in (folder / "images").glob("*/*.png")}


@pytest.mark.parametrize("words", ["0", "-1", "eight", "1.5", ""])
def test_another_word_is_refused(words: str) -> None:
    done = CliRunner().invoke(app, [*RUN.split(), "--batch-size", words])
    assert isinstance(done.exception, UsageError)
    assert "give a number from 1 on, or auto" in str(done.exception)


@pytest.mark.parametrize("other", [{"engine": "ray"}, {"model": None, "images": Path()}])
def test_it_is_not_found_where_no_local_run_makes_pictures(other: dict[str, object]) -> None:
    given = {"suites": ("ocr-miniature",), "model": "miniature", "batch_size": None, **other}
    with pytest.raises(UsageError, match="a batch size is found only where"):
        prepare(Options(**given))  # type: ignore[arg-type]
