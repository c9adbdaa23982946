"""Training curves: numbers that can be worked out by hand, honest means, and a page for one run or twelve."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from star_bench.errors import UsageError
from star_bench.reporting.chart import Axis, Chart, Line
from star_bench.reporting.curves import gain, mean_over_seeds, read_training, write_curves

OVERALL = "eval/geneval-miniature/overall"
Make = Callable[..., Path]


def training(folder: Path, recipe: str, seed: int, rows: list[dict[str, Any]], tail: str = "") -> Path:
    """A training run's folder; tail: what the file holds after its last whole line."""
    folder.mkdir(parents=True)
    (folder / "card.json").write_text(json.dumps({"recipe": recipe, "seed": seed, "learning_rate": 3e-4}))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + tail)
    return folder


def rows_of(seed: int, epochs: int = 3) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for epoch in range(epochs):
        rows.append({"epoch": epoch, OVERALL: 0.4 + 0.1 * epoch + 0.01 * seed * epoch})
        rows.append({"epoch": epoch, "reward/mean": 0.5, "kl": 1e-5 * epoch, "clip_fraction": 0.1, "loss": None})
    return rows


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def run(recipe: str = "star", seed: int = 0, rows: list[dict[str, Any]] | None = None, tail: str = "") -> Path:
        return training(tmp_path / f"{recipe[:8]}-{seed}", recipe, seed, rows_of(seed) if rows is None else rows, tail)

    return run


def test_a_run_is_read_whole_and_a_torn_last_line_left_out(make: Make) -> None:
    run = read_training(make(seed=3, tail='{"epoch": 3, "kl": 0.'))
    assert (run.recipe, run.seed, run.last_epoch) == ("star", 3, 2)
    assert run.metrics["kl"] == {0: 0.0, 1: 1e-5, 2: 2e-5}
    assert run.metrics["loss"] == {0: None, 1: None, 2: None}


@pytest.mark.parametrize(
    "line", ['{"epoch": 1, "kl": 0.', "", "[1]", '{"kl": 1.0}', '{"epoch": 1, "kl": "low"}', '{"epoch": 1, "kl": NaN}']
)
def test_a_broken_line_is_refused_by_number(make: Make, line: str) -> None:
    folder = make()
    first, *rest = (folder / "metrics.jsonl").read_text().splitlines()
    (folder / "metrics.jsonl").write_text("\n".join([first, line, *rest]) + "\n")
    with pytest.raises(UsageError, match=r"line 2 of .*metrics\.jsonl is broken"):
        read_training(folder)


def test_a_metric_twice_in_one_epoch_is_refused(make: Make) -> None:
    with pytest.raises(UsageError, match=r"line 2 of .* has kl of epoch 4 for the second time"):
        read_training(make(rows=[{"epoch": 4, "kl": 1.0}, {"epoch": 4, "kl": 1.0}]))


def test_what_is_no_training_run_is_refused(make: Make, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no finished training run"):
        read_training(tmp_path)
    with pytest.raises(UsageError, match="holds no number yet"):
        read_training(make(rows=[]))
    card = make(seed=1) / "card.json"
    card.write_text('{"recipe": "star"}')
    with pytest.raises(UsageError, match=r"card\.json is broken \(seed: it is missing"):
        read_training(card.parent)
    with pytest.raises(UsageError, match="no training run to draw"):
        write_curves([], tmp_path)


def test_the_same_seed_twice_is_refused(make: Make, tmp_path: Path) -> None:
    folder = make()
    with pytest.raises(UsageError, match="are both seed 0 of star"):
        write_curves([folder, folder], tmp_path / "page")


def test_a_recipe_that_was_changed_is_another(make: Make, tmp_path: Path) -> None:
    lora = {"lora": {"rank": 32}, "optimiser": {"learning_rate": 0.001, "epsilon": 1e-8}, "save_every": 10}
    whole = {"lora": None, "optimiser": {"learning_rate": 0.0001, "epsilon": 1e-8}, "save_every": 5}
    folders = []
    for name, seed, settings in (("a", 0, lora), ("b", 1, lora | {"save_every": 5, "seed": 1}), ("c", 0, whole)):
        folders.append(training(tmp_path / name, "star", seed, rows_of(seed)))
        (folders[-1] / "card.json").write_text(json.dumps({"recipe": "star", "seed": seed, "settings": settings}))
    write_curves(folders, tmp_path / "page")
    gains = json.loads((tmp_path / "page" / "curves.json").read_text())["gains"]
    assert {entry["recipe"]: entry["seeds"] for entry in gains} == {
        'star (lora={"rank": 32}, optimiser.learning_rate=0.001)': [0, 1],
        "star (lora=null, optimiser.learning_rate=0.0001)": [0],
    }


@pytest.mark.parametrize(
    ("second", "recipes"),
    [
        (
            {"rollout": {"batch_size": 32, "steps": 4}, "compute": {"cached_prompts": 9, "precision": "float32"}},
            ["star"],
        ),
        (
            {"rollout": {"batch_size": 8, "steps": 4}, "compute": {"cached_prompts": 9, "precision": "bfloat16"}},
            ['star (compute.precision="bfloat16")', 'star (compute.precision="float32")'],
        ),
        (
            {"rollout": {"batch_size": 8, "steps": 5}, "compute": {"cached_prompts": 9, "precision": "float32"}},
            ["star (rollout.steps=4)", "star (rollout.steps=5)"],
        ),
    ],
)
def test_what_changes_no_mathematics_makes_no_other_recipe(
    tmp_path: Path, second: dict[str, Any], recipes: list[str]
) -> None:
    first = {"rollout": {"batch_size": 8, "steps": 4}, "compute": {"cached_prompts": 5, "precision": "float32"}}
    folders = []
    for seed, settings in enumerate((first, second)):
        folders.append(training(tmp_path / str(seed), "star", seed, rows_of(seed)))
        (folders[-1] / "card.json").write_text(json.dumps({"recipe": "star", "seed": seed, "settings": settings}))
    write_curves(folders, tmp_path / "page")
    gains = json.loads((tmp_path / "page" / "curves.json").read_text())["gains"]
    assert sorted({entry["recipe"] for entry in gains}) == recipes
    page = (tmp_path / "page" / "index.html").read_text()
    assert "float32" in page  # every run's precision stands on the page


def test_means_stand_only_where_every_seed_does() -> None:
    assert mean_over_seeds([{0: 1.0, 1: 2.0, 2: 5.0}, {0: 3.0, 1: None}]) == {0: 2.0, 1: None}


def test_gains_have_the_t_interval_over_seeds(make: Make) -> None:
    """Gains 0.2, 0.22 and 0.24: mean 0.22, standard error 0.02 / sqrt(3), and t(2) = 4.302653 at 97.5 %."""
    found = gain(OVERALL, [read_training(make(seed=seed)) for seed in range(3)])
    assert found.epochs == (0, 2)
    assert (found.first, found.last) == pytest.approx((0.4, 0.62))
    assert found.gains == pytest.approx((0.2, 0.22, 0.24))
    half = 4.302653 * 0.02 / 3**0.5
    assert (found.low, found.high) == pytest.approx((0.22 - half, 0.22 + half))


def test_a_single_seed_has_no_interval_and_a_single_epoch_no_gain(make: Make) -> None:
    alone = gain(OVERALL, [read_training(make())])
    assert (alone.gain, alone.low, alone.high) == (pytest.approx(0.2), None, None)
    once = gain(OVERALL, [read_training(make(seed=1, rows=rows_of(1, epochs=1)))])
    assert (once.epochs, once.gain) == (None, None)


def test_a_seed_that_ended_early_ends_the_mean_and_the_gain(make: Make, tmp_path: Path) -> None:
    folders = [make(), make(seed=1, rows=rows_of(1, epochs=2))]
    data = json.loads((write_curves(folders, tmp_path / "page").parent / "curves.json").read_text())
    assert data["means"]["star"][OVERALL]["epochs"] == [0, 1]
    (entry,) = data["gains"]
    assert (entry["epochs"], entry["seeds"]) == ([0, 1], [0, 1])
    assert [run["metrics"][OVERALL]["epochs"] for run in data["runs"]] == [[0, 1, 2], [0, 1]]


@pytest.mark.parametrize(("recipes", "seeds"), [(1, 1), (3, 4), (12, 1)])
def test_a_page_for_one_run_or_twelve(make: Make, tmp_path: Path, recipes: int, seeds: int) -> None:
    folders = [make(f"recipe{r}", seed) for r in range(recipes) for seed in range(seeds)]
    index = write_curves(folders, tmp_path / "page")
    assert {path.name for path in index.parent.iterdir()} == {"index.html", "curves.json"}
    html = index.read_text()
    charts = re.findall(r'<figure class="plot">.*?</figure>', html, re.DOTALL)
    assert len(charts) == 5
    for chart in charts:
        assert chart.count('mean" d="') == recipes
        assert chart.count('seed" d="') == (recipes * seeds if seeds > 1 else 0)
    assert html.count('<th scope="row"') == recipes + recipes * seeds
    headings = [
        "Evaluation",
        "Reward",
        "How far updates go",
        "Everything else (1)",
        "What training gained",
    ]
    assert sorted(headings, key=lambda heading: html.index(f">{heading}<")) == headings
    assert "mean of 4 seeds" in html if seeds == 4 else "1 seed" in html
    assert ("again" in re.sub(r"<style>.*</style>", "", html, flags=re.DOTALL)) == (recipes > 8)


def test_runs_without_evaluations_have_charts_and_no_table(make: Make, tmp_path: Path) -> None:
    html = write_curves([make(rows=[{"epoch": 7, "reward/mean": 0.5}])], tmp_path / "page").read_text()
    assert "No run holds an evaluation" in html
    assert re.search(r'd="M[\d.]+ [\d.]+h0"', html)  # a single epoch is a dot


def test_hostile_names_stay_text(make: Make, tmp_path: Path) -> None:
    hostile = '"><script>alert(1)</script>'
    rows = [{"epoch": 0, f"eval/{hostile}": 0.1, hostile: 1}, {"epoch": 1, f"eval/{hostile}": 0.2}]
    folder = training(tmp_path / "run", hostile, 0, rows)
    html = write_curves([folder], tmp_path / "page").read_text()
    assert "<script" not in html
    assert "script-src &#39;none&#39;" in html
    assert not re.search(r'\s(on\w+|style)="', html)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1), st.booleans())
@example([0.0, 6.8e-290], True)
@example([0.0, 5e-324], False)
def test_every_value_lies_on_its_axis_and_ticks_tell_apart(values: list[float], whole: bool) -> None:
    axis = Axis.over(values, 0, 100, ticks=5, whole=whole).widened()
    assert all(-1e-6 <= axis.at(value) <= 100 + 1e-6 for value in values)
    texts = [text for _, text in axis.ticks]
    assert len(set(texts)) == len(texts)
    assert 1 <= len(texts) <= 8


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([0, 1], ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        ([0, 1.2e-4], ["0", "5e−5", "1.0e−4", "1.5e−4"]),
        ([-200, 700], ["−200", "0", "200", "400", "600", "800"]),
        ([1, 1], ["0.90", "0.95", "1.00", "1.05", "1.10"]),
    ],
)
def test_ticks_read_well(values: list[float], texts: list[str]) -> None:
    assert [text for _, text in Axis.over(values, 0, 1, ticks=5).widened().ticks] == texts


def test_a_long_line_is_thinned_to_what_can_be_seen_and_keeps_its_peaks() -> None:
    points = [(float(k), 0.0) for k in range(20_000)]
    points[12_345] = (12_345.0, 1.0)
    chart = Chart("kl", "", "epoch", [Line("one", points, "c0 mean")], "")
    path = chart.path(chart.lines[0])
    assert path.count("L") < 1000
    assert f" {chart.top:.1f}" in path


def test_gaps_break_a_line() -> None:
    chart = Chart("kl", "", "epoch", [Line("one", [(0, 1.0), (1, 2.0), (2, None), (3, 1.0)], "")], "")
    assert [part.count("L") for part in chart.path(chart.lines[0]).split("M")[1:]] == [1, 0]


def test_curves_never_import_torch() -> None:
    code = "import sys, star_bench.reporting.curves; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
