"""A prompt's core words as columns of the attention that is captured."""

from __future__ import annotations

from typing import Any

import pytest

from star_bench.assets import model_files
from star_bench.catalogue import checkpoints, suites
from star_bench.evaluators.base import Prompt
from star_bench.generation.pipeline import load, load_tokenizers
from star_bench.runs.workers import make_evaluator
from star_bench.training.token_positions import TokenPositions
from star_bench.training.words import CoreTokens, Part


@pytest.fixture(scope="module")
def tokens() -> TokenPositions:
    pipe: Any = load(model_files.locate(checkpoints.resolve("miniature")), dtype="float32", device="cpu")
    return TokenPositions(pipe, 16)


@pytest.fixture(scope="module")
def car() -> Prompt:
    prompts = make_evaluator(suites.load("geneval-miniature"), "cpu").training_prompts()
    return next(p for p in prompts if p.tag == "color_attr")


@pytest.mark.parametrize("part", ["clip", "t5", "both"])
def test_columns_point_at_the_positions_of_their_word(tokens: TokenPositions, car: Prompt, part: Part) -> None:
    core = CoreTokens(tokens, part=part, every_token=False)
    positions, columns = core.positions([car])[0].tolist(), core.columns(car)
    located = core.locate(car)
    assert [tuple(positions[c] for c in word) for word in columns] == list(located.positions)
    assert len(located.words) == 4  # two colours, two classes


def test_prompts_of_one_batch_are_filled_up_with_no_position(tokens: TokenPositions, car: Prompt) -> None:
    core = CoreTokens(tokens, part="clip", every_token=False)
    short = Prompt("x", "a photo of a clock")
    table = core.positions([short, car])
    assert (table[0] >= 0).sum() < (table[1] >= 0).sum() == table.shape[1]
    assert sum(map(len, core.columns(short))) == (table[0] >= 0).sum()


def test_every_token_is_one_group_of_all_content(tokens: TokenPositions, car: Prompt) -> None:
    core = CoreTokens(tokens, part="both", every_token=True)
    content = tokens.content(car.text)
    assert core.positions([car])[0].tolist() == [*content.clip, *content.t5]


def test_where_no_core_word_is_read_all_tokens_stand_for_them(tokens: TokenPositions, car: Prompt) -> None:
    core = CoreTokens(tokens, part="clip", every_token=False)
    far = Prompt("far", "a of " * 30 + "kite")
    found = core.locate(far)
    assert (found.words, found.is_core) == (("every token",), False)
    assert found.positions == (tokens.content(far.text).clip,)
    assert core.locate(car).is_core


@pytest.mark.parametrize("every_token", [True, False])
def test_where_nothing_is_read_there_are_no_words(tokens: TokenPositions, every_token: bool) -> None:
    core = CoreTokens(tokens, part="both", every_token=every_token)
    nothing = Prompt("none", "")
    found = core.locate(nothing)
    assert (found.words, found.positions, found.is_core) == ((), (), False)
    assert core.positions([nothing]).tolist() == [[-1]]
    assert core.columns(nothing) == []


def test_tokenizers_alone_place_words_as_the_whole_pipeline_does(tokens: TokenPositions, car: Prompt) -> None:
    alone = TokenPositions(load_tokenizers(model_files.locate(checkpoints.resolve("miniature"))), 16)
    assert alone.content(car.text) == tokens.content(car.text)
