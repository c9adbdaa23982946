"""The alarm sounds when the reward rises and the panel falls, and at nothing else."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from star_bench.analysis.watch import Change, Paths, Verdict, Watch, corrected, watch
from star_bench.cli.main import main
from star_bench.errors import Refused, UsageError
from star_bench.statistics.bootstrap import PromptValues
from star_bench.statistics.margin import two_sided_p
from star_bench.statistics.paired import METHOD, changes, paired_difference

Made = Callable[..., Path]
PROMPTS = 20
HARD = np.random.default_rng(0).uniform(0.3, 0.6, (PROMPTS, 2))
"""Brightness before: prompts differ by more than any change below."""


def shifted(by: float) -> np.ndarray:
    """Each picture by about so much, so that a shift of .05 is clear and one of 0 is not."""
    return HARD + by + np.random.default_rng(1).uniform(-0.03, 0.03, HARD.shape)


@pytest.fixture
def runs(made: Made, kinds: dict[str, Any]) -> Callable[..., Paths]:
    """runs("panel", shift, ...): the directories before and after."""

    def make(kind: str, shift: float, *, tags: int = 1, contrast: float = 0.1) -> Paths:
        before = made(HARD, kind=kinds[kind], tags=tags)
        return before, made(shifted(shift), kind=kinds[kind], tags=tags, contrast=contrast, model="after")

    return make


def words(found: Watch) -> dict[str, str]:
    return {change.measure: change.word for change in found.panel}


def test_a_reward_that_rises_while_the_panel_falls_is_an_alarm(runs: Callable[..., Paths]) -> None:
    found = watch(runs("reward", 0.05), [runs("panel", -0.05)])
    assert found.verdict is Verdict.ALARM
    assert found.sentence == "ALARM: the reward rose and the panel fell (Glow)"
    assert found.reward.difference.value == pytest.approx(0.05, abs=0.01)
    assert words(found)["Glow"] == "fell" and words(found)["Contrast"] == "no change"


def test_a_description_that_moved_is_a_warning_whichever_way(runs: Callable[..., Paths]) -> None:
    for contrast in (0.05, 0.15):
        found = watch(runs("reward", 0.05), [runs("panel", 0.0, contrast=contrast)])
        assert found.verdict is Verdict.WARNING
        assert words(found)["Contrast"] == "moved" and "(Contrast" in found.sentence


def test_a_panel_that_keeps_up_is_no_alarm(runs: Callable[..., Paths], kinds: dict[str, Any], made: Made) -> None:
    before, after = made(HARD, kind=kinds["panel"]), made(HARD + 0.05, kind=kinds["panel"], model="after")
    found = watch(runs("reward", 0.05), [(before, after)])
    assert (found.verdict, words(found)["Glow"]) == (Verdict.CLEAR, "rose")


@pytest.mark.parametrize("shift", [0.0, -0.05])
def test_a_reward_that_did_not_rise_is_said(runs: Callable[..., Paths], shift: float) -> None:
    found = watch(runs("reward", shift), [runs("panel", -0.05)])
    assert found.verdict is Verdict.NO_RISE
    assert "the reward did not rise" in found.sentence and "the panel fell (Glow)" in found.sentence


def test_a_suite_that_measures_one_thing_is_a_panel_of_its_headline(runs: Callable[..., Paths]) -> None:
    found = watch(runs("reward", 0.05), [runs("tagged", -0.05, tags=2), runs("panel", 0.05)])
    assert [change.suite for change in found.panel] == ["tagged", "panel", "panel", "panel"]
    assert (found.verdict, found.panel[0].better, found.panel[0].word) == (Verdict.ALARM, "higher", "fell")


def test_a_mean_of_tags_stays_one(made: Made, kinds: dict[str, Any], runs: Callable[..., Paths]) -> None:
    """Tag 0 has twice the prompts of tag 1, and only tag 1 changes."""
    shift = np.where(np.arange(PROMPTS) % 3 == 1, 0.1, 0.0)[:, None] + np.zeros((1, 2))

    def two_tags(prompts: list[Any]) -> list[Any]:
        return [type(p)(p.id, p.text, "a" if p.tag == "tag 1" else "b") for p in prompts]

    pair = [
        made(values, kind=kinds["tagged"], tags=3, prompts=two_tags, model=model)
        for values, model in ((HARD, "before"), (HARD + shift, "after"))
    ]
    found = watch(runs("reward", 0.05), [(pair[0], pair[1])])
    assert found.panel[0].difference.value == pytest.approx(0.05, abs=0.005)


def test_no_interval_is_no_verdict(runs: Callable[..., Paths]) -> None:
    found = watch(runs("reward", 0.05), [runs("tagged", -0.05, tags=PROMPTS)])
    assert (found.verdict, found.panel[0].word) == (Verdict.UNDECIDED, "no interval")


def test_what_nothing_was_measured_of_decides_nothing(made: Made, kinds: dict[str, Any]) -> None:
    """One image per prompt has no spread."""

    def single(kind: str) -> Paths:
        before, after = HARD[:, :1], HARD[:, :1] + 0.05
        return made(before, kind=kinds[kind]), made(after, kind=kinds[kind], model="after")

    found = watch(single("reward"), [single("panel")])
    assert (found.verdict, words(found)["Spread"]) == (Verdict.CLEAR, "no value")


def test_models_must_be_the_same_on_each_side(runs: Callable[..., Paths], made: Made, kinds: dict[str, Any]) -> None:
    before, after = runs("panel", -0.05)
    with pytest.raises(Refused, match="both given as before, are of different models"):
        watch(runs("reward", 0.05), [(after, before)])
    other = made(HARD, kind=kinds["panel"], model="other")
    with pytest.raises(Refused, match="both given as after, are of different models"):
        watch(runs("reward", 0.05), [(before, other)])


def test_the_reward_is_no_panel(runs: Callable[..., Paths]) -> None:
    pair = runs("reward", 0.05)
    with pytest.raises(UsageError, match="is the reward itself"):
        watch(pair, [pair])


@pytest.mark.parametrize("damage", ["gone", "other"])
def test_values_that_do_not_make_the_result_are_refused(runs: Callable[..., Paths], damage: str) -> None:
    pair = runs("reward", 0.05)
    path = pair[1] / "values.jsonl"
    rows = path.read_text()
    path.unlink() if damage == "gone" else path.write_text(rows.replace('"mean": [0.', '"mean": [0.1'))
    with pytest.raises(Refused, match=r"values\.jsonl does not give the mean over images .*summarise it anew"):
        watch(pair, [runs("panel", 0.05)])


# How often it is wrong, and how often it finds a fall

MEASURES = 7


def simulated(rng: np.random.Generator, fall: float, margin: float = 0.0, prompts: int = 40) -> list[Change]:
    """A panel of independent measures, each prompt with four images before and after; the first falls by `fall`
    standard deviations of an image."""
    panel = []
    for number in range(MEASURES):
        hard = rng.normal(size=(prompts, 1))
        sides = [hard + rng.normal(size=(prompts, 4)) for _ in range(2)]
        sides[1] -= fall if number == 0 else 0.0
        before, after = ({str(i): PromptValues("", list(row)) for i, row in enumerate(side)} for side in sides)
        difference = paired_difference(before, after)
        p = two_sided_p(changes(before, after), margin=margin)
        name = str(number)
        panel.append(Change("panel", "s", "m", name, "u", "higher", 0.0, 0.0, difference, p, margin))
    return corrected(panel)


def test_of_panels_to_which_nothing_happened_one_in_twenty_falls_or_rises() -> None:
    """Seven measures without a correction: 30 %, of which half are falls."""
    rng = np.random.default_rng(11)
    trials = 300
    panels = [simulated(rng, 0.0) for _ in range(trials)]
    wrong = sum(any(change.word != "no change" for change in panel) for panel in panels)
    falls = sum(any(change.word == "fell" for change in panel) for panel in panels)
    error = 3 * (0.05 * 0.95 / trials) ** 0.5
    assert wrong / trials <= 0.05 + error and falls / trials <= 0.025 + error
    raw = sum(any(change.difference.high < 0 for change in panel if change.difference.high) for panel in panels)
    assert raw / trials > 0.1  # what the correction is for


def test_a_real_fall_is_found_and_one_within_its_margin_is_not() -> None:
    rng = np.random.default_rng(12)
    for margin, low, high in ((0.0, 0.9, 1.0), (0.5, 0.0, 0.05), (1.0, 0.0, 0.01)):
        found = [simulated(rng, 0.5, margin)[0].word for _ in range(60)]
        assert low <= found.count("fell") / len(found) <= high


# The command


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """command("--reward", ...) is `star-bench watch --reward ...`: its exit code, stdout and stderr."""
    monkeypatch.setenv("COLUMNS", "250")

    def call(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["star-bench", "watch", *map(str, words)])
        try:
            main()
            code = 0
        except SystemExit as done:
            code = int(str(done.code))
        return code, *capsys.readouterr()

    return call


Command = Callable[..., tuple[int, str, str]]


def test_an_alarm_is_exit_1_and_each_number_says_what_it_is(command: Command, runs: Callable[..., Paths]) -> None:
    reward, panel, other = runs("reward", 0.05), runs("panel", -0.05), runs("tagged", 0.0)
    code, out, _ = command("--reward", *reward, "--panel", *panel, "--panel", *other)
    assert code == 1
    shown = " ".join(out.split())
    for text in ("ALARM: the reward rose and the panel fell (Glow)", METHOD, "panel: Panel [share of white], drawn 1"):
        assert text in shown
    results = [path / "results.json" for path in (*reward, *panel)]
    code, out, _ = command("--reward", *results[:2], "--panel", *results[2:], "--json")
    assert code == 1
    found = json.loads(out)
    assert found["verdict"] == "alarm"
    for row in (found["reward"], *found["panel"]):
        assert row["metric"] and row["unit"] and row["interval"] == METHOD
        assert row["low"] <= row["difference"] <= row["high"]


def test_no_alarm_is_exit_0(command: Command, runs: Callable[..., Paths]) -> None:
    code, out, err = command("--reward", *runs("reward", 0.0), "--panel", *runs("panel", -0.05))
    assert (code, err) == (0, "")
    assert "the reward did not rise" in out


def test_a_margin_is_a_measures_own(command: Command, runs: Callable[..., Paths]) -> None:
    reward, panel = runs("reward", 0.05), runs("panel", -0.05)
    pairs = ("--reward", *reward, "--panel", *panel)
    code, out, _ = command(*pairs, "--margin", "Glow=0.2", "--margin", "Contrast=0.01", "--json")
    found = json.loads(out)
    assert (code, found["verdict"]) == (0, "clear")
    assert {row["measure"]: (row["margin"], row["change"]) for row in found["panel"]} == {
        "Glow": (0.2, "no change"),
        "Contrast": (0.01, "no change"),
        "Spread": (0.0, "no change"),
    }
    assert command(*pairs, "--margin", "Glow=0.01")[0] == 1
    for given, sentence in (
        ("0.1", "is no MEASURE=NUMBER"),
        ("Glow=much", "is no MEASURE=NUMBER"),
        ("Gloom=1", "no measure 'Gloom'"),
        ("Glow=nan", "a margin of nan"),
        ("Glow=inf", "a margin of inf"),
        ("Glow=-1", "a margin of -1"),
    ):
        code, _, err = command(*pairs, "--margin", given)
        assert code == 2 and sentence in err


def test_what_can_not_be_told_is_one_sentence(
    command: Command, tmp_path: Path, runs: Callable[..., Paths], made: Made, kinds: dict[str, Any]
) -> None:
    reward, panel = runs("reward", 0.05), runs("panel", -0.05)
    flat = made(HARD, kind=kinds["panel"], contrast=0.0, model="after")
    seeded = made(HARD, kind=kinds["panel"], seed=1, model="after")
    single = runs("tagged", -0.05, tags=PROMPTS)
    for words, expected, sentence in (
        (("--reward", *reward, "--panel", panel[0], flat), 3, "not all images have a score"),
        (("--reward", *reward, "--panel", *single), 3, "a tag has a single prompt"),
        (("--reward", *reward, "--panel", panel[0], seeded), 4, "differ in seed (0 in the first and 1 in the second)"),
        (("--reward", *reward, "--panel", panel[0]), 2, "names one run"),
        (("--reward", *reward, "--panel", *panel, "--panel", tmp_path), 2, "names one run"),
        (("--reward", *reward), 2, "--panel"),
        (("--reward", tmp_path, tmp_path, "--panel", *panel), 2, "no run directory"),
    ):
        code, _, err = command(*words)
        assert code == expected, err
        assert sentence in err and "Traceback" not in err
