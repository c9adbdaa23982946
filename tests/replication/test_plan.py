"""Plans: the shipped ones say what the rest of the package says, and a mistake in one is named with its row."""

from __future__ import annotations

import copy
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from star_bench.catalogue import checkpoints
from star_bench.errors import UsageError
from star_bench.replication.plan import PLANS, choose, load

PLAN: dict[str, Any] = {
    "name": "mine",
    "title": "Mine",
    "protocols": {"A": {"steps": 40, "guidance_scale": 4.5, "size": 512, "samples": 4}},
    "suites": {"geneval": {"metric": "GenEval", "unit": "share of images judged right", "widest_window": 0.05}},
    "rows": [
        {
            "id": "base",
            "model": "SD3.5-M",
            "checkpoint": "sd3.5-medium",
            "suite": "geneval",
            "measure": "overall",
            "published": "0.63",
            "source": "a paper",
            "protocol": "A",
        }
    ],
}


def written(folder: Path, change: Any = None, **row: Any) -> str:
    """PLAN with its row changed, or anything by `change`, as a file."""
    plan = copy.deepcopy(PLAN)
    plan["rows"][0] |= row
    if change is not None:
        change(plan)
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump(plan))
    return str(path)


@pytest.mark.parametrize("name", PLANS)
def test_shipped_plans_load(name: str) -> None:
    assert load(name).name == name


@pytest.mark.parametrize("name", PLANS)
def test_the_wheel_carries_the_plan_where_it_is_looked_for(name: str) -> None:
    root = Path(__file__).parents[2]
    wheel = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    inside = wheel["force-include"][PLANS[name].relative_to(root).as_posix()]
    assert inside == f"star_bench/data/{PLANS[name].name}"


def test_the_paper_plan_has_every_number_that_checkpoints_yaml_has() -> None:
    plan = load("paper")
    there = {(row.checkpoint, row.suite, row.value) for row in plan.rows}
    for name, entry in checkpoints.entries().items():
        for number in entry.published:
            if entry.base == "sd3.5-medium" or name == "sd3.5-medium":
                assert (name, number.suite, number.value) in there, f"{name} on {number.suite}: {number.value}"


def test_a_printed_number_keeps_its_decimals(tmp_path: Path) -> None:
    (row,) = load(written(tmp_path, published="23.60")).rows
    assert (row.published, row.value) == ("23.60", 23.6)
    assert row.rounding == pytest.approx(0.005)
    (row,) = load(written(tmp_path, published="24")).rows
    assert row.rounding == pytest.approx(0.5)


def twice(plan: dict[str, Any]) -> None:
    plan["rows"] *= 2


def no_suites(plan: dict[str, Any]) -> None:
    plan["suites"] = {"ocr": plan["suites"]["geneval"]}


@pytest.mark.parametrize(
    ("row", "change", "said"),
    [
        ({"publishd": "0.63"}, None, "unknown key"),
        ({"published": 0.63}, None, "in quotes"),
        ({"checkpoint": "sd3.5-medum"}, None, "did you mean 'sd3.5-medium'"),
        ({"suite": "genevall"}, None, "genevall"),
        ({"protocol": "B"}, None, "no protocol named 'B'"),
        ({"same_noise": True}, None, "same_noise needs the seed"),
        ({"sensitivity": {"steps": [4, 4]}}, None, "twice"),
        ({"sensitivity": {}}, None, "at least one of"),
        ({}, twice, "'base' is the id of two rows"),
        ({}, no_suites, "nothing says what suite 'geneval' is judged by"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, row: dict[str, Any], change: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        load(written(tmp_path, change, **row))


def test_what_is_not_stated_withholds_a_verdict_but_for_the_seed(tmp_path: Path) -> None:
    plan = load(written(tmp_path))
    assert plan.unstated(plan.rows[0]) is None
    assert plan.protocols["A"].words == "512 px, 40 steps, guidance 4.5, 4 per prompt, seed not stated"

    def forget(plan: dict[str, Any]) -> None:
        plan["protocols"]["A"]["steps"] = "not stated"

    plan = load(written(tmp_path, forget, measure="not stated"))
    assert plan.unstated(plan.rows[0]) == "steps, measure not stated"


def test_rows_are_chosen_by_id() -> None:
    plan = load("miniature")
    assert [row.id for row in choose(plan, ["ocr", "geneval"], sensitivity=False)] == ["geneval", "ocr"]
    with pytest.raises(UsageError, match="did you mean 'ocr'"):
        choose(plan, ["ocrr"], sensitivity=False)
    with pytest.raises(UsageError, match="sensitivity grid"):
        choose(plan, ["ocr"], sensitivity=True)
