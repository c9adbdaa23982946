"""The gate's verdict on runs whose scores are chosen, and how it is written down for CI."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from star_bench.analysis.gate import Gate, Verdict, against_published, against_run
from star_bench.analysis.published import measure_of, published_for
from star_bench.analysis.values import values_of
from star_bench.catalogue import checkpoints, suites
from star_bench.cli.main import main
from star_bench.errors import Refused, UsageError
from star_bench.evaluators.base import Score, Status
from star_bench.reporting.gate_report import junit, markdown
from star_bench.runs.finished import PublishedEntry, read_run
from star_bench.statistics.rule import Rule
from star_bench.statistics.within import within_prompts

Made = Callable[..., Path]
HARD = np.random.default_rng(0).uniform(0.3, 0.6, (24, 2))
"""Brightness before."""


def shifted(by: float | np.ndarray) -> np.ndarray:
    return HARD + by + np.random.default_rng(1).uniform(-0.03, 0.03, HARD.shape)


@pytest.fixture
def gated(made: Made, kinds: dict[str, Any]) -> Callable[..., Gate]:
    """gated(shift, ...): the verdict on a checkpoint whose pictures are brighter by `shift`."""

    def judge(
        by: float | np.ndarray, *, rule: Rule = Rule.NO_REGRESSION, margin: float = 0.0, tags: int = 2, **named: Any
    ) -> Gate:
        before = read_run(made(HARD, kind=kinds["tagged"], tags=tags))
        after = read_run(made(shifted(by), kind=kinds["tagged"], tags=tags, model="after"))
        return against_run(after, before, rule=rule, margin=margin, **named)

    return judge


def test_what_got_worse_fails_and_what_did_not_passes(gated: Callable[..., Gate]) -> None:
    assert gated(-0.05).verdict is Verdict.FAILED
    assert gated(0.0).verdict is Verdict.PASSED
    assert gated(0.05).verdict is Verdict.PASSED
    assert gated(-0.05).sentence.startswith("FAILED: after on tagged against before: worse (mean of tag means -0.0")


def test_a_margin_forgives_a_small_loss(gated: Callable[..., Gate]) -> None:
    assert gated(-0.05, margin=0.1).verdict is Verdict.PASSED
    assert gated(-0.05, margin=0.02).verdict is Verdict.FAILED


def test_non_inferiority_has_to_be_shown(gated: Callable[..., Gate]) -> None:
    assert gated(0.0, rule=Rule.NON_INFERIOR, margin=0.05).verdict is Verdict.PASSED
    found = gated(0.0, rule=Rule.NON_INFERIOR, margin=0.001)
    assert found.verdict is Verdict.FAILED
    assert "not shown to be within 0.001" in found.sentence
    with pytest.raises(UsageError, match="with a margin of 0"):
        gated(0.0, rule=Rule.NON_INFERIOR)
    with pytest.raises(UsageError, match="with a margin of -1"):
        gated(0.0, margin=-1)


@pytest.mark.parametrize("rule", list(Rule))
@pytest.mark.parametrize(
    ("margin", "says"),
    [
        (float("nan"), "with a margin of nan"),
        (float("inf"), "with a margin of inf"),
        (
            1.0,
            r"no run can be worse by 1, since Brightness goes from 0 to 1.*unit \(share of white\): two per cent .* 0.02",
        ),
        (2.0, "no run can be worse by 2, since Brightness goes from 0 to 1"),
        (0.46, r"no run can be worse by 0.46 than a baseline of 0.4\d+, since .* give a --margin below 0.4"),
    ],
)
def test_a_margin_that_can_not_be_lost_is_refused(
    made: Made, kinds: dict[str, Any], rule: Rule, margin: float, says: str
) -> None:
    before = read_run(made(HARD, kind=kinds["tagged"], tags=2))
    with pytest.raises(UsageError, match=says):
        against_run(before, before, rule=rule, margin=margin)
    with pytest.raises(UsageError, match=says):
        against_published(before, PRINTED, rule=rule, margin=margin)


def test_a_metric_without_bounds_takes_any_finite_margin(made: Made, kinds: dict[str, Any]) -> None:
    before = read_run(made(HARD, kind=kinds["panel"]))
    assert against_run(before, before, rule=Rule.NON_INFERIOR, margin=5.0).verdict is Verdict.PASSED


def test_a_tag_that_fell_is_found_where_every_tag_is_checked(gated: Callable[..., Gate]) -> None:
    """Tag 1 falls and tag 0 rises by as much."""
    by = np.where(np.arange(24) % 2, -0.05, 0.05)[:, None]
    assert gated(by).verdict is Verdict.PASSED
    found = gated(by, each_tag=True)
    assert found.verdict is Verdict.FAILED
    assert {check.title: check.passed for check in found.checks} == {
        "mean of tag means": True,
        "tag 0": True,
        "tag 1": False,
    }


def test_the_same_pictures_pass_by_either_rule(made: Made, kinds: dict[str, Any]) -> None:
    before, after = (read_run(made(HARD, kind=kinds["tagged"], tags=2, model=name)) for name in ("before", "after"))
    for rule, margin in ((Rule.NO_REGRESSION, 0.0), (Rule.NON_INFERIOR, 1e-6)):
        found = against_run(after, before, rule=rule, margin=margin, each_tag=True)
        assert found.verdict is Verdict.PASSED
        assert found.checks[0].difference.low == 0.0


def test_one_prompt_of_a_tag_decides_nothing(gated: Callable[..., Gate]) -> None:
    found = gated(-0.05, tags=23)
    assert found.verdict is Verdict.INCOMPLETE
    assert "a tag has a single prompt" in found.sentence
    assert found.remedy.startswith("run both with more prompts (without --limit")


def test_other_settings_are_refused_unless_allowed_and_then_said(made: Made, kinds: dict[str, Any]) -> None:
    before = read_run(made(HARD, kind=kinds["tagged"]))
    after = read_run(made(shifted(0.0), kind=kinds["tagged"], model="after", steps=20))
    with pytest.raises(Refused, match="they differ in steps"):
        against_run(after, before, rule=Rule.NO_REGRESSION, margin=0.0)
    found = against_run(after, before, rule=Rule.NO_REGRESSION, margin=0.0, allow=["steps"])
    assert found.notices[0] == "WAIVED (protocol): they differ in steps (14 in the first and 20 in the second)"


TAGS = {"tag 0": 0.45, "tag 1": 0.9}
PRINTED = PublishedEntry(
    model="before", value=0.45, metric="Brightness", source="a paper", tags={"tag 0": 0.45, "tag 1": 0.9}
)


def test_a_published_number_is_a_baseline_with_a_warning(made: Made, kinds: dict[str, Any]) -> None:
    run = read_run(made(HARD, kind=kinds["tagged"], tags=2))
    found = against_published(run, PRINTED, rule=Rule.NO_REGRESSION, margin=0.0)
    assert found.verdict is Verdict.PASSED
    assert found.notices[0].startswith("PUBLISHED NUMBER: a paper; its protocol: not stated")
    assert found.checks[0].before == 0.45
    assert found.checks[0].after == pytest.approx(run.results.aggregates[0].value, abs=1e-6)
    assert against_published(run, PRINTED, rule=Rule.NO_REGRESSION, margin=0.0, each_tag=True).verdict is Verdict.FAILED
    better = PRINTED.model_copy(update={"value": 0.9})
    assert against_published(run, better, rule=Rule.NO_REGRESSION, margin=0.0).verdict is Verdict.FAILED


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"metric": ""}, "does not say of which measure it is"),
        ({"metric": "not stated"}, "does not say of which measure it is"),
        ({"metric": "ImageReward"}, "is of ImageReward, and the run measured overall"),
        ({"metric": "Brightness / 26"}, "is of Brightness / 26, and the run measured"),
        (
            {"metric": "Brightness (PaddleOCR 2.9.1)"},
            r"with paddleocr 2\.9\.1, and the run with share of white",
        ),
        ({"metric": "Brightness (reader not stated)"}, "was measured with reader not stated"),
        ({"value": 45.0}, r"is on another scale than the run's Brightness, which goes from 0\.0 to 1\.0"),
    ],
)
def test_a_number_of_something_else_is_never_subtracted(
    made: Made, kinds: dict[str, Any], changes: dict[str, Any], says: str
) -> None:
    run = read_run(made(HARD, kind=kinds["tagged"], tags=2))
    with pytest.raises(Refused, match=says):
        against_published(run, PRINTED.model_copy(update=changes), rule=Rule.NO_REGRESSION, margin=0.0)


@pytest.mark.parametrize(
    "metric", ["overall", "mean of tag means", "Brightness", "brightness (share of white, drawn 1)"]
)
def test_the_measure_may_be_named_as_the_run_names_it(made: Made, kinds: dict[str, Any], metric: str) -> None:
    run = read_run(made(HARD, kind=kinds["tagged"], tags=2))
    assert measure_of(run.results, PRINTED.model_copy(update={"metric": metric})) == run.results.aggregates[0]


def test_of_a_panel_the_measure_of_that_name_is_compared(made: Made, kinds: dict[str, Any]) -> None:
    run = read_run(made(HARD, kind=kinds["panel"]))
    second = run.results.aggregates[1]
    printed = PRINTED.model_copy(update={"metric": second.name, "value": 0.0})
    found = against_published(run, printed, rule=Rule.NO_REGRESSION, margin=0.0)
    assert (found.checks[0].title, found.checks[0].after) == (second.title, pytest.approx(second.value, abs=1e-6))


def test_a_number_without_a_unit_is_refused_where_the_metric_has_no_ends(made: Made, kinds: dict[str, Any]) -> None:
    """A PickScore of .83 and one of 21.7 are the same picture's."""
    results = read_run(made(HARD, kind=kinds["tagged"], tags=2)).results
    logits = results.model_copy(
        update={"metric": results.metric.model_copy(update={"range": (None, None), "unit": "Brightness (logit)"})}
    )
    with pytest.raises(Refused, match=r"does not say its unit, and the run's is Brightness \(logit\)"):
        measure_of(logits, PRINTED)
    for metric in ("Brightness (logit)", "overall"):
        assert measure_of(logits, PRINTED.model_copy(update={"metric": metric})) == results.aggregates[0]


def test_a_published_number_is_held_against_the_noise_within_prompts_of_two_draws(
    made: Made, kinds: dict[str, Any]
) -> None:
    """As `star-bench replicate` does: prompts of very different difficulty widen nothing, and both draws are noisy."""
    rng = np.random.default_rng(3)
    values = np.linspace(0.3, 0.6, 24)[:, None] + rng.uniform(-0.02, 0.02, (24, 2))
    run = read_run(made(values, kind=kinds["tagged"], tags=2))
    measured = list(values_of(run, run.results.aggregates[0]).values())
    noise = within_prompts(measured, of_tags=True)
    assert noise is not None and noise.half_width < 0.01
    reach = 2**0.5 * noise.half_width
    value = run.results.aggregates[0].value
    assert value is not None
    verdicts = {}
    for above in (0.5, 1.0):
        printed = PRINTED.model_copy(update={"value": value + above * reach})
        found = against_published(run, printed, rule=Rule.NO_REGRESSION, margin=0.0)
        low, high = found.checks[0].difference.low, found.checks[0].difference.high
        assert low is not None and high is not None and high - low == pytest.approx(2 * reach)
        verdicts[above] = found.verdict
    assert verdicts == {0.5: Verdict.PASSED, 1.0: Verdict.FAILED}


def test_numbers_of_the_shipped_cards_name_what_they_are_of() -> None:
    """OCR's were read by another reader than the suite's; STAR's abstract does not say which measures its numbers are."""
    unsaid = {
        (name, number.model): number.metric
        for name in suites.names()
        for number in suites.load(name).published
        if number.metric in ("", "not stated")
    }
    assert unsaid == {(suite, f"star-{suite}"): "not stated" for suite in ("geneval", "ocr", "pickscore")}
    assert all(number.metric.endswith(")") or "star" in number.model for number in suites.load("ocr").published)
    for name, entry in checkpoints.entries().items():
        assert all(number.metric for number in entry.published), name


def test_a_published_number_must_be_the_only_one_that_is_meant(made: Made, kinds: dict[str, Any]) -> None:
    results = read_run(made(HARD, kind=kinds["tagged"])).results
    with pytest.raises(UsageError, match="nobody's number is known"):
        published_for(results)
    other = PRINTED.model_copy(update={"source": "another paper"})
    results = results.model_copy(update={"published": [PRINTED, other]})
    with pytest.raises(UsageError, match=r"2 published numbers .* among before 0.45 \(a paper\)"):
        published_for(results)
    assert published_for(results, "another") == other
    with pytest.raises(UsageError, match="no published number matches 'nobody'"):
        published_for(results, "nobody")


def test_numbers_of_checkpoints_yaml_are_known(made: Made, kinds: dict[str, Any]) -> None:
    results = read_run(made(HARD, kind=kinds["tagged"], model="sd3.5-medium")).results
    found = published_for(results.model_copy(update={"suite": "ocr"}))
    assert (found.value, found.model) == (0.59, "sd3.5-medium")


def test_junit_counts_failures_and_survives_any_text(gated: Callable[..., Gate]) -> None:
    found = gated(np.where(np.arange(24) % 2, -0.05, 0.05)[:, None], each_tag=True)
    suite = ElementTree.fromstring(junit(found)).find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "1", "0")
    assert [case.get("name") for case in suite.findall("testcase") if case.find("failure") is not None] == ["tag 1"]
    again = ElementTree.fromstring(junit(dataclasses.replace(found, model="\x00\x1b]]><x a='\"'>\ud800")))
    named = again.find("testsuite/properties/property[@name='model']")
    assert named is not None and named.get("value") == "��]]><x a='\"'>�"


def test_markdown_starts_with_the_verdict_and_names_the_metric(gated: Callable[..., Gate]) -> None:
    text = markdown(gated(-0.05))
    assert text.startswith("### ❌ FAILED: after on tagged against before")
    assert "Brightness \\[share of white\\], drawn 1" in text and "one-sided" in text


def call(*words: str) -> int:
    """The exit code of the command line."""
    sys.argv = ["star-bench", *words]
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_the_exit_code_is_the_verdict(
    made: Made, kinds: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = made(HARD, kind=kinds["tagged"], tags=2)
    worse = made(shifted(-0.05), kind=kinds["tagged"], tags=2, model="worse")
    summary, xml = tmp_path / "gate.md", tmp_path / "gate.xml"
    assert call("gate", str(before), "--baseline", str(before)) == 0
    written = ("--junit", str(xml), "--summary", str(summary))
    capsys.readouterr()
    assert call("gate", str(worse), "--baseline", str(before), *written, "--json") == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["verdict"] == "failed"
    assert err.startswith("star-bench: FAILED: worse on tagged")
    assert summary.read_text().startswith("### ❌") and ElementTree.parse(xml)
    assert call("gate", str(worse), "--baseline", "published") == 2
    assert call("gate", str(tmp_path), "--baseline", str(before)) == 2
    unwritten = tmp_path / "unwritten.md"
    for margin in ("nan", "inf", "2", "-1"):
        said = ("--baseline", str(before), "--margin", margin, "--summary", str(unwritten), "--json")
        assert call("gate", str(worse), *said) == 2
    assert not unwritten.exists()


def failing_at(kind: Any, prompts: set[str]) -> Any:
    """The same evaluator, whose judge fails at these prompts."""

    def score(self: Any, images: Any, asked: Any) -> list[Score]:
        found = kind.score(self, images, asked)
        broken = Score(None, Status.ERROR, {"error": "the judge broke"})
        return [broken if prompt.id in prompts else each for prompt, each in zip(asked, found, strict=True)]

    return type("Tagged", (kind,), {"score": score})


def test_no_results_and_a_missing_score_never_pass(
    made: Made, kinds: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = made(HARD, kind=kinds["tagged"], tags=2)
    better = made(HARD + 0.1, kind=failing_at(kinds["tagged"], {"00003"}), tags=2, model="better")
    nothing = made(HARD, kind=failing_at(kinds["tagged"], {f"{i:05d}" for i in range(24)}), tags=2, model="nothing")
    xml = tmp_path / "gate.xml"
    assert call("gate", str(better), "--baseline", str(before), "--junit", str(xml)) == 3
    err = capsys.readouterr().err
    assert "INCOMPLETE" in err and "give the same 'star-bench run' again" in err
    assert "WAIVED" not in xml.read_text()
    assert ElementTree.parse(xml).getroot().get("errors") == "1"
    assert call("gate", str(better), "--baseline", str(before), "--allow", "completeness") == 0
    assert call("gate", str(nothing), "--baseline", str(before)) == 3
    (before / "results.json").unlink()
    assert call("gate", str(before), "--baseline", str(before)) == 3
    assert "has no results" in capsys.readouterr().err
