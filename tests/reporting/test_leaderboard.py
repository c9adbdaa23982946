"""A leaderboard ranks what can be compared, says what ranks are worth, and hides nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from chromium import Tab
from stores import copy_of

from star_bench.analysis.board import leaderboard
from star_bench.errors import UsageError
from star_bench.reporting.export.parquet import TYPES, write_parquet
from star_bench.reporting.leaderboard.write import frame, markdown, write_leaderboard
from star_bench.runs.finished import read_run

Made = Callable[..., Path]
SUITE = "brightness"


def values(mean: float, *, seed: int = 0, spread: float = 0.05) -> np.ndarray:
    """Of 20 prompts with two images each."""
    return np.clip(np.random.default_rng(seed).normal(mean, spread, (20, 2)), 0.05, 0.95)


@pytest.fixture
def runs(made: Made, tmp_path: Path) -> Path:
    """A good model, one that is nearly as good, and one that is far behind."""
    good = values(0.6)
    made(good, model="good")
    made(good + np.where(np.arange(20) % 2, 0.02, -0.024)[:, None], model="as-good")
    made(values(0.3, seed=2), model="behind")
    return tmp_path / "runs"


def test_ranks_with_what_they_are_worth(runs: Path) -> None:
    (table,) = leaderboard(runs, SUITE).tables
    assert [row.rank for row in table.rows] == [1, 2, 3]
    assert [row.results.model.name for row in table.rows] == ["good", "as-good", "behind"]
    assert [row.ranks for row in table.rows] == [(1, 2), (1, 2), (3, 3)]
    shown = frame(leaderboard(runs, SUITE))
    assert "not shown to differ from the first" in shown["note"][1]
    assert shown["note"][2] == "" and shown["p Holm"][2] < 0.001


def test_what_can_not_be_compared_stands_apart(runs: Path, made: Made) -> None:
    made(values(0.9, seed=3), model="other-steps", steps=99)
    made(values(0.9, seed=4), model="foreign", foreign=True)
    tables = leaderboard(runs, SUITE).tables
    assert [len(table.rows) for table in tables] == [3, 1, 1]
    assert tables[0].title == "" and "steps" in tables[1].title
    assert tables[1].rows[0].rank == 1, "a rank counts within its table only"


def test_a_run_that_lacks_scores_is_shown_and_not_ranked(runs: Path, made: Made) -> None:
    folder = made(values(0.95, seed=5), model="holes")
    path = folder / "results.json"
    results = json.loads(path.read_text())
    results["complete"] = False
    results["counts"] |= {"ok": 39, "error": 1}
    path.write_text(json.dumps(results))
    board = leaderboard(runs, SUITE)
    (table,) = board.tables
    assert [row.results.model.name for row in table.rest] == ["holes"]
    assert "INCOMPLETE: 39 of 40 images have a score (1 error)" in markdown(board)


def test_broken_and_unfinished_runs_are_named(runs: Path, made: Made) -> None:
    broken, unfinished = made(values(0.5), model="broken"), made(values(0.5), model="unfinished")
    (broken / "results.json").write_text("{")
    (unfinished / "results.json").unlink()
    board = leaderboard(runs, SUITE)
    assert len(board.tables[0].rows) == 3
    reasons = {one.folder.parents[1].name: one.reason.partition(":")[0] for one in board.left_out}
    assert reasons == {"broken": "broken", "unfinished": "unfinished"}


def test_no_such_runs_is_one_sentence(runs: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no run of 'brightnes' below .*did you mean 'brightness'"):
        leaderboard(runs, "brightnes")


def test_the_page_sorts_links_and_stays_quiet(runs: Path, tab: Tab, tmp_path: Path) -> None:
    hostile = "<script>document.title='gone'</script>"
    for path in runs.glob("behind/*/*/results.json"):
        path.write_text(path.read_text().replace('"behind"', json.dumps(hostile)))
    page = write_leaderboard(leaderboard(runs, SUITE), tmp_path / "out", tmp_path / "reports")
    tab.open(page)
    names = "[...document.querySelectorAll('.board tbody th')].map((cell) => cell.dataset.value)"
    planned: Any = tab.js(names)
    assert planned[2] == hostile and tab.js("document.title").startswith("Leaderboard")
    tab.js("document.querySelectorAll('.board thead button')[2].focus()")
    tab.press("Enter")
    assert tab.js(names) == planned, "by value, the best first"
    tab.press("Enter")
    assert tab.js(names) == planned[::-1]
    assert tab.js("document.querySelector('[aria-sort]').textContent") == "Value"


def test_the_same_rows_for_programs(runs: Path, tmp_path: Path) -> None:
    write_leaderboard(leaderboard(runs, SUITE), tmp_path / "out", tmp_path / "reports")
    table = pd.read_csv(tmp_path / "out" / "leaderboard.csv")
    data = json.loads((tmp_path / "out" / "leaderboard.json").read_text())
    assert [row["model"] for row in data["rows"]] == list(table["model"])
    assert [row["value"] for row in data["rows"]] == pytest.approx(list(table["value"]))


def test_parquet_has_every_image_with_its_type(runs: Path, tmp_path: Path) -> None:
    found = [read_run(path.parent) for path in sorted(runs.glob("*/*/*/results.json"))]
    assert write_parquet(found, tmp_path / "scores.parquet") == 3 * 40
    table = pd.read_parquet(tmp_path / "scores.parquet")
    assert {name: str(kind) for name, kind in table.dtypes.items()} == TYPES
    means = table.groupby("model")["value"].mean()
    for run in found:
        assert means[run.results.model.name] == pytest.approx(run.results.aggregates[0].value, abs=1e-6)


def test_parquet_keeps_a_missing_score_missing(runs: Path, tmp_path: Path) -> None:
    folder = copy_of(next(path for path in runs.glob("good/*/*") if path.parent.name != "pictures"), tmp_path / "one")
    rows = [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]
    rows[3] |= {"status": "error", "value": None}
    (folder / "scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    results = json.loads((folder / "results.json").read_text())
    results["counts"] |= {"ok": 39, "error": 1}
    (folder / "results.json").write_text(json.dumps(results))
    write_parquet([read_run(folder)], tmp_path / "one.parquet")
    table = pd.read_parquet(tmp_path / "one.parquet")
    assert list(table["status"]).count("error") == 1
    assert table["value"].isna().sum() == 1 and (table["value"].fillna(1) > 0).all()
