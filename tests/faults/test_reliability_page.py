"""The page of faults says what was tried, what did not hold, and what was never run."""

from __future__ import annotations

import json
from pathlib import Path

from figures import FIGURES, Row
from reliability import PAGE, PROMISED, not_run, page, write


def test_what_did_not_hold_and_what_was_not_run_can_be_seen(tmp_path: Path) -> None:
    rows = [
        Row("runs", "kill -9 | at 50 points", "the same bytes", 50, 49, "a note"),
        Row("inputs", "hostile YAML", "one sentence", 7, 7),
    ]
    text = page(rows)
    assert "Faults tried: 50, lost: 1." in text and "Bad inputs tried: 7, escaped: 0." in text
    assert "| kill -9 \\| at 50 points | the same bytes | 50 | **49** | a note |" in text
    lost = not_run(rows)
    assert len(lost) == len(PROMISED) - 2 and ("load", "cap") in lost and "NOT RUN" in text
    assert write(tmp_path / "nothing.json", tmp_path / "page.md") == list(PROMISED)


def test_the_committed_page_is_of_the_committed_figures_and_lacks_nothing() -> None:
    rows = [Row(**kept) for kept in json.loads(FIGURES.read_text())]
    assert not_run(rows) == []
    shown = PAGE.read_text()
    for row in rows:
        assert row.held == row.tried
        assert f"| {row.fault} | {row.requirement} | {row.tried:,} | {row.held:,} |" in shown
