"""Two or more runs beside each other: which are meant, what may be compared, and what the numbers say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from star_bench.analysis.compare import Comparison
from star_bench.analysis.runs import SuiteComparison, compare_paths
from star_bench.errors import Incomplete, Refused, UsageError
from star_bench.evaluators.base import Metric, Score
from star_bench.reporting.comparison.tables import as_data, flips_frame, tidy_frame, to_report
from star_bench.reporting.comparison.words import flips_line, moved, p_text, sentence
from star_bench.statistics.multiple import holm

Made = Callable[..., Path]
DARK, LIGHT = 0.2, 0.8


@pytest.fixture
def verdicts(kinds: dict[str, Any]) -> Any:
    """An evaluator of right and wrong: a picture passes when it is light."""

    class Light(kinds["reward"]):  # type: ignore[misc]
        def score(self, images: Any, prompts: Any) -> list[Score]:
            return [Score(float(image.mean() > 127), detail={"reason": f"mean {image.mean():.0f}"}) for image in images]

    return Light


def right(*rows: tuple[int, ...]) -> np.ndarray:
    """(prompts, images) brightness of pictures that are right (1) or wrong (0)."""
    return np.where(np.array(rows) == 1, LIGHT, DARK)


def one(*paths: Path, allow: tuple[str, ...] = ()) -> Comparison:
    (suite,) = compare_paths(paths, allow)
    (comparison,) = suite.comparisons
    return comparison


def said(found: SuiteComparison) -> str:
    return sentence(found.comparisons[0], found.names[0], found.names[1])


def test_flips_in_both_directions(made: Made, verdicts: Any) -> None:
    before = made(right((0, 1), (1, 1), (0, 0)), kind=verdicts)
    after = made(right((1, 1), (1, 0), (1, 1)), kind=verdicts, model="after")
    found = one(before, after)
    assert found.binary and not found.identical
    assert found.headline.difference.value == pytest.approx(2 / 6)
    assert found.headline.before == pytest.approx(3 / 6) and found.headline.after == pytest.approx(5 / 6)
    assert found.counts == {"better": 3, "worse": 1, "unchanged": 2}
    assert flips_line(found) == "3 images better, 1 worse, 2 unchanged"
    flips = [(pair.before.prompt.id, pair.before.k, pair.change) for pair in found.flips]
    assert flips == [("00001", 1, -1), ("00000", 0, 1), ("00002", 0, 1), ("00002", 1, 1)]
    assert found.headline.p_mcnemar is not None


def test_scores_have_no_test_of_right_and_wrong(made: Made) -> None:
    rng = np.random.default_rng(0)
    found = one(made(rng.uniform(0.2, 0.8, (8, 2))), made(rng.uniform(0.2, 0.8, (8, 2)), model="after"))
    assert not found.binary and found.headline.p_mcnemar is None and found.headline.p is not None


def test_words_say_better_and_worse_with_the_interval(made: Made) -> None:
    rng = np.random.default_rng(0)
    base = rng.uniform(0.3, 0.6, (12, 2))
    up = base + rng.uniform(0.1, 0.2, (12, 2))
    (found,) = compare_paths([made(base), made(up, model="after")])
    low, high = (found.comparisons[0].headline.difference.low, found.comparisons[0].headline.difference.high)
    value = found.comparisons[0].headline.difference.value
    assert said(found) == f"after is better than before by {value:.4f} ({low:.4f} to {high:.4f})"
    (found,) = compare_paths([made(up, model="after"), made(base)])
    assert said(found) == f"before is worse than after by {value:.4f} ({low:.4f} to {high:.4f})"


def test_no_difference_is_never_called_equal(made: Made) -> None:
    rng = np.random.default_rng(0)
    base = rng.uniform(0.3, 0.6, (12, 2))
    other = base + np.repeat([[0.1, 0.1], [-0.1, -0.1]], 6, axis=0)
    (found,) = compare_paths([made(base), made(other, model="after")])
    words = said(found)
    assert words.startswith("No difference shown between after and before: ") and " to +" in words
    assert not any(word in words for word in ("equal", "same"))


def test_the_same_pictures_are_told(made: Made) -> None:
    values = np.random.default_rng(0).uniform(0.3, 0.6, (4, 2))
    (found,) = compare_paths([made(values), made(values, model="after")])
    assert said(found) == "after made the same pictures as before, byte for byte"
    assert found.comparisons[0].counts == {"better": 0, "worse": 0, "unchanged": 8}


def test_a_single_prompt_shows_nothing(made: Made) -> None:
    (found,) = compare_paths([made(np.full((1, 2), 0.3)), made(np.full((1, 2), 0.6), model="after")])
    assert said(found).startswith("Nothing is shown: the difference is +0.3000") and "single prompt" in said(found)


def test_a_description_is_not_better_for_being_higher(made: Made, kinds: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    values = rng.uniform(0.4, 0.6, (10, 2))
    found = one(
        made(values, kind=kinds["panel"], contrast=0.1),
        made(values + 0.05, kind=kinds["panel"], contrast=0.2, model="after"),
    )
    words = {row.name: moved(found, row) for row in found.rows if row.kind == "aggregate"}
    assert words["Glow"] == "better" and words["Contrast"] == "higher" and words["Spread"] in ("", "higher", "lower")


def test_tags_are_corrected_over_all_tags_of_all_models(made: Made) -> None:
    rng = np.random.default_rng(0)
    runs = [made(rng.uniform(0.2, 0.8, (12, 2)), model=name, tags=3) for name in ("before", "b", "c")]
    (suite,) = compare_paths(runs)
    assert suite.names == ("before", "b", "c") and len(suite.comparisons) == 2
    rows = {(i, row.name): row for i, each in enumerate(suite.comparisons) for row in each.rows if row.kind == "tag"}
    assert len(rows) == 6
    p_values = {str(key): row.p for key, row in rows.items() if row.p is not None}
    assert {str(key): row.p_holm for key, row in rows.items()} == holm(p_values)


def test_a_tag_moves_only_with_its_corrected_p(made: Made) -> None:
    base = np.tile(np.linspace(0.3, 0.5, 16)[:, None], 2)
    other = base.copy()
    other[::4] += np.array([0.02, 0.03, 0.04, 0.05])[:, None]  # one tag of four: 4 prompts allow a p of 1/8 at best
    found = one(made(base, tags=4), made(other, tags=4, model="after"))
    row = next(row for row in found.rows if row.name == "tag 0")
    assert row.difference.low is not None and row.difference.low > 0
    assert row.p_holm is not None and row.p_holm > 0.05 and moved(found, row) == ""


def test_a_refusal_says_what_could_be_allowed(made: Made) -> None:
    first, second = made(np.full((4, 2), 0.5)), made(np.full((4, 2), 0.5), model="after", steps=3, seed=1)
    with pytest.raises(Refused) as refused:
        one(first, second)
    words = str(refused.value)
    assert "they differ in steps (14 in the first and 3 in the second)" in words
    assert "or compare them all the same with --allow steps --allow seed." in words


def test_what_is_allowed_stands_first_among_the_notices(made: Made) -> None:
    values = np.random.default_rng(0).uniform(0.3, 0.6, (4, 2))
    metric = Metric("Brightness", "drawn", "2", "share of white", (0.0, 1.0), "MIT", "")
    first, second = made(values), made(values, model="after", steps=3, metric=metric)
    with pytest.raises(Refused, match="--allow version"):
        one(first, second, allow=("steps",))
    found = one(first, second, allow=("steps", "metric"))
    assert [notice.split(":")[0] for notice in found.notices[:2]] == ["WAIVED (metric)", "WAIVED (protocol)"]
    (suite,) = compare_paths([first, second], ("protocol", "metric"))
    assert "WAIVED" in to_report([suite]) and "WAIVED" in tidy_frame([suite])["notices"][0]
    assert {each["field"] for each in as_data([suite])[0]["waived"]} == {"version", "steps"}
    assert "drawn 1" in to_report([suite]) and "drawn 2" in to_report([suite])


def test_a_subset_is_compared_over_the_shared_prompts_when_allowed(made: Made) -> None:
    values = np.random.default_rng(0).uniform(0.3, 0.6, (6, 2))
    first, second = made(values), made(values[:4] + 0.1, model="after")
    with pytest.raises(Refused, match="--allow prompts"):
        one(first, second)
    found = one(first, second, allow=("prompts",))
    assert found.headline.difference.n_prompts == 4 and len(found.pairs) == 8
    assert found.headline.before == pytest.approx(values[:4].mean(), abs=0.01)


# Which runs are meant


def suites_of(folder: Path) -> list[Path]:
    """runs/<model> of every model."""
    return sorted(folder.iterdir())


def test_models_are_compared_suite_by_suite(made: Made, kinds: dict[str, Any], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for model, suites in {"a": ("reward", "panel"), "b": ("reward", "panel", "tagged")}.items():
        for suite in suites:
            made(rng.uniform(0.3, 0.7, (4, 2)), kind=kinds[suite], model=model)
    found = compare_paths(suites_of(tmp_path / "runs"))
    assert [each.results.suite for each in found] == ["brightness", "panel"]
    assert all(each.names == ("a", "b") for each in found)


def test_of_a_models_runs_the_one_that_fits_is_taken(made: Made, tmp_path: Path) -> None:
    values = np.random.default_rng(0).uniform(0.3, 0.7, (4, 2))
    made(values, model="a", steps=20)
    for steps in (14, 20, 28):
        made(values, model="b", steps=steps)
    (found,) = compare_paths(suites_of(tmp_path / "runs"))
    assert [run.results.protocol["steps"] for run in found.runs if run.results.protocol] == [20, 20]


def test_several_that_fit_are_named_and_not_chosen_from(made: Made, tmp_path: Path) -> None:
    values = np.random.default_rng(0).uniform(0.3, 0.7, (4, 2))
    folders = [made(values, model=model, steps=steps) for model in ("a", "b") for steps in (14, 20)]
    with pytest.raises(UsageError, match="several combinations") as several:
        compare_paths(suites_of(tmp_path / "runs"))
    assert all(str(folder) in str(several.value) for folder in folders)
    (found,) = compare_paths([folders[0], tmp_path / "runs" / "b"])  # a run beside a model's folder
    assert [run.folder for run in found.runs] == [folders[0], folders[2]]


def test_where_none_fits_the_nearest_are_told(made: Made, tmp_path: Path) -> None:
    values = np.random.default_rng(0).uniform(0.3, 0.7, (4, 2))
    made(values, model="a", steps=20)
    for steps in (14, 28):
        made(values, model="b", steps=steps, seed=steps)
    with pytest.raises(UsageError, match=r"no combination .*they differ in steps \(20 .*and 1 more"):
        compare_paths(suites_of(tmp_path / "runs"))


def test_runs_of_one_model_are_told_apart(made: Made) -> None:
    values = np.random.default_rng(0).uniform(0.3, 0.7, (4, 2))
    runs = [made(values, model="a", steps=14), made(values, model="a", steps=20), made(values, model="b", steps=20)]
    (found,) = compare_paths(runs, ("steps",))
    assert found.names == ("a (steps 14)", "a (steps 20)", "b")


def test_paths_that_mean_no_runs(made: Made, kinds: dict[str, Any], tmp_path: Path) -> None:
    first, other = made(np.full((4, 2), 0.5)), made(np.full((4, 2), 0.5), kind=kinds["panel"], model="after")
    with pytest.raises(UsageError, match="nothing to compare"):
        compare_paths([first])
    with pytest.raises(UsageError, match="there is no run"):
        compare_paths([first, tmp_path / "nowhere"])
    with pytest.raises(UsageError, match="neither a run's directory nor a folder"):
        compare_paths([first, tmp_path / "runs" / "before" / "pictures"])
    with pytest.raises(UsageError, match=r"no suite is common .*brightness.*panel"):
        compare_paths([first, other])
    with pytest.raises(UsageError, match="named twice"):
        compare_paths([first, first / "results.json"])
    (other / "results.json").unlink()
    with pytest.raises(Incomplete, match="has no results"):
        compare_paths([first, other])


def test_tables_keep_every_digit_and_every_flip(made: Made, verdicts: Any) -> None:
    before = made(right((0, 1), (1, 1), (0, 0)), kind=verdicts, tags=3)
    after = made(right((1, 1), (1, 0), (1, 1)), kind=verdicts, tags=3, model="<b>|after")
    found = compare_paths([before, after])
    frame = tidy_frame(found)
    assert list(frame["kind"]) == ["aggregate", "tag", "tag", "tag"]
    assert frame["difference"][0] == pytest.approx(1 / 3, abs=1e-12)
    assert set(frame["metric"]) == {"Metric: " + found[0].results.metric.identity}
    flips = flips_frame(found)
    assert list(flips["change"]) == [-1, 1, 1, 1] and list(flips["prompt_id"]) == ["00001", "00000", "00002", "00002"]
    assert json.loads(json.dumps(as_data(found), allow_nan=False))[0]["images"] == found[0].comparisons[0].counts
    assert "<b>" not in to_report(found) and r"\|after" in to_report(found)


def test_a_small_p_is_no_zero() -> None:
    assert (p_text(None), p_text(0.00004), p_text(0.00006), p_text(1.0)) == ("–", "<0.0001", "0.0001", "1.0000")
