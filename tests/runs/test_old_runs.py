"""Runs of star-bench 0.1.0, with pictures and scores in one folder: read by every verb, refused where they can't serve."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from star_bench.analysis.runs import compare_paths
from star_bench.catalogue.protocol import GenerationSettings
from star_bench.errors import Refused
from star_bench.reporting.listing import runs as listed
from star_bench.reporting.write import write_report
from star_bench.runs.bundle import pack
from star_bench.runs.finished import pictures_folder, read_run, stored_pictures
from star_bench.runs.progress import Silent
from star_bench.runs.run import Options, prepare, run
from star_bench.verification.verify import Verdict, verify

OLD = Path(__file__).parents[1] / "data" / "run-0.1.0"
SUITE = "preference-miniature"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A copy, in a folder of runs."""
    shutil.copytree(OLD, tmp_path / "runs")
    return next((tmp_path / "runs" / "miniature" / SUITE).iterdir())


def again(runs: Path) -> Path:
    """The same run by this version."""
    options = Options(
        suites=(SUITE,),
        model="miniature",
        limit=3,
        samples=1,
        settings=GenerationSettings(steps=2),
        device="cpu",
        runs=runs,
    )
    prepared = prepare(options)
    run(prepared, options, Silent())
    return prepared.parts[0].folder


def test_it_is_read_reported_and_listed(old: Path, tmp_path: Path) -> None:
    found = read_run(old)
    assert found.pictures == found.folder == old
    assert [image.sample.path for image in found.images if image.sample] == [f"images/{i:05d}/0.png" for i in range(3)]
    page = write_report(old, tmp_path / "report")
    assert "5.9" in page.read_text() or f"{found.results.aggregates[0].value:.4f}" in page.read_text()
    assert len(list((tmp_path / "report" / "images").rglob("*.png"))) == 3
    (row,) = listed(tmp_path / "runs")
    assert (row["state"], row["steps"], row["value"]) == ("complete", 2, found.results.aggregates[0].value)


def test_it_is_compared_with_a_run_of_today(old: Path, tmp_path: Path) -> None:
    new = again(tmp_path / "runs")
    assert new != old and pictures_folder(new) != new
    (found,) = compare_paths([old, new])
    headline = found.comparisons[0].headline
    assert headline.difference.value == pytest.approx(0, abs=0.2), "the same pictures, but for rounding"
    assert json.loads((old / "results.json").read_text())["protocol"].keys() == read_run(new).results.protocol.keys()


def test_it_is_verified_and_bundled(old: Path, tmp_path: Path) -> None:
    found = verify(old, work=tmp_path / "work", suite=None, begin=lambda: "cpu", batch_size=4, bar=Silent())
    assert found.verdict is Verdict.EQUAL, found.sentence
    assert pack(old, tmp_path / "bundle.zip") == []
    found = verify(tmp_path / "bundle.zip", work=tmp_path / "work", suite=None, begin=None, batch_size=4, bar=Silent())
    assert found.verdict is Verdict.EQUAL, found.sentence


def test_it_is_not_judged_by_another_suite(old: Path) -> None:
    with pytest.raises(Refused, match=r"is a run of star-bench 0\.1\.0.*: draw the pictures again"):
        stored_pictures(old)


def test_a_changed_one_is_refused(old: Path) -> None:
    path = old / "manifest.json"
    path.write_text(path.read_text().replace('"steps": 2', '"steps": 3'))
    with pytest.raises(Refused, match="this one was changed"):
        pack(old, old.parent / "out.zip")
