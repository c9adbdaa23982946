"""Tables carry their numbers, their captions, and everything that is not whole about the run."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from rich.console import Console

from star_bench.analysis import caveats
from star_bench.errors import Refused
from star_bench.reporting import tables
from star_bench.reporting.page import render
from star_bench.runs.finished import parse_results

if TYPE_CHECKING:
    from conftest import Run

INCOMPLETE = "INCOMPLETE: 14 of 18 images have a score (1 missing, 1 corrupt, 1 degenerate, 1 error)"
SUBSET = "SUBSET (18 of 553 prompts)"
METRIC = "GenEval [fraction correct], star-bench-miniature 1.0"
INTERVAL = "95 % bootstrap over prompts, 2000 resamples, seed 0"


def printed(run: Run, width: int = 200) -> str:
    out = io.StringIO()
    tables.print_table(run.results, Console(file=out, width=width))
    return out.getvalue()


def test_aggregates_come_first_and_a_tag_without_scores_has_no_value(run: Run) -> None:
    frame = tables.measure_frame(parse_results(run.results))
    assert list(frame.columns) == ["measure", "value", "low", "high", "images", "prompts"]
    assert frame["measure"].iloc[0] == "mean of the tags' means"
    assert len(frame) == 2 + 6
    last = frame.iloc[-1]
    assert (last["measure"], last["images"]) == ("color_attr", 0)
    assert last[["value", "low", "high"]].isna().all()


def test_a_run_with_no_score_at_all_still_makes_every_table(run: Run) -> None:
    for entry in run.results["aggregates"] + run.results["tags"]:
        entry.update(value=None, low=None, high=None)
    assert "0.0000" not in printed(run)
    assert json.loads(tables.to_json(tables.tidy_frame(parse_results(run.results))))[0]["value"] is None


@pytest.mark.parametrize("text", [METRIC, INTERVAL, INCOMPLETE, SUBSET, "FOREIGN IMAGES"])
def test_every_form_says_what_the_numbers_are(run: Run, text: str) -> None:
    run.results.update(subset={"limit": 18, "of": 553}, generation="foreign", protocol=None)
    results = parse_results(run.results)
    tidy = tables.tidy_frame(results)
    assert text in " ".join(printed(run).split())
    assert text in tables.report_markdown(results).replace("\\", "")
    assert text in tables.to_csv(tidy)
    assert text in tables.to_json(tidy)


def test_a_whole_run_has_no_notice(run: Run) -> None:
    run.results.update(complete=True, counts={"planned": 18, "ok": 18})
    assert caveats.notices(parse_results(run.results)) == []


def test_counts_outvote_a_run_that_calls_itself_complete(run: Run) -> None:
    run.results["complete"] = True
    assert caveats.notices(parse_results(run.results)) == [INCOMPLETE]


def test_csv_and_json_keep_full_precision_and_readers_see_four_decimals(run: Run) -> None:
    results = parse_results(run.results)
    tidy = tables.tidy_frame(results)
    assert pd.read_csv(io.StringIO(tables.to_csv(tidy)))["value"].iloc[0] == 0.7123456
    assert json.loads(tables.to_json(tidy))[0]["value"] == 0.7123456
    assert "| mean of the tags' means | 0.7123 | 0.5123 | 0.8623 | 14 | 14 |" in tables.report_markdown(results)


def test_published_numbers_stand_apart(run: Run) -> None:
    results = parse_results(run.results)
    frame = tables.published_frame(results)
    assert list(frame.columns) == ["model", "value", "single_object", "position", "metric", "protocol", "source"]
    assert pd.isna(frame["position"].iloc[1])
    assert "SD3.5-M" not in tables.to_csv(tables.tidy_frame(results))
    assert "Published, not measured here" in printed(run)
    run.results["published"] = []
    assert "ublished" not in tables.report_markdown(parse_results(run.results))


def test_names_are_neither_markdown_nor_html_nor_rich_markup(run: Run) -> None:
    run.results["model"]["name"] = "[red]a|b[/nope] <script>`*\nc"
    assert "[red]a|b[/nope] <script>" in printed(run)
    written = tables.report_markdown(parse_results(run.results))
    assert written.startswith("# \\[red\\]a\\|b\\[/nope\\] &lt;script&gt;\\`\\* c on ")


@pytest.mark.parametrize(
    ("key", "value"), [("schema", 2), ("aggregates", []), ("generation", "dreamt"), ("metric", None)]
)
def test_other_results_are_refused_by_key(run: Run, key: str, value: object) -> None:
    run.results[key] = value
    with pytest.raises(Refused, match=key):
        tables.print_table(run.results, Console(file=io.StringIO()))


LICENCES = {
    "no": "NOT FOR COMMERCIAL USE: model mine (Non-Commercial)",
    "unknown": "COMMERCIAL USE UNKNOWN: model mine (Non-Commercial)",
}


@pytest.mark.parametrize("commercial", LICENCES)
def test_every_form_marks_what_is_not_free_for_commercial_use(run: Run, commercial: str) -> None:
    mark = LICENCES[commercial]
    part = {"of": "model", "name": "mine", "licence": "Non-Commercial", "commercial": commercial}
    run.results["licences"].insert(0, part)
    results = parse_results(run.results)
    assert mark in " ".join(printed(run).split())
    for text in (tables.report_markdown(results), tables.to_csv(tables.tidy_frame(results)), render(results, [])):
        assert mark in text
    assert f"commercial use: {commercial}" in tables.report_markdown(results)


def test_a_mark_names_each_part_once_and_what_is_forbidden_first(run: Run) -> None:
    rows = [("prompts", "theirs", "unknown"), ("judge", "eye", "no"), ("judge", "eye", "no"), ("judge", "ear", "yes")]
    run.results["licences"] += [{"of": of, "name": name, "licence": "L", "commercial": may} for of, name, may in rows]
    assert caveats.notices(parse_results(run.results))[1:] == [
        "NOT FOR COMMERCIAL USE: judge eye (L)",
        "COMMERCIAL USE UNKNOWN: prompts theirs (L)",
    ]


def test_what_a_run_recorded_no_licence_of_is_unknown(run: Run) -> None:
    del run.results["licences"]
    assert caveats.notices(parse_results(run.results))[1:] == [
        "COMMERCIAL USE UNKNOWN: model miniature-sd3 (Apache-2.0)"
    ]
    run.results.update(generation="foreign", protocol=None)
    assert "COMMERCIAL USE UNKNOWN: images miniature-sd3 (Apache-2.0)" in caveats.notices(parse_results(run.results))
