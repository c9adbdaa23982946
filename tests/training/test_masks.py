"""Maps of the miniature, as training would make them: normalised, named by words, and gone without a trace."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import JointAttnProcessor2_0

from star_bench.catalogue import suites
from star_bench.catalogue.protocol import GenerationSettings
from star_bench.errors import UsageError
from star_bench.evaluators.base import Evaluator
from star_bench.evaluators.geneval.evaluator import GenEval
from star_bench.evaluators.ocr.evaluator import Ocr
from star_bench.reporting.masks.sheet import MaskSheet, overlap
from star_bench.training.attention import AttentionCapture
from star_bench.training.masks import Loaded, Shown, check_kind, find_prompts, load_policy, mask_sheets
from star_bench.training.recipe import AllocationSettings, RolloutSettings
from star_bench.training.rollout import Rollout, Schedule, roll_out, schedule_of
from star_bench.training.sde import sigmas
from star_bench.training.velocity import Conditioning

STEPS = 4
SETTINGS: dict[str, Any] = {"prompts": 1, "group_size": 2, "batch_size": 1, "steps": STEPS}
FREE = "a green banana beside a clock"


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    return load_policy("miniature", GenerationSettings(steps=STEPS, guidance_scale=4.0), device="cpu")


@pytest.fixture(scope="module")
def judges() -> list[Evaluator]:
    return [Ocr(suites.load("ocr-miniature")), GenEval(suites.load("geneval-miniature"))]


@pytest.fixture(scope="module")
def known(judges: list[Evaluator]) -> Shown:
    """The first test prompt that names two colours."""
    text = next(prompt.text for prompt in judges[1].prompts() if prompt.tag == "color_attr")
    return find_prompts([text], judges)[0]


def schedule(loaded: Loaded, **changes: Any) -> Schedule:
    return schedule_of(RolloutSettings(**SETTINGS | changes), sigmas(loaded.sampler.pipe.scheduler, STEPS))


def sheets(loaded: Loaded, shown: Shown, *, kind: Any = "star", window: int | None = None, **more: Any) -> MaskSheet:
    allocation = AllocationSettings(kind=kind, blocks=(0, 4), tokens="clip")
    (sheet,) = mask_sheets(
        loaded.policy,
        loaded.sampler,
        [shown],
        allocation=allocation,
        schedule=schedule(loaded, window=window),
        rollouts=2,
        seed=3,
        **more,
    )
    return sheet


def test_prompts_are_those_of_the_suites_or_free(judges: list[Evaluator]) -> None:
    trained, sign = judges[1].training_prompts()[0], judges[0].prompts()[0]
    found = find_prompts([FREE, trained.text, sign.text], judges)
    assert [one.prompt.metadata for one in found] == [{}, trained.metadata, sign.metadata]
    assert [one.judge for one in found] == [None, judges[1], None]  # OCR reads words and looks for no places


@pytest.mark.parametrize("kind", ["star", "shuffled", "time-averaged"])
def test_every_word_has_a_map_with_mean_one(loaded: Loaded, known: Shown, kind: str) -> None:
    sheet = sheets(loaded, known, kind=kind)
    include = known.prompt.metadata["include"]
    words = [part for clause in include for part in (clause["color"], clause["class"])]
    assert sheet.names == ["combined", *words]
    assert sheet.settings["core words"] == ", ".join(words)
    assert len(sheet.steps) == STEPS
    for row in sheet.rows:
        assert row.truth is not None
        assert row.picture.shape == (64, 64, 3)
        for weights in row.maps.values():
            assert weights.shape == (STEPS, 16, 16)
            np.testing.assert_allclose(weights.mean((1, 2)), 1, atol=1e-5)
            assert weights.std() > 0.01


def test_a_free_prompt_has_no_truth(loaded: Loaded) -> None:
    sheet = sheets(loaded, *find_prompts([FREE], []))
    assert sheet.names == ["combined", "green", "banana", "clock"]
    assert sheet.settings["truth"] == "not known"
    assert overlap(sheet) is None


def test_a_word_that_is_called_combined_keeps_its_map(loaded: Loaded) -> None:
    assert sheets(loaded, *find_prompts(["combined cups"], [])).names == ["combined", '"combined"', "cups"]


def test_maps_without_words_are_combined_alone(loaded: Loaded, known: Shown) -> None:
    assert sheets(loaded, known, kind="all-tokens").names == ["combined"]
    oracle = sheets(loaded, known, kind="oracle")
    assert oracle.names == ["combined"]
    found = overlap(oracle)
    assert found is not None
    assert min(found.iou) > 0.5


def test_rollouts_are_the_trainings_own(loaded: Loaded, known: Shown) -> None:
    """Recording all steps puts noise into none that has none in training, and the same seed gives the same map."""
    window = schedule(loaded, window=2, window_from=0.25)
    assert window.trained == range(1, 3)
    allocation = AllocationSettings(kind="star", blocks=(0, 4), tokens="clip")
    (sheet,) = mask_sheets(
        loaded.policy, loaded.sampler, [known], allocation=allocation, schedule=window, rollouts=2, seed=3
    )
    alone = roll_out(
        loaded.policy,
        window,
        Conditioning.of(loaded.sampler.encode([known.prompt.text] * 2)),
        [Rollout(known.prompt, 0, k) for k in range(2)],
        loaded.sampler.latent_shape,
        seed=3,
    )
    for row, image in zip(sheet.rows, loaded.sampler.decode(alone.final), strict=True):
        assert image is not None
        np.testing.assert_array_equal(row.picture, np.rint(image * 255))


def test_the_transformer_is_left_as_it_was(loaded: Loaded, known: Shown) -> None:
    blocks = loaded.policy.transformer.transformer_blocks
    before = [block.attn.processor for block in blocks]
    sheet = sheets(loaded, known)
    assert all(block.attn.processor is processor for block, processor in zip(blocks, before, strict=True))
    capture = AttentionCapture(loaded.policy.transformer, (0, 4))
    again = sheets(loaded, known, capture=capture)
    assert type(blocks[0].attn.processor) is not JointAttnProcessor2_0  # a trainer's own capture stays
    capture.remove()
    for one, other in zip(sheet.rows, again.rows, strict=True):
        np.testing.assert_array_equal(one.maps["combined"], other.maps["combined"])


def test_capture_is_removed_after_a_failure(loaded: Loaded, known: Shown) -> None:
    broken = Shown(known.prompt, Ocr(suites.load("ocr-miniature")))  # whose `regions` raises
    with pytest.raises(UsageError, match="no regions"):
        sheets(loaded, broken)
    for block in loaded.policy.transformer.transformer_blocks:
        assert type(block.attn.processor) is JointAttnProcessor2_0


def test_what_can_not_be_drawn_is_said(loaded: Loaded) -> None:
    with pytest.raises(UsageError, match="1 everywhere"):
        check_kind(AllocationSettings(kind="uniform"))
    with pytest.raises(UsageError, match="no judge here"):
        sheets(loaded, *find_prompts([FREE], []), kind="oracle")


def test_nothing_is_differentiated(loaded: Loaded, known: Shown) -> None:
    """The trainer calls it between updates."""
    with torch.enable_grad():
        sheets(loaded, known)
    assert all(p.grad is None for p in loaded.policy.transformer.parameters())
