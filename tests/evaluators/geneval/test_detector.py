"""The official pre- and post-processing, on a random Mask2Former and on made-up queries."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from star_bench.catalogue.shipped import MINIATURE_FOLDER
from star_bench.evaluators.geneval.color import crop
from star_bench.evaluators.geneval.detection.detector import TransformersDetector
from star_bench.evaluators.geneval.detection.postprocess import Detections, postprocess
from star_bench.evaluators.geneval.detection.preprocess import Resize, prepare


def test_official_sizes() -> None:
    assert Resize().target(512, 512) == (800, 800)
    assert Resize().target(480, 640) == (800, 1067)
    assert Resize().target(300, 1200) == (333, 1333)


def test_padding_is_grey_before_normalising() -> None:
    ready = prepare(torch.zeros(1, 30, 50, 3, dtype=torch.uint8), None)
    assert ready.padded == (32, 64) and ready.filled == (30, 50)
    assert ready.pixels[0, 0, 31, 0] == pytest.approx((128 - 123.675) / 58.395, abs=1e-5)
    assert ready.pixels[0, 2, 0, 0] == pytest.approx(-103.53 / 57.375, abs=1e-5)


def square(x1: int, y1: int, x2: int, y2: int) -> torch.Tensor:
    """(16, 16) mask logits at a quarter of 64 px, sure of one rectangle."""
    mask = torch.full((16, 16), -20.0)
    mask[y1 // 4 : y2 // 4, x1 // 4 : x2 // 4] = 20.0
    return mask


def found(classes: torch.Tensor, masks: torch.Tensor, threshold: float) -> Detections:
    size = (64, 64)
    one = {"padded": size, "filled": size, "original": size, "thresholds": [threshold]}
    return postprocess(classes[None], masks[None], **one)[0]


def test_score_label_and_tight_box() -> None:
    classes = torch.tensor([[8.0, 0.0, 0.0], [0.0, 0.0, 9.0]])
    result = found(classes, torch.stack([square(16, 8, 32, 24), square(0, 0, 64, 64)]), 0.3)
    assert result.labels.tolist() == [0]
    assert result.scores[0] == pytest.approx(float(classes[0].softmax(-1)[0]), abs=1e-2)
    assert np.abs(result.boxes[0] - [16, 8, 32, 24]).max() <= 2
    ys, xs = np.nonzero(result.masks[0])
    assert result.boxes[0].tolist() == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]


def test_the_threshold_is_strict() -> None:
    classes, masks = torch.tensor([[3.0, 0.0, 0.0]]), square(0, 0, 64, 64)[None]
    score = float(found(classes, masks, 0.0).scores[0])
    assert len(found(classes, masks, score).scores) == 0
    assert len(found(classes, masks, float(np.nextafter(np.float32(score), np.float32(0)))).scores) == 1


@given(st.integers(0, 2**31), st.floats(0.05, 0.9))
def test_pruning_before_the_masks_loses_nothing(seed: int, threshold: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    classes = 4 * torch.randn(6, 4, generator=generator)
    masks = 5 * torch.randn(6, 16, 16, generator=generator)
    large = torch.nn.functional.interpolate(masks[None], (64, 64), mode="bilinear")
    assume(large.abs().min() > 1e-5)  # on which side of 0 a logit lies is else for rounding to say
    everything, pruned = found(classes, masks, 0.0), found(classes, masks, threshold)
    kept = everything.scores > threshold
    assert np.allclose(everything.scores[kept], pruned.scores, atol=1e-6)
    assert np.array_equal(everything.boxes[kept], pruned.boxes)
    assert (np.diff(pruned.scores) <= 0).all()


def test_batches_of_mixed_sizes_give_what_single_pictures_give() -> None:
    detector = TransformersDetector(MINIATURE_FOLDER / "detector")
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, shape, np.uint8) for shape in ((64, 64, 3), (48, 80, 3), (64, 64, 3))]
    together = detector.detect(pictures, [0.01, 0.02, 0.03])
    for picture, threshold, result in zip(pictures, (0.01, 0.02, 0.03), together, strict=True):
        (alone,) = detector.detect([picture], [threshold])
        assert alone.labels.tolist() == result.labels.tolist()
        assert np.allclose(alone.scores, result.scores, atol=1e-4)
        assert result.masks.shape[1:] == picture.shape[:2]


def test_a_crop_is_the_object_on_grey() -> None:
    picture = np.full((20, 20, 3), 9, np.uint8)
    mask = np.zeros((20, 20), bool)
    mask[5:10, 4:8] = True
    mask[5, 4] = False
    cut = np.asarray(crop(picture, np.array([4, 5, 8, 10.0]), mask))
    assert cut.shape == (5, 4, 3)
    assert (cut[0, 0] == 153).all() and (cut[1:] == 9).all()
