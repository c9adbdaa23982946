"""Do GenEval's two detectors see the same? Their logits, and what they make of them, on the same pictures.

Random weights will do: both must compute the same function, whatever it is. They are drawn so that logits range over
tens and queries, masks and boxes differ, else anything would agree with anything.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

from benchmarks.parity.mmdet_detector import MmdetDetector
from star_bench.evaluators.geneval.detection.architecture import Architecture, swin_config, transformers_config
from star_bench.evaluators.geneval.detection.detector import PREPROCESSING_FILE, TransformersDetector
from star_bench.evaluators.geneval.detection.postprocess import EVERYTHING, TOP, Detections
from star_bench.evaluators.geneval.detection.preprocess import Resize


@dataclass(frozen=True)
class Seen:
    """What a detector makes of one picture, on the CPU: class_logits (Q, C + 1), mask_logits (Q, h, w), all detections.

    hidden: for each decoder layer (Q, pixels) bool, the pixels that a query's attention leaves out.
    """

    class_logits: Tensor
    mask_logits: Tensor
    hidden: list[Tensor]
    detections: Detections

    @property
    def top(self) -> set[int]:
        """The (query, class) pairs that become detections, as query * C + class."""
        probabilities = self.class_logits.softmax(-1)[:, :-1].flatten()
        return set(probabilities.topk(min(TOP, len(probabilities))).indices.tolist())


def look(detector: TransformersDetector | MmdetDetector, image: np.ndarray) -> Seen:
    """One forward. image (H, W, 3) uint8 RGB."""
    logits: list[Tensor] = []
    hidden: list[Tensor] = []

    def of_mmdet(_: Any, __: Any, output: Any) -> None:
        logits.extend(every_layer[-1] for every_layer in output)

    def of_transformers(_: Any, __: Any, output: Any) -> None:
        logits.extend((output.class_queries_logits, output.masks_queries_logits))

    def of_attention(_: Any, __: Any, given: dict[str, Any]) -> None:
        hidden.append(given["attn_mask"][0].bool().cpu())  # the same for each head

    if isinstance(detector, MmdetDetector):
        head = detector.model.panoptic_head
        layers, hooks = head.transformer_decoder.layers, [head.register_forward_hook(of_mmdet)]
    else:
        layers = detector.model.model.transformer_module.decoder.layers
        hooks = [detector.model.register_forward_hook(of_transformers)]
    hooks += [layer.cross_attn.register_forward_pre_hook(of_attention, with_kwargs=True) for layer in layers]
    try:
        (detections,) = detector.detect([image], [EVERYTHING])
    finally:
        for hook in hooks:
            hook.remove()
    classes, masks = (each[0].float().cpu() for each in logits)
    return Seen(classes, masks, hidden, detections)


@dataclass(frozen=True)
class Parity:
    """How far two detectors are apart, on one picture or at worst on several. All differences are absolute.

    Mask2Former's attention leaves out the pixels whose mask logit is negative. Where rounding alone decides a sign, the
    two may decide differently, and that query's logits differ more: such queries are counted and told apart.
    """

    class_logits: float
    mask_logits: float
    """Largest differences among the queries that attended to the same pixels in every layer."""
    flipped: float
    """Share of the other queries."""
    flipped_logits: float
    """Largest difference of their logits."""
    pairs: int
    """(query, class) pairs that are among the best 100 of one detector only."""
    detections: int
    """Detections that one detector has more of in their class than the other."""
    score: float
    box: float
    """Largest differences of detections of one class, each with its nearest; boxes in px."""

    def broken(self) -> list[str]:
        """The figures that are beyond TOLERANCE."""
        return [field.name for field in fields(self) if not getattr(self, field.name) <= getattr(TOLERANCE, field.name)]


TOLERANCE = Parity(
    class_logits=2e-4,  # of logits that range over tens, summed in another order
    mask_logits=2e-4,
    flipped=0.1,
    flipped_logits=math.inf,  # a pixel more or less among few is much: what it does to detections is bounded below
    pairs=0,
    detections=0,
    score=1e-3,
    box=1.0,
)
"""Chosen here."""


def compare(a: Seen, b: Seen) -> Parity:
    """Of one picture."""
    score, box, lonely = 0.0, 0.0, 0
    for label in {*a.detections.labels.tolist(), *b.detections.labels.tolist()}:
        scores, boxes = _differences(a.detections, b.detections, label)
        # One px weighs as much as a thousandth of score: their tolerances.
        nearest = linear_sum_assignment(boxes + 1000 * scores)
        score, box = max([score, *scores[nearest]]), max([box, *boxes[nearest]])
        lonely += abs(scores.shape[0] - scores.shape[1])
    alike = torch.stack([(x == y).all(1) for x, y in zip(a.hidden, b.hidden, strict=True)]).all(0)
    classes = (a.class_logits - b.class_logits).abs().amax(1)
    masks = (a.mask_logits - b.mask_logits).abs().amax((1, 2))
    return Parity(
        class_logits=_largest(classes[alike]),
        mask_logits=_largest(masks[alike]),
        flipped=1 - float(alike.float().mean()),
        flipped_logits=_largest(torch.maximum(classes, masks)[~alike]),
        pairs=len(a.top ^ b.top),
        detections=lonely,
        score=float(score),
        box=float(box),
    )


def _largest(values: Tensor) -> float:
    return float(values.max()) if len(values) else 0.0


def _differences(a: Detections, b: Detections, label: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, M) absolute differences of a class's scores, and of its boxes at their worst corner."""
    mine, yours = a.labels == label, b.labels == label
    scores = np.abs(a.scores[mine, None] - b.scores[None, yours])
    return scores, np.abs(a.boxes[mine, None] - b.boxes[None, yours]).max(-1)


def worst(results: Sequence[Parity]) -> Parity:
    return Parity(**{field.name: max(getattr(each, field.name) for each in results) for field in fields(Parity)})


def pictures(sizes: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    """Of each (height, width) one picture (H, W, 3) uint8: coloured rectangles under fine noise."""
    rng = np.random.default_rng(0)
    out = []
    for height, width in sizes:
        image = np.full((height, width, 3), rng.integers(0, 256, 3), np.float64)
        for _ in range(12):
            top, left = rng.integers(0, height), rng.integers(0, width)
            image[top : top + height // 3, left : left + width // 3] = rng.integers(0, 256, 3)
        image += rng.normal(0, 12, image.shape)
        out.append(image.clip(0, 255).astype(np.uint8))
    return out


def write_random(folder: Path, architecture: Architecture, resize: Resize | None) -> None:
    """A weights folder with random weights. Its patches must be of 4 px, which transformers' default strides fit."""
    names = tuple(f"class {i}" for i in range(architecture.classes))
    config = Mask2FormerConfig(
        backbone_config=SwinConfig(**swin_config(architecture)), **transformers_config(architecture, names)
    )
    model = Mask2FormerForUniversalSegmentation(config)
    generator = torch.Generator().manual_seed(0)
    for name, tensor in model.named_parameters():
        mean, deviation = _drawn_from(name, tensor)
        tensor.data = mean + deviation * torch.randn(tensor.shape, generator=generator)
    model.save_pretrained(folder)
    (folder / PREPROCESSING_FILE).write_text(json.dumps({"resize": vars(resize) if resize else None}))


def _drawn_from(name: str, tensor: Tensor) -> tuple[float, float]:
    """Mean and standard deviation of a parameter. What flows through the network stays of size 1, up to the logits."""

    def one_of(*ends: str) -> bool:
        return name.endswith(ends)

    if one_of("sampling_offsets.bias"):
        return 0.0, 2.0  # px of each level
    if one_of("level_embed", "level_embed.weight", "embedder.weight", "features.weight", "position_bias_table"):
        return 0.0, 1.0
    if tensor.dim() > 1:
        gain = 1.0
        if one_of("class_predictor.weight"):
            gain = 6.0  # logits shall range over tens
        elif one_of("mask_embedder.2.0.weight"):
            gain = 2.0  # and these too
        elif "transformer_module.decoder.layers." in name and one_of("out_proj.weight", "fc2.weight"):
            gain = 0.2  # else the queries soon look alike
        return 0.0, gain / math.sqrt(tensor[0].numel())
    if one_of("weight"):  # of a norm
        return 1.0, 0.2
    # A mask logit is a product of the two: many become negative, so that masks have edges and boxes differ.
    sign = one_of("mask_projection.bias") - one_of("mask_embedder.2.0.bias")
    return sign * math.sqrt(10 / tensor.numel()), 0.2
