"""Masks as run lengths: nothing lost at small size, bounded at any, readable by COCO's own tools."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from star_bench.catalogue import suites
from star_bench.evaluators.base import Prompt
from star_bench.evaluators.geneval.evaluator import GenEval
from star_bench.evaluators.geneval.mask import MASK_SIDE, decode, encode
from star_bench.miniature.scenes import WORLDS, random_scene

SMALL = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=40))


def whole(mask: np.ndarray) -> np.ndarray:
    return np.array([0, 0, mask.shape[1], mask.shape[0]], np.float32)


@given(SMALL)
def test_a_small_mask_comes_back_as_it_was(mask: np.ndarray) -> None:
    stored = encode(mask, whole(mask))
    assert stored is not None
    assert np.array_equal(decode(stored), mask)


@given(SMALL)
@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # of its own making
def test_cocos_tools_read_it(mask: np.ndarray) -> None:
    coco = pytest.importorskip("pycocotools.mask")
    assert np.array_equal(coco.decode(encode(mask, whole(mask))).astype(bool), mask)


@given(SMALL, st.lists(st.integers(-3, 45), min_size=4, max_size=4))
def test_only_what_is_in_the_box_is_kept(mask: np.ndarray, box: list[int]) -> None:
    x1, y1, x2, y2 = (max(edge, 0) for edge in box)
    stored = encode(mask, np.array(box, np.float32))
    assert np.array_equal(decode(stored), mask[y1:y2, x1:x2]) if stored else not mask[y1:y2, x1:x2].size


def test_a_large_mask_keeps_its_shape_in_few_characters() -> None:
    y, x = np.mgrid[:1024, :1024]
    disc = (x - 512) ** 2 + (y - 512) ** 2 < 500**2
    stored = encode(disc, whole(disc))
    assert stored is not None
    assert stored["size"] == [MASK_SIDE, MASK_SIDE] and len(stored["counts"]) < 400
    assert abs(decode(stored).mean() - disc.mean()) < 0.01


@pytest.mark.parametrize(
    "broken",
    [
        None,
        "1",
        {"size": [2, 2]},
        {"size": [2, 2], "counts": "4é"},
        {"size": [2, 2], "counts": "5"},
        {"size": [2, 2], "counts": "3"},
        {"size": [2, 2], "counts": ""},
        {"size": [2, 2], "counts": "P"},
        {"size": [2, 2], "counts": "5O"},
        {"size": [2, 2], "counts": "4 "},
        {"size": [0, 4], "counts": ""},
        {"size": [10**9, 10**9], "counts": "0"},
        {"size": [2, 2], "counts": "oooooooooooo"},
    ],
)
def test_what_is_no_mask_is_said(broken: Any) -> None:
    with pytest.raises(ValueError, match=r"\bmasks?\b"):
        decode(broken)


def test_a_score_holds_masks_and_votes_that_fit_its_boxes_and_colours() -> None:
    rng = np.random.default_rng(3)
    scenes = [random_scene(WORLDS["small"], rng, "color_attr") for _ in range(3)]
    prompts = [Prompt(str(i), scene.caption, "color_attr", scene.metadata) for i, scene in enumerate(scenes)]
    scores = GenEval(suites.load("geneval-miniature")).score([scene.image for scene in scenes], prompts)
    seen = [each for score in scores for each in score.detail["detections"]]
    judged = [each for each in seen if "color" in each]
    assert len(seen) >= 6 and judged
    for each in seen:
        x1, y1, x2, y2 = map(int, each["box"])
        grid = decode(each["mask"])
        assert grid.shape == (y2 - y1, x2 - x1)
        # The box is the mask's own, so each of its edges is touched.
        assert grid[0].any() and grid[-1].any() and grid[:, 0].any() and grid[:, -1].any()
        assert ("votes" in each) == ("color" in each)
    for each in judged:
        shares = list(each["votes"].values())
        assert next(iter(each["votes"])) == each["color"]
        assert shares == sorted(shares, reverse=True) and 0.99 < sum(shares) < 1.01
