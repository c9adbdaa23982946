"""`star-bench export` and `star-bench verify` as a user meets them, on a real run of the miniature."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from stores import copy_of

from star_bench.catalogue.protocol import GenerationSettings
from star_bench.cli.main import main
from star_bench.reporting.progress import RichProgress
from star_bench.runs.finished import pictures_folder
from star_bench.runs.run import Options, prepare
from star_bench.runs.run import run as run_suite

Cli = Callable[..., "Done"]


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """The console script in this process, whose libraries are loaded already: cli("export", ...) in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STAR_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # a signal's handler is the test runner's

    def call(*words: str | Path) -> Done:
        monkeypatch.setattr(sys, "argv", ["star-bench", *map(str, words)])
        code: int | str | None = 0
        try:
            main()
        except SystemExit as end:
            code = end.code
        return Done(int(code or 0), *capsys.readouterr())

    return call


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("recorded")
    options = Options(
        suites=("preference-miniature",),
        model="miniature",
        limit=3,
        device="cpu",
        runs=folder,
        settings=GenerationSettings(steps=2),
    )
    prepared = prepare(options)
    with RichProgress() as bar:
        run_suite(prepared, options, bar)
    return prepared.parts[0].folder


@pytest.fixture
def run(recorded: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return copy_of(recorded, tmp_path)


def test_a_bundle_travels_and_is_verified(cli: Cli, run: Path, tmp_path: Path) -> None:
    done = cli("export", run, "--as", "bundle", "--out", "x.zip")
    assert done.returncode == 0 and done.stdout == "" and "x.zip" in done.stderr, done.stderr
    shutil.rmtree(run.parents[1])
    done = cli("verify", "x.zip", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["verdict"], found["rescored"]["judged"], found["rescored"]["same"]) == ("equal", 6, 6)
    assert found["metric"].startswith("Miniature preference [") and found["interval"].startswith("95 %")
    assert "6 of 6 pictures are judged as recorded" in done.stderr


def test_a_changed_score_differs_with_exit_code_1(cli: Cli, run: Path) -> None:
    path = run / "scores.jsonl"
    first, *rest = path.read_text().splitlines()
    changed = json.loads(first)
    changed["value"] += 1
    path.write_text("\n".join([json.dumps(changed), *rest]) + "\n")
    done = cli("verify", run)
    assert done.returncode == 1, done.stderr
    assert "by the scores" in done.stderr and "1 otherwise" in done.stderr
    assert changed["prompt_id"] in done.stdout


def test_a_changed_picture_is_refused_with_exit_code_4(cli: Cli, run: Path) -> None:
    picture = next(pictures_folder(run).glob("images/*/*.png"))
    picture.write_bytes(picture.read_bytes() + b" ")
    done = cli("verify", run, "--no-scoring")
    assert done.returncode == 4 and picture.name in done.stderr and done.stdout == ""
    done = cli("export", run, "--as", "bundle", "--out", "x.zip")
    assert done.returncode == 4 and "is not the picture that was stored" in done.stderr


def test_a_run_without_a_picture_is_packed_and_verified_as_incomplete(cli: Cli, run: Path, tmp_path: Path) -> None:
    next(pictures_folder(run).glob("images/*/*.png")).unlink()
    done = cli("export", run, "--as", "bundle", "--out", "x.zip")
    assert done.returncode == 3 and "1 stored pictures are gone" in done.stderr
    assert (tmp_path / "x.zip").is_file(), "what is there was kept"
    done = cli("verify", "x.zip", "--no-scoring")
    assert done.returncode == 3 and "1 pictures are not there" in done.stderr


def test_text_goes_to_stdout_or_to_a_file(cli: Cli, run: Path, tmp_path: Path) -> None:
    done = cli("export", run, "--as", "latex")
    assert done.returncode == 0 and r"\toprule" in done.stdout and "Miniature preference" in done.stdout
    again = cli("export", run / "results.json", "--as", "latex", "--out", "table.tex")
    assert again.returncode == 0 and again.stdout == ""
    assert (tmp_path / "table.tex").read_text() == done.stdout


def test_the_other_forms(cli: Cli, run: Path) -> None:
    card = cli("export", run, "--as", "model-card")
    assert yaml.safe_load(card.stdout.split("---")[1])["model-index"][0]["name"] == "miniature", card.stderr
    said = ("--organisation", "Example Lab", "--relationship", "first_party", "--model-id", "example/miniature")
    record = cli("export", run, "--as", "every-eval-ever", *said)
    assert json.loads(record.stdout)["schema_version"] == "0.3.0", record.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--as", "bundle"), 2, "--out FILE.zip"),
        (("--as", "eval-results"), 2, "give --dataset and --task"),
        (("--as", "eval-results", "--dataset", "a/b", "--task", "c"), 4, "SUBSET"),
        (("--as", "every-eval-ever", "--organisation", "x"), 2, "give --relationship"),
        (("--as", "every-eval-ever", "--organisation", "x", "--relationship", "firstparty"), 2, "'first_party'"),
        (("--as", "every-eval-ever", "--organisation", "x", "--relationship", "other"), 2, "--model-id"),
        (("--as", "pdf"), 2, "latex"),
    ],
)
def test_what_is_lacking_is_one_sentence(cli: Cli, run: Path, words: tuple[str, ...], code: int, said: str) -> None:
    done = cli("export", run, *words)
    assert done.returncode == code and said in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""
