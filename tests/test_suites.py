"""The cards that ship: complete, consistent, and explained when they are broken."""

import pytest

from star_bench import checkpoints, plugins, suites
from star_bench.errors import UsageError


@pytest.mark.parametrize("name", suites.names())
def test_every_card_loads_and_names_a_known_evaluator(name: str) -> None:
    card = suites.load(name)
    assert card.name == name
    assert card.evaluator in plugins.names(plugins.EVALUATORS)
    assert all(number.source for number in card.published)


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
