"""GenEval's detector sees what mmdet's own sees, and the comparison notices where it would not."""

import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from benchmarks.parity.attention_check import check_attention
from benchmarks.parity.detectors import (
    Parity,
    compare,
    look,
    pictures,
    worst,
    write_random,
)
from benchmarks.parity.mmcv_stand_in import StandIn, provide_operators
from benchmarks.parity.mmdet_detector import MmdetDetector
from star_bench.catalogue.shipped import MINIATURE_FOLDER, SUITES_FOLDER
from star_bench.errors import Refused, UsageError
from star_bench.evaluators.geneval.detection.architecture import OFFICIAL, Architecture
from star_bench.evaluators.geneval.detection.detector import TransformersDetector, resize_of
from star_bench.evaluators.geneval.detection.layout import pairs
from star_bench.evaluators.geneval.detection.preprocess import OFFICIAL_RESIZE, Preprocessing, Resize, prepare

pytest.importorskip("mmdet", reason="the extra star-bench[mmdet] is not installed")

SMALL = Architecture(
    patch_size=4,
    embed_dim=16,
    depths=(2, 2, 2, 2),
    heads=(1, 2, 4, 8),
    window=7,
    encoder_layers=2,
    encoder_ffn=64,
    decoder_layers=3,
    decoder_ffn=64,
    decoder_heads=4,
    width=64,
    mask_width=64,
    queries=20,
    classes=80,
)
SIZES = ((96, 96), (80, 128), (128, 100), (300, 90))
"""Enlarged and reduced, with and without padding on either side."""
PREPROCESSINGS = get_args(Preprocessing)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small")
    write_random(path, SMALL, Resize(short=128, long=213))
    return path


def parity(folder: Path, preprocessing: Preprocessing, images: list[np.ndarray]) -> Parity:
    ours = TransformersDetector(folder, preprocessing=preprocessing)
    theirs = MmdetDetector(folder, preprocessing=preprocessing)
    assert theirs.names == ours.names
    return worst([compare(look(ours, image), look(theirs, image)) for image in images])


@pytest.mark.parametrize("preprocessing", PREPROCESSINGS)
def test_both_see_the_same(folder: Path, preprocessing: Preprocessing) -> None:
    result = parity(folder, preprocessing, pictures(SIZES))
    assert not result.broken(), result


@pytest.mark.parametrize(("preprocessing", "limit"), [("mmdet-2.x", 0.0), ("mmdet-3.x", 1e-5)])
def test_both_networks_get_the_same_input(folder: Path, preprocessing: Preprocessing, limit: float) -> None:
    detector, inputs = MmdetDetector(folder, preprocessing=preprocessing), []
    detector.model.backbone.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    images = pictures(SIZES)
    detector.detect(images, [0.5] * len(images))
    for image, theirs in zip(images, inputs, strict=True):
        ours = prepare(torch.from_numpy(image)[None], resize_of(folder), preprocessing).pixels
        assert (ours - theirs).abs().max() <= limit


@pytest.mark.parametrize("preprocessing", PREPROCESSINGS)
def test_both_see_the_same_on_canaries_with_trained_weights(preprocessing: Preprocessing) -> None:
    images = {
        file.stem: np.asarray(Image.open(file).convert("RGB"))
        for file in (SUITES_FOLDER / "geneval-miniature").glob("canary-*.png")
    }
    result = parity(MINIATURE_FOLDER / "detector", preprocessing, list(images.values()))
    assert not result.broken(), result
    detector = MmdetDetector(MINIATURE_FOLDER / "detector", preprocessing=preprocessing)
    (cups,) = detector.detect([images["canary-three-cups"]], [0.9])
    assert [detector.names[label] for label in cups.labels] == ["cup"] * 3
    assert (np.diff(cups.scores) <= 0).all() and cups.masks.dtype == bool and cups.masks.shape == (3, 64, 64)


@pytest.mark.parity
@pytest.mark.timeout(900)
@pytest.mark.parametrize("preprocessing", PREPROCESSINGS)
def test_both_see_the_same_in_the_official_architecture(tmp_path: Path, preprocessing: Preprocessing) -> None:
    write_random(tmp_path, OFFICIAL, OFFICIAL_RESIZE)
    result = parity(tmp_path, preprocessing, pictures([(512, 512), (480, 640)]))
    assert not result.broken(), result


def test_the_preprocessings_are_told_apart(folder: Path) -> None:
    (image,) = pictures([(80, 128)])
    old, new = (look(MmdetDetector(folder, preprocessing=each), image) for each in PREPROCESSINGS)
    assert {"class_logits", "score"} <= set(compare(old, new).broken())


def test_colours_in_the_wrong_order_are_noticed(folder: Path) -> None:
    (image,) = pictures([(80, 128)])
    ours, theirs = look(TransformersDetector(folder), image), look(MmdetDetector(folder), image[..., ::-1])
    assert {"class_logits", "mask_logits", "score", "box"} <= set(compare(ours, theirs).broken())


def test_merged_patches_in_the_wrong_order_are_noticed(folder: Path) -> None:
    (image,) = pictures([(80, 128)])
    detector, tensors = MmdetDetector(folder), load_file(folder / "model.safetensors")
    merged = {pair.mmdet: tensors[pair.ours[0]] for pair in pairs(SMALL) if pair.merged}
    assert len(merged) == 9
    detector.model.load_state_dict(merged, strict=False)
    result = compare(look(TransformersDetector(folder), image), look(detector, image))
    assert result.class_logits > 1 and result.mask_logits > 1 and "score" in result.broken()


def test_thresholds_are_strict_and_each_picture_has_its_own(folder: Path) -> None:
    images = pictures([(96, 96), (80, 128)])
    detector = MmdetDetector(folder)
    everything = detector.detect(images, [-1.0, -1.0])
    assert [len(each.scores) for each in everything] == [100, 100]
    limits = [float(each.scores[count]) for each, count in zip(everything, (3, 5), strict=True)]
    assert [len(each.scores) for each in detector.detect(images, limits)] == [3, 5]


def test_it_says_nothing_on_stdout(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    MmdetDetector(folder, device="cpu", preprocessing="mmdet-2.x").detect(pictures([(64, 64)]), [0.5])
    assert capfd.readouterr().out == ""


def test_without_mmdet_it_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mmdet.apis", None)
    with pytest.raises(UsageError, match=r"install the extra star-bench\[mmdet\]"):
        MmdetDetector(folder)


def test_a_folder_without_tensors_is_refused(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(Refused, match="holds no Mask2Former that can be loaded"):
        MmdetDetector(tmp_path)


def test_a_compiled_operator_that_is_not_there_says_so_when_called() -> None:
    if not provide_operators():
        pytest.skip("this mmcv has its own operators")
    with pytest.raises(UsageError, match="mmcv's operator 'nms' was called"):
        StandIn("stand-in").nms(torch.zeros(0, 4))


@pytest.fixture
def attention() -> Any:
    provide_operators()
    from mmcv.ops import MultiScaleDeformableAttention

    return MultiScaleDeformableAttention


def test_deformable_attention_is_checked_before_it_is_used(attention: Any) -> None:
    check_attention(attention, "cpu")


def silent(self: Any, query: torch.Tensor, **_: Any) -> torch.Tensor:
    """A kernel that was not built for the card: nothing is computed, and nothing is said."""
    return torch.zeros_like(query)


def failing(self: Any, query: torch.Tensor, **_: Any) -> torch.Tensor:
    raise RuntimeError("no kernel image is available for execution on the device")


@pytest.mark.parametrize(("forward", "message"), [(silent, "off by .* on cpu"), (failing, "fails on cpu .no kernel")])
def test_an_operator_that_computes_nothing_is_refused(attention: Any, forward: Any, message: str) -> None:
    with pytest.raises(Refused, match=message):
        check_attention(type("Broken", (attention,), {"forward": forward}), "cpu")
