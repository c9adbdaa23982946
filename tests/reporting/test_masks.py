"""Allocation maps: the overlap's numbers are exact where they can be known, pictures and page are whole and inert."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from star_bench.reporting.masks.picture import CELL, INFERNO, draw
from star_bench.reporting.masks.sheet import MaskRow, MaskSheet, Overlap, overlap
from star_bench.reporting.masks.write import write_masks

HOSTILE = '../"><script>alert(1)</script>'


def sheet(
    maps: dict[str, np.ndarray], truths: list[np.ndarray | None], *, side: int = 64, prompt: str = "a red car"
) -> MaskSheet:
    """A rollout per truth, all with the same maps over a picture of noise."""
    picture = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    steps = np.linspace(1, 0.1, len(maps["combined"])).tolist()
    return MaskSheet(prompt, steps, [MaskRow(picture, maps, truth) for truth in truths], {"block": "9"})


def box(side: int = 64) -> np.ndarray:
    """A truth of an eighth of the picture, in its upper left corner."""
    truth = np.zeros((side, side), bool)
    truth[: side // 4, : side // 2] = True
    return truth


def mean_one(weights: np.ndarray) -> np.ndarray:
    return (weights / weights.mean((-2, -1), keepdims=True)).astype(np.float32)


def maps_of(steps: int = 3, size: int = 16) -> np.ndarray:
    return mean_one(np.random.default_rng(1).random((steps, size, size)) + 0.1)


some_truth = arrays(bool, (8, 8)).filter(lambda truth: truth.any())


def measured(weights: np.ndarray, truth: np.ndarray) -> Overlap:
    found = overlap(sheet({"combined": weights[None].astype(np.float32)}, [truth], side=8))
    assert found is not None
    return found


@given(some_truth)
def test_a_map_equal_to_the_truth_meets_it_whole(truth: np.ndarray) -> None:
    found = measured(truth / truth.mean(), truth)
    assert (found.iou, found.pointing) == ((1.0,), (1.0,))


@given(some_truth, st.sampled_from([(8, 8), (4, 4), (3, 5)]))
def test_a_constant_map_is_chance_whatever_its_size(truth: np.ndarray, size: tuple[int, int]) -> None:
    found = measured(np.ones(size), truth)
    assert found.iou[0] == pytest.approx(found.iou_chance)
    assert found.pointing[0] == pytest.approx(found.pointing_chance) == truth.mean()


@given(some_truth, arrays(np.float32, (8, 8), elements=st.floats(0, 4, width=32)))
def test_both_are_shares_and_only_the_order_of_weights_counts(truth: np.ndarray, weights: np.ndarray) -> None:
    found, doubled = measured(weights, truth), measured(2 * weights, truth)
    assert 0 <= found.iou[0] <= 1
    assert 0 <= found.pointing[0] <= 1
    assert (found.iou, found.pointing) == (doubled.iou, doubled.pointing)


def test_random_maps_have_the_chance_levels_on_average() -> None:
    maps = np.random.default_rng(2).random((400, 64, 64)).astype(np.float32)
    found = overlap(sheet({"combined": maps}, [box()]))
    assert found is not None
    assert found.iou_chance == pytest.approx((1 / 8) / (2 - 1 / 8))
    assert np.mean(found.iou) == pytest.approx(found.iou_chance, rel=0.02)
    assert np.mean(found.pointing) == pytest.approx(found.pointing_chance, abs=0.05)


def test_a_latent_map_is_brought_to_the_pictures_size() -> None:
    found = overlap(sheet({"combined": mean_one(box(8)[None] * 1.0)}, [box(64)]))
    assert found is not None
    assert found.pointing == (1.0,)
    assert found.iou[0] > 0.9


def test_rollouts_without_a_truth_do_not_count() -> None:
    maps = {"combined": maps_of()}
    found = overlap(sheet(maps, [box(), None, np.zeros((64, 64), bool)]))
    assert found is not None
    assert found.rollouts == 1
    assert found == overlap(sheet(maps, [box()]))
    assert overlap(sheet(maps, [None])) is None


@pytest.mark.parametrize(
    ("iou", "step"),
    [((0.5, 0.5), 0), ((0.1, 0.5, 0.5), 1), ((0.5, 0.1, 0.5), 2), ((0.5, 0.2), None), ((0.1,), None)],
)
def test_the_step_from_which_the_overlap_is_clear(iou: tuple[float, ...], step: int | None) -> None:
    assert Overlap("combined", iou, iou, 0.1, 0.2, 1).clear_from == step


@pytest.mark.parametrize("side", [64, 128, 512])
def test_cells_have_a_readable_size_and_small_pictures_stay_sharp(side: int) -> None:
    drawn = draw(sheet({"combined": maps_of()}, [box(side), None], side=side))
    assert drawn.dtype == np.uint8
    picture = sheet({"combined": maps_of()}, [None], side=side).rows[0].picture
    if side <= CELL:
        shown = picture.repeat(CELL // side, 0).repeat(CELL // side, 1)
        windows = np.lib.stride_tricks.sliding_window_view(drawn[..., 0], shown.shape[:2])
        assert (windows[::1, :150] == shown[..., 0]).all((-2, -1)).any()
    assert 4 * 128 < drawn.shape[1] < 4 * 160 + 400
    assert 2 * 128 < drawn.shape[0] < 2 * 160 + 100


def test_all_pictures_of_a_sheet_share_one_scale() -> None:
    """A word of twice the weights pales the others: the same weight has the same colour in all of them."""
    flat, high = np.ones((1, 4, 4), np.float32), np.full((1, 4, 4), 8, np.float32)
    alone, beside = sheet({"combined": flat}, [None]), sheet({"combined": flat, "car": high}, [None])
    assert (alone.top, beside.top) == (2, 8)
    assert not np.array_equal(draw(alone), draw(beside))
    light = [draw(beside, name)[60:150, 250:350].mean() for name in ("combined", "car")]
    assert light[0] < light[1]


def test_the_colours_grow_lighter_from_end_to_end() -> None:
    lightness = np.array(INFERNO) @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(lightness) > 0).all()


def one(picture: np.ndarray | None = None, truth: np.ndarray | None = None, **maps: np.ndarray) -> MaskRow:
    return MaskRow(np.zeros((8, 8, 3), np.uint8) if picture is None else picture, maps, truth)


GOOD = np.ones((1, 2, 2), np.float32)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (list, "at least one rollout"),
        (lambda: [one(red=GOOD)], "a map named 'combined'"),
        (lambda: [one(combined=GOOD), one(combined=GOOD, red=GOOD)], "differ in the names"),
        (lambda: [one(combined=np.ones((2, 2, 2)))], "where there are 1 steps"),
        (lambda: [one(combined=-GOOD)], "negative"),
        (lambda: [one(combined=GOOD * np.nan)], "no number"),
        (lambda: [one(combined=GOOD, truth=np.ones((4, 4), bool))], "of its picture's size"),
        (lambda: [one(combined=GOOD, picture=np.zeros((8, 8, 3)))], "not uint8"),
        (lambda: [one(combined=GOOD), one(combined=GOOD, picture=np.zeros((4, 8, 3), np.uint8))], "their pictures"),
    ],
)
def test_sheets_that_do_not_fit_together_are_refused(rows: Callable[[], list[MaskRow]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MaskSheet("a prompt", [1.0], rows())


def test_the_folder_holds_the_pictures_the_numbers_and_the_raw_maps(tmp_path: Path) -> None:
    maps = {"combined": maps_of(), "red": maps_of(), "Grand café!": maps_of(size=8)}
    index = write_masks([sheet(maps, [box(), box()]), sheet({"combined": maps_of()}, [None])], tmp_path / "out")
    names = {path.relative_to(index.parent).as_posix() for path in index.parent.rglob("*") if path.is_file()}
    pictures = {"000-00-combined", "000-01-red", "000-02-grand-caf", "001-00-combined"}
    assert names == {f"images/{name}.png" for name in pictures} | {"index.html", "masks.json", "masks.npz"}
    first, second = json.loads((index.parent / "masks.json").read_text())["prompts"]
    assert first["words"] == ["red", "Grand café!"]
    assert first["settings"] == {"block": "9"}
    assert first["maps"][0]["overlap"]["clear_from"] is None
    assert len(first["maps"][0]["overlap"]["iou"]) == len(first["steps"]) == 3
    assert second["maps"][0]["overlap"] is None
    with np.load(index.parent / "masks.npz") as raw:
        assert set(raw.files) == pictures
        for entry in first["maps"]:
            assert raw[entry["array"]].dtype == np.float32
            assert np.array_equal(raw[entry["array"]], np.stack([maps[entry["name"]]] * 2))
    with PIL.Image.open(index.parent / first["maps"][0]["picture"]) as image:
        assert f'width="{image.width}" height="{image.height}"' in index.read_text()


def test_writing_again_gives_the_same_bytes(tmp_path: Path) -> None:
    made = [write_masks([sheet({"combined": maps_of()}, [box()])], tmp_path / name).parent for name in ("a", "b")]
    for name in ("masks.json", "masks.npz", "index.html", "images/000-00-combined.png"):
        assert (made[0] / name).read_bytes() == (made[1] / name).read_bytes()


def test_the_page_shows_the_combined_map_first_and_folds_the_words(tmp_path: Path) -> None:
    html = write_masks([sheet({"red": maps_of(), "combined": maps_of()}, [box()])], tmp_path).read_text()
    assert html.index("000-00-combined.png") < html.index("<details>") < html.index("000-01-red.png")
    assert html.count("by chance</th>") == 2
    assert html.count('<path class="line c0 mean" d="M') == 4  # two charts, and the key below each


def test_hostile_words_and_prompts_stay_text_and_the_policy_is_strict(tmp_path: Path) -> None:
    maps = {"combined": maps_of(), HOSTILE: maps_of()}
    html = write_masks([sheet(maps, [box()], prompt=HOSTILE)], tmp_path / "out").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"out"}
    assert "<script" not in html
    assert not re.search(r'\s(on\w+|style)="', html)
    assert "http" not in re.sub(r'http-equiv|"http://www.w3.org[^"]*"', "", html)
    (css,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    assert f"style-src &#39;sha256-{digest}&#39;; script-src &#39;none&#39;" in html
    assert "url(" not in css


def test_maps_never_import_torch() -> None:
    code = "import sys, star_bench.reporting.masks.write; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
