"""Mask2Former as GenEval runs it: official preprocessing and post-processing around transformers' model.

Not transformers' image processor (it antialiases) nor its instance post-processing (other thresholds, order and mask
size). Facts: mmdet 2.x, configuration mask2former_swin-s-p4-w7-224_lsj_8x2_50e_coco.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Mask2FormerForUniversalSegmentation

MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)
"""ImageNet statistics on 0..255, as mmdet's configuration has them."""
PAD_VALUE = 128  # mmdet 2.x pads before it normalises
PAD_MULTIPLE = 32
TOP = 100


@dataclass(frozen=True)
class Detections:
    """Sorted by score, highest first. labels (N,) int; scores (N,) float32; boxes (N, 4) float32 x1 y1 x2 y2 in pixels of
    the picture; masks (N, H, W) bool."""

    labels: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray
    masks: np.ndarray


class Detector(Protocol):
    """What a plugin in `star_bench.detectors` makes: pictures in, detections above a threshold out."""

    def detect(self, images: Sequence[np.ndarray], *, threshold: float) -> list[Detections]:
        """images are uint8 RGB (H, W, 3), of any sizes; only detections with score > threshold come out."""
        ...


@dataclass(frozen=True)
class Resize:
    """Keep-ratio bounds in pixels: the short side becomes `short` unless the long one would exceed `long`."""

    short: int = 800
    long: int = 1333

    def target(self, height: int, width: int) -> tuple[int, int]:
        scale = min(self.long / max(height, width), self.short / min(height, width))
        return int(height * scale + 0.5), int(width * scale + 0.5)


def preprocess(image: np.ndarray, resize: Resize | None) -> tuple[Tensor, tuple[int, int]]:
    """(3, H', W') float32 and the size (h, w) that the picture fills in it, before padding to the right and bottom."""
    height, width = resize.target(*image.shape[:2]) if resize else image.shape[:2]
    if (height, width) != image.shape[:2]:
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    down, right = -height % PAD_MULTIPLE, -width % PAD_MULTIPLE
    padded = np.pad(image, ((0, down), (0, right), (0, 0)), constant_values=PAD_VALUE)
    normal = (padded.astype(np.float32) - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return torch.from_numpy(normal).permute(2, 0, 1).contiguous(), (height, width)


def postprocess(
    class_logits: Tensor,
    mask_logits: Tensor,
    *,
    padded: tuple[int, int],
    filled: tuple[int, int],
    original: tuple[int, int],
    threshold: float,
) -> Detections:
    """Queries of one picture to detections: class_logits (Q, C + 1), mask_logits (Q, h, w).

    score = class probability x mask quality, and quality is at most 1: pairs whose probability alone does not exceed the
    threshold are dropped before their masks are made. Nothing above the threshold is lost by it.
    """
    probabilities = class_logits.softmax(-1)[:, :-1]
    classes = probabilities.shape[1]
    values, flat = probabilities.flatten().topk(min(TOP, probabilities.numel()), sorted=False)
    kept = values > threshold
    values, flat = values[kept], flat[kept]
    queries, labels = flat // classes, flat % classes
    unique, where = queries.unique(return_inverse=True)
    if not len(unique):
        empty = np.zeros((0, *original), bool)
        return Detections(np.zeros(0, int), np.zeros(0, np.float32), np.zeros((0, 4), np.float32), empty)
    masks = F.interpolate(mask_logits[unique][None], padded, mode="bilinear", align_corners=False)[0]
    masks = masks[:, : filled[0], : filled[1]]
    masks = F.interpolate(masks[None], original, mode="bilinear", align_corners=False)[0]
    binary = masks > 0
    area = binary.sum((1, 2))
    quality = (masks.sigmoid() * binary).sum((1, 2)) / (area + 1e-6)
    scores = values * quality[where]
    order = torch.argsort(scores, descending=True, stable=True)
    order = order[scores[order] > threshold]
    found = binary.cpu().numpy()
    tight = np.stack([_tight_box(mask) for mask in found])
    index = where[order].cpu().numpy()
    return Detections(labels[order].cpu().numpy(), scores[order].float().cpu().numpy(), tight[index], found[index])


def _tight_box(mask: np.ndarray) -> np.ndarray:
    xs, ys = np.nonzero(mask.any(0))[0], np.nonzero(mask.any(1))[0]
    if not len(xs):
        return np.zeros(4, np.float32)
    return np.array([xs[0], ys[0], xs[-1] + 1, ys[-1] + 1], np.float32)


class TransformersDetector:
    """transformers' Mask2Former from a local safetensors folder, in float32."""

    def __init__(self, folder: Path, *, device: str = "cpu", resize: dict[str, Any] | None = None) -> None:
        self.model = Mask2FormerForUniversalSegmentation.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
        )
        self.model.to(device).eval()
        self.device = device
        self.resize = Resize(**resize) if resize else None

    @torch.inference_mode()
    def detect(self, images: Sequence[np.ndarray], *, threshold: float) -> list[Detections]:
        """Same-size pictures share one forward. Scores are strictly above `threshold`."""
        ready = [preprocess(image, self.resize) for image in images]
        groups: dict[tuple[int, ...], list[int]] = {}
        for i, (pixels, _) in enumerate(ready):
            groups.setdefault(tuple(pixels.shape), []).append(i)
        out: dict[int, Detections] = {}
        for shape, members in groups.items():
            batch = torch.stack([ready[i][0] for i in members]).to(self.device)
            result = self.model(pixel_values=batch)
            for row, i in enumerate(members):
                out[i] = postprocess(
                    result.class_queries_logits[row].float(),
                    result.masks_queries_logits[row].float(),
                    padded=(shape[1], shape[2]),
                    filled=ready[i][1],
                    original=(images[i].shape[0], images[i].shape[1]),
                    threshold=threshold,
                )
        return [out[i] for i in range(len(images))]
