"""The cards that ship: complete, consistent, and explained when they are broken."""

from pathlib import Path

import pytest
import yaml

from star_bench.catalogue import checkpoints, plugins, suites
from star_bench.catalogue.cards import load_yaml, parse
from star_bench.errors import UsageError


@pytest.mark.parametrize("name", suites.names())
def test_every_card_loads_and_names_a_known_evaluator(name: str) -> None:
    card = suites.load(name)
    assert card.name == name
    assert card.evaluator in plugins.names(plugins.EVALUATORS)
    assert all(number.source for number in card.published)


@pytest.mark.parametrize("name", suites.names())
def test_every_card_says_where_the_licences_of_its_prompts_and_weights_are_stated(name: str) -> None:
    card = suites.load(name)
    assert card.judge_weights
    for stated in (card.prompts, *card.judge_weights, *([card.prompts.training] if card.prompts.training else [])):
        assert stated.licence_url


@pytest.mark.parametrize("name", suites.names())
def test_every_card_has_canaries(name: str) -> None:
    """Pictures that are right and pictures that are wrong: a judge that answers alike to all is found out."""
    card = suites.load(name)
    canaries = plugins.load(plugins.EVALUATORS, card.evaluator)(card).canaries()
    relative = [each for each in canaries if each.above]
    assert relative or len({(each.low, each.high) for each in canaries}) >= 2
    assert all(each.image.ndim == 3 for each in canaries)


@pytest.mark.parametrize(
    "canary", [{"low": 1, "high": 0}, {"above": "b", "by": 0}, {"above": "b", "by": -1}, {"low": 1}, {"above": "b"}]
)
def test_a_canary_that_no_judge_can_meet_or_fail_is_refused(canary: dict[str, object]) -> None:
    data = load_yaml(suites.SUITES_FOLDER / "pickscore" / "card.yaml")
    data["canaries"] = [{"image": "a.png", "prompt": "a", **canary}]
    with pytest.raises(UsageError, match="canaries"):
        parse(suites.SuiteCard, data, "card")


def test_a_licence_that_is_corrected_leaves_the_runs_of_a_suite_where_they_are() -> None:
    data = load_yaml(suites.SUITES_FOLDER / "pickscore" / "card.yaml")
    data["prompts"] |= {"commercial": False, "licence_url": "https://elsewhere"}
    data["judge_weights"] = []
    assert parse(suites.SuiteCard, data, "card").content == suites.load("pickscore").content


@pytest.mark.parametrize(("said", "means"), [("true", "yes"), ("no", "no"), ("unknown", "unknown")])
def test_commercial_use_is_yes_no_or_unknown(said: str, means: str) -> None:
    weights = parse(suites.JudgeWeights, {"name": "x", "commercial": yaml.safe_load(said)}, "card")
    assert weights.commercial == means
    with pytest.raises(UsageError, match="commercial"):
        parse(suites.JudgeWeights, {"name": "x", "commercial": "maybe"}, "card")


def test_published_numbers_agree_wherever_they_stand() -> None:
    """A checkpoint and a suite may both quote a number; they must quote the same."""
    quoted = 0
    for model, entry in checkpoints.entries().items():
        for result in entry.published:
            for number in suites.load(result.suite).published:
                if number.model == model and number.source == result.source:
                    assert (number.value, number.tags) == (result.value, result.tags), (model, result.suite)
                    quoted += 1
    assert quoted > 0


def test_unknown_suites_get_a_suggestion() -> None:
    with pytest.raises(UsageError, match="did you mean 'geneval-miniature'"):
        suites.load("geneval-minature")


def test_a_shipped_name_is_the_shipped_suite_whatever_lies_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`./geneval` is the folder, and a card in it is told to users by that name."""
    own = tmp_path / "geneval" / "card.yaml"
    own.parent.mkdir()
    own.write_text("{name: mine, title: t, summary: s, evaluator: ocr, licence: MIT, prompts: {path: p.txt}}")
    monkeypatch.chdir(tmp_path)
    assert suites.load("geneval").name == "geneval"
    for asked in ("./geneval", "geneval/card.yaml", str(own.parent)):
        assert suites.load(asked).name == "mine"
        assert suites.load(suites.load(asked).asked).name == "mine"
    assert suites.load("./geneval").asked == "./geneval"
