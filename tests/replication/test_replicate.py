"""`star-bench replicate` as a user meets it, on the miniature: verdicts, exit codes, files, resuming."""

from __future__ import annotations

import contextlib
import io
import json
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from star_bench.cli.main import main
from star_bench.runs.finished import pictures_folder

HOSTILE = "<script>alert(1)</script>"
SUITES = {
    "preference-miniature": {
        "metric": "Miniature preference",
        "unit": "exp(logit_scale) * cosine",
        "widest_window": 99,
    },
    "geneval-miniature": {"metric": "GenEval-miniature", "unit": "share of images judged right", "widest_window": 0.05},
    "ocr-miniature": {
        "metric": "OCR accuracy",
        "unit": "1 - normalised edit distance",
        "version": "2.9.1",
        "widest_window": 1,
    },
}
ROW = {
    "model": "miniature",
    "checkpoint": "miniature",
    "suite": "preference-miniature",
    "measure": "mean",
    "protocol": "small",
    "source": "here",
    "limit": 6,
}


def replicate(folder: Path, rows: list[dict[str, Any]], *words: str) -> tuple[int, Any, str]:
    """The exit code, the JSON and the talk of the command on a plan of these rows; each changes ROW."""
    plan = {
        "name": "mine",
        "title": HOSTILE,
        "protocols": {"small": {"steps": 2}, "too large": {"size": 4096}},
        "suites": SUITES,
        "rows": [{**ROW, **row} for row in rows],
    }
    (folder / "plan.yaml").write_text(yaml.safe_dump(plan))
    out, talk, code = io.StringIO(), io.StringIO(), 0
    with contextlib.chdir(folder), redirect_stdout(out), redirect_stderr(talk), pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["star-bench", "replicate", "plan.yaml", "--json", *words])
        patch.setattr("signal.signal", lambda *_: None)  # the handler of a process of its own
        try:
            main()
        except SystemExit as end:
            code = int(str(end.code))
    return code, json.loads(out.getvalue()) if out.getvalue() else None, talk.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("replicate")


@pytest.fixture(scope="module")
def measured(folder: Path) -> dict[str, Any]:
    """A row that is far off, with its grid."""
    rows = [{"id": "far", "published": "99.9", "sensitivity": {"steps": [2, 3], "seed": [0, 1]}}]
    code, ledger, said = replicate(folder, rows, "--sensitivity")
    assert code == 1, said
    (row,) = ledger["rows"]
    assert row["verdict"] == "differs"
    return row


def test_a_measured_number_says_what_it_is_and_how_its_window_was_made(measured: dict[str, Any]) -> None:
    number = measured["measured"]
    assert "Miniature preference" in number["metric"]
    assert "95 %" in number["interval"]
    assert number["low"] < number["value"] < number["high"]
    assert measured["difference"] == pytest.approx(number["value"] - 99.9)
    window = measured["window"]
    assert window["half"] == pytest.approx(window["noise"] + 0.05)
    assert "within prompts" in window["basis"]


def test_a_grid_compares_every_cell_with_the_rows_own_run(measured: dict[str, Any]) -> None:
    cells = {(cell["settings"]["steps"], cell["settings"]["seed"]): cell for cell in measured["sensitivity"]["cells"]}
    assert set(cells) == {(2, 0), (2, 1), (3, 0), (3, 1)}
    own = cells[2, 0]
    assert own["own"] and own["value"] == measured["measured"]["value"] and own["difference"]["value"] == 0
    for cell in cells.values():
        assert cell["difference"]["value"] == pytest.approx(cell["value"] - own["value"], abs=1e-5)
    spread = {entry["settings"]["steps"]: entry for entry in measured["sensitivity"]["over_seeds"]}
    assert spread[3]["mean"] == pytest.approx((cells[3, 0]["value"] + cells[3, 1]["value"]) / 2)
    assert spread[3]["deviation"] > 0


@pytest.fixture(scope="module")
def many(folder: Path, measured: dict[str, Any]) -> tuple[dict[str, dict[str, Any]], int, str]:
    """Rows of every fate, after the run of `measured`."""
    value = f"{measured['measured']['value']:.3f}"
    rows = [
        {"id": "same", "published": value, "prompts": 6, "note": HOSTILE},
        {"id": "failing", "published": value, "protocol": "too large"},
        {"id": "unstated", "published": value, "protocol": "not stated", "limit": 4},
        {"id": "unsure", "published": "0.5", "suite": "geneval-miniature", "measure": "overall", "tolerance": 1.0},
        {"id": "claimed", "published": value, "checkpoint": "star-geneval"},
        {"id": "other-reader", "published": "0.5", "suite": "ocr-miniature", "measure": "accuracy"},
        {"id": "other-prompts", "published": value, "prompts": 60},
    ]
    code, ledger, said = replicate(folder, rows)
    return {row["id"]: row for row in ledger["rows"]}, code, said


def test_every_row_has_its_verdict_and_a_failing_one_stops_no_other(
    many: tuple[dict[str, dict[str, Any]], int, str],
) -> None:
    rows, code, said = many
    assert {name: row["verdict"] for name, row in rows.items()} == {
        "same": "reproduced",
        "failing": "failed",
        "unstated": "protocol not stated",
        "unsure": "inconclusive",
        "claimed": "not run",
        "other-reader": "not run",
        "other-prompts": "not run",
    }
    assert rows["claimed"]["lacks"] == ["weights not released"]
    assert rows["other-reader"]["lacks"] == ["another metric"]
    assert rows["other-prompts"]["reasons"] == ["published on 60 prompts, and here they are 6"]
    assert "4096 x 4096 pixels" in rows["failing"]["reasons"][0]
    assert rows["unstated"]["measured"]["value"] is not None
    assert code == 3
    assert "weights not released (claimed)" in said
    assert "failing, unsure" in said


def test_the_row_that_was_run_before_made_nothing_again(
    folder: Path, many: tuple[dict[str, dict[str, Any]], int, str]
) -> None:
    run = folder / many[0]["same"]["measured"]["run"]
    manifest = json.loads((pictures_folder(run) / "manifest.json").read_text())
    assert [session["images_made"] for session in manifest["sessions"]] == [12]
    assert len(json.loads((run / "manifest.json").read_text())["sessions"]) == 2


def test_the_ledger_is_a_page_and_tables_that_nothing_in_a_plan_can_break(
    folder: Path, many: tuple[dict[str, dict[str, Any]], int, str]
) -> None:
    out = folder / "reports" / "replication-mine"
    html, markdown = ((out / name).read_text() for name in ("index.html", "ledger.md"))
    assert HOSTILE not in html
    assert HOSTILE not in markdown
    assert "default-src &#39;none&#39;" in html
    for name in ("reproduced", "inconclusive", "protocol not stated", "weights not released"):
        assert name in html
        assert name in markdown
    table = pd.read_csv(out / "ledger.csv").set_index("id")
    assert table.loc["same", "verdict"] == "reproduced"
    assert "Miniature preference" in table.loc["same", "metric"]
    links = [part.split('"')[0] for part in html.split('href="')[1:] if part.startswith("../")]
    assert len(links) == 3
    assert all((out / link).is_file() for link in links)


def test_exit_codes(folder: Path, measured: dict[str, Any]) -> None:
    """All reproduced is 0; nothing run is no success, and says why."""
    value = f"{measured['measured']['value']:.3f}"
    rows = [{"id": "same", "published": value}, {"id": "claimed", "published": value, "checkpoint": "claimed"}]
    code, ledger, said = replicate(folder, rows)
    assert code == 0, said
    assert ledger["summary"] == "2 rows: 1 reproduced, 1 not run (1 weights not released)"
    code, _, said = replicate(folder, rows, "--only", "claimed")
    assert code == 3
    assert "no results are no success" in said


def test_a_dry_run_runs_nothing(tmp_path: Path) -> None:
    rows = [{"id": "ready", "published": "1.0"}, {"id": "claimed", "published": "1.0", "checkpoint": "claimed"}]
    code, planned, said = replicate(tmp_path, rows, "--dry-run")
    assert code == 0, said
    assert [(row["row"], row["what"], row["images"]) for row in planned] == [
        ("ready", "run", 12),
        ("claimed", "not run: weights not released", None),
    ]
    assert not (tmp_path / "runs").exists()


def test_a_measure_that_a_suite_does_not_have_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    code, _, said = replicate(tmp_path, [{"id": "typo", "published": "1.0", "measure": "meen"}])
    assert code == 2
    assert "did you mean 'mean'" in said
    assert not (tmp_path / "runs").exists()
