"""Queries of a Mask2Former to detections, as mmdet's instance segmentation makes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

TOP = 100
"""So many (query, class) pairs are detections at most. mmdet's max_per_image."""
EVERYTHING = -1.0
"""A threshold that drops nothing: no score is below 0."""


@dataclass(frozen=True)
class Detections:
    """Sorted by score, highest first. labels (N,) int; scores (N,) float32; boxes (N, 4) float32 x1 y1 x2 y2 in pixels of
    the picture; masks (N, H, W) bool."""

    labels: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray
    masks: np.ndarray


CHUNK = 64
"""Masks that are made at once; one of 800 x 800 px takes 2.6 MB (chosen here)."""


def postprocess(
    class_logits: Tensor,
    mask_logits: Tensor,
    *,
    padded: tuple[int, int],
    filled: tuple[int, int],
    original: tuple[int, int],
    thresholds: Sequence[float],
) -> list[Detections]:
    """Queries of pictures of one size to their detections with score > threshold, one threshold per picture.

    class_logits (B, Q, C + 1), mask_logits (B, Q, h, w). score = class probability x mask quality, and quality is at
    most 1: pairs whose probability alone does not exceed the threshold are dropped before their masks are made. Nothing
    above the threshold is lost by it.
    """
    pictures, queries, classes = class_logits.shape[0], class_logits.shape[1], class_logits.shape[2] - 1
    probabilities = class_logits.softmax(-1)[..., :-1].flatten(1)
    best = probabilities.topk(min(TOP, probabilities.shape[1]), sorted=False)
    flat, values = _to_host(best.indices, best.values)
    above = values > np.array(thresholds, np.float32)[:, None]
    owners, values, flat = above.nonzero()[0], values[above], flat[above]
    needed, rows = np.unique(owners * queries + flat // classes, return_inverse=True)
    chosen = torch.from_numpy(needed).to(mask_logits.device)
    boxes, quality, masks = _to_host(*_masks(mask_logits.flatten(0, 1)[chosen], padded, filled, original))
    labels, scores = flat % classes, values * quality[rows]
    out = []
    for i in range(pictures):
        (mine,) = np.nonzero((owners == i) & (scores > np.float32(thresholds[i])))
        mine = mine[np.argsort(-scores[mine], kind="stable")]
        out.append(Detections(labels[mine], scores[mine], boxes[rows[mine]], masks[rows[mine]]))
    return out


def _to_host(*tensors: Tensor) -> list[np.ndarray]:
    """Tensors of one device as arrays, those of the widest numbers first. In one copy, since each waits for the device."""
    parts = [tensor.flatten().view(torch.uint8) for tensor in tensors]
    host = torch.cat(parts).cpu().split([len(part) for part in parts])
    return [part.view(tensor.dtype).view(tensor.shape).numpy() for part, tensor in zip(host, tensors, strict=True)]


def _masks(
    logits: Tensor, padded: tuple[int, int], filled: tuple[int, int], original: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """(N, 4) boxes, (N,) quality, the mean probability inside, and (N, H, W) bool, of mask logits (N, h, w)."""
    boxes, quality = [logits.new_zeros(0, 4)], [logits.new_zeros(0)]
    masks = [logits.new_zeros(0, *original, dtype=torch.bool)]
    for part in logits.split(CHUNK) if len(logits) else ():
        large = _resized(part, padded)[:, : filled[0], : filled[1]]
        large = _resized(large, original)
        binary = large > 0
        quality.append((large.sigmoid() * binary).sum((1, 2)) / (binary.sum((1, 2)) + 1e-6))
        boxes.append(tight_boxes(binary))
        masks.append(binary)
    return torch.cat(boxes), torch.cat(quality), torch.cat(masks)


def _resized(masks: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(masks.shape[1:]) == size:
        return masks
    return F.interpolate(masks[None], size, mode="bilinear", align_corners=False)[0]


def tight_boxes(masks: Tensor) -> Tensor:
    """(N, H, W) bool to (N, 4) float32: xmin, ymin, xmax + 1, ymax + 1; zeros where a mask is empty."""

    def ends(line: Tensor) -> tuple[Tensor, Tensor]:
        line = line.int()
        return line.argmax(1), line.shape[1] - line.flip(1).argmax(1)

    left, right = ends(masks.any(1))
    top, bottom = ends(masks.any(2))
    boxes = torch.stack([left, top, right, bottom], 1) * masks.any(2).any(1)[:, None]
    return boxes.float()
