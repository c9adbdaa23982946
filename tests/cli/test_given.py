"""Options that mean nothing beside what else was said end the command, by name, before anything is looked for."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from star_bench.cli.main import main
from star_bench.errors import UsageError


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Iterator[Callable]:
    """refused("run", ...) gives the one sentence of a usage error, through the console script's own function."""
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)

    def call(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["star-bench", *words])
        with pytest.raises(SystemExit) as caught:
            main()
        out, said = capfd.readouterr()
        assert (caught.value.code, out, list(tmp_path.iterdir())) == (UsageError.exit_code, "", [])
        assert said.startswith("star-bench: ") and said.count("\n") == 1, said
        return said

    yield call
    signal.signal(signal.SIGTERM, before)


IMAGES = ("--images", ".", "--suite", "ocr-miniature")
MODEL = ("--model", "miniature", "--suite", "ocr-miniature")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((*IMAGES, "--steps", "4"), "--steps means nothing with --images, whose pictures are there already: leave it"),
        ((*IMAGES, "--seed", "0"), "--seed means nothing with --images"),  # as given as any other number
        ((*IMAGES, "--size", "64", "--guidance", "2"), "--guidance and --size mean nothing with --images"),
        ((*IMAGES, "--base", "miniature"), "--base means nothing with --images"),
        ((*IMAGES, "--dtype", "float32"), "--dtype means nothing with --images"),
        ((*IMAGES, "--kernels", "math"), "--kernels means nothing with --images"),
        ((*IMAGES, "--free-text-encoders"), "--free-text-encoders means nothing with --images"),
        ((*IMAGES, "--engine", "ray", "--workers", "2"), "--workers means nothing with --images"),
        ((*IMAGES, "--model", "miniature"), "give --model NAME or --images DIR"),
        ((*IMAGES, "--scoring-workers", "2"), "--scoring-workers means nothing without --engine ray"),
        ((*MODEL, "--workers", "2", "--gpus", "1"), "--workers and --gpus mean nothing without --engine ray"),
        ((*MODEL, "--scoring-gpus", "0"), "--scoring-gpus means nothing without --engine ray"),
        ((*MODEL, "--address", "ray://host:1"), "--address means nothing without --engine ray"),
        ((*MODEL, "--shard", "1/2", "--reports", "r"), "--reports means nothing with --shard"),
    ],
)
def test_an_option_of_run_that_means_nothing_is_named(refused: Callable, words: tuple[str, ...], sentence: str) -> None:
    assert sentence in refused("run", *words)


TRAIN = ("train", "--recipe", "star-geneval-mini")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((*TRAIN, "--scoring-workers", "2"), "--scoring-workers means nothing without --engine ray"),
        ((*TRAIN, "--address", "ray://host:1"), "--address means nothing without --engine ray"),
        ((*TRAIN, "--processes", "2"), "--processes is for --dry-run alone"),
        (("export", "RUN", "--as", "latex", "--task", "t"), "--task means nothing with --as latex"),
        (("export", "RUN", "--as", "bundle", "--model-id", "a/b"), "--model-id means nothing with --as bundle"),
        (("export", "RUN", "--as", "eval-results", "--organisation", "o"), "--organisation means nothing with --as"),
        (("verify", "RUN", "--no-scoring", "--device", "cpu"), "--device means nothing with --no-scoring"),
        (("verify", "RUN", "--no-scoring", "--batch-size", "2"), "--batch-size means nothing with --no-scoring"),
        (("verify", ".", "--work", "w"), "--work means nothing with a run's directory"),
        (("geneval", "detect", "W", "I", "--all", "--threshold", "0.5"), "--threshold means nothing with --all"),
        (("geneval", "fetch", "--only", "color", "--weights", "w"), "--weights means nothing with --only color"),
        (
            ("geneval", "fetch", "--only", "detector", "--color-weights", "w"),
            "--color-weights means nothing with --only",
        ),
        (("doctor", "--out", "x.zip"), "--out means nothing without --bundle"),
        (("ls", "models", "--runs", "elsewhere"), "--runs means nothing with models"),
        (("ls", "suites", "--licence", "commercial"), "suites are not listed by licence"),
        (("ls", "runs", "--json", "--all"), "--all means nothing with --json"),
        (
            ("masks", "--model", "miniature", "--prompt", "x", "--set", "a=b"),
            "--set changes a recipe and none is given",
        ),
    ],
)
def test_an_option_of_any_verb_that_means_nothing_is_named(
    refused: Callable, words: tuple[str, ...], sentence: str
) -> None:
    assert sentence in refused(*words)
