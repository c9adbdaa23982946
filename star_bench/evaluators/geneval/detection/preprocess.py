"""Pictures as GenEval's detector takes them: resized, padded and normalised as mmdet does it.

mmdet 2.x, which the official evaluator runs, resizes 8-bit numbers in fixed point and pads with grey before it
normalises; mmdet 3.x resizes in floating point and pads with zeros afterwards. The two give slightly different
detections, so each has its name, and the official one is the default.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from star_bench.catalogue.cards import did_you_mean
from star_bench.errors import UsageError

Preprocessing = Literal["mmdet-2.x", "mmdet-3.x"]

MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)
"""ImageNet statistics of red, green and blue on 0..255, as mmdet's configuration has them."""
PAD_VALUE = 128  # mmdet 2.x
PAD_MULTIPLE = 32  # Swin's patches and four mergings


@dataclass(frozen=True)
class Resize:
    """Keep-ratio bounds in pixels: the short side becomes `short` unless the long one would exceed `long`."""

    short: int = 800
    long: int = 1333

    def target(self, height: int, width: int) -> tuple[int, int]:
        scale = min(self.long / max(height, width), self.short / min(height, width))
        return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


OFFICIAL_RESIZE = Resize()


def check_preprocessing(name: str) -> Preprocessing:
    """Raises UsageError for an unknown name."""
    for known in get_args(Preprocessing):
        if name == known:
            return known
    raise UsageError(f"there is no preprocessing named {name!r}", did_you_mean(name, get_args(Preprocessing)))


@dataclass(frozen=True)
class Prepared:
    """pixels (B, 3, H', W') float32, normalised; the pictures fill `filled` = (h, w) of it, the rest is padding."""

    pixels: Tensor
    filled: tuple[int, int]

    @property
    def padded(self) -> tuple[int, int]:
        return self.pixels.shape[-2], self.pixels.shape[-1]


def prepare(images: Tensor, resize: Resize | None, preprocessing: Preprocessing = "mmdet-2.x") -> Prepared:
    """images (B, H, W, 3) uint8 RGB, on the device that shall do the work. Without `resize` they go in as they are."""
    height, width = filled = resize.target(*images.shape[1:3]) if resize else (images.shape[1], images.shape[2])
    margins = (0, -width % PAD_MULTIPLE, 0, -height % PAD_MULTIPLE)
    mean, std = (torch.tensor(values, device=images.device).view(1, 3, 1, 1) for values in (MEAN, STD))
    if preprocessing == "mmdet-2.x":
        planes = resize_fixed_point(images, height, width).permute(0, 3, 1, 2)
        padded = F.pad(planes, margins, value=PAD_VALUE)
        return Prepared((padded.float() - mean) / std, filled)
    planes = resize_floating(images, height, width).permute(0, 3, 1, 2)
    return Prepared(F.pad((planes - mean) / std, margins), filled)


ONE = 2048
"""OpenCV's fixed-point one for 8-bit bilinear weights (INTER_RESIZE_COEF_SCALE)."""


def resize_fixed_point(images: Tensor, height: int, width: int) -> Tensor:
    """(B, H, W, 3) uint8 to (B, height, width, 3) uint8, bit for bit what OpenCV's INTER_LINEAR gives for 8 bits.

    Bilinear without antialiasing, in integers, hence the same on every device. A test compares it with OpenCV's own.
    """
    if (height, width) == tuple(images.shape[1:3]):
        return images
    rows, columns = (_neighbours(*each, np.float32) for each in ((images.shape[1], height), (images.shape[2], width)))
    # At the left and right edge the fraction is dropped; at the top and bottom it is kept, between a row and itself.
    columns.share[columns.before == columns.after] = 0
    pixels = images.int()
    left, right = (weight.view(1, 1, -1, 1) for weight in columns.fixed_point(images.device))
    upper, lower = (weight.view(1, -1, 1, 1) for weight in rows.fixed_point(images.device))
    sums = (pixels[:, :, columns.before] * left + pixels[:, :, columns.after] * right) >> 4
    out = (((sums[:, rows.before] * upper) >> 16) + ((sums[:, rows.after] * lower) >> 16) + 2) >> 2
    return out.to(torch.uint8)


def resize_floating(images: Tensor, height: int, width: int) -> Tensor:
    """(B, H, W, 3) to (B, height, width, 3) float32: OpenCV's INTER_LINEAR for floating point, but for rounding.

    torch's own bilinear interpolation places its samples less exactly.
    """
    pixels = images.float()
    if (height, width) == tuple(images.shape[1:3]):
        return pixels
    rows, columns = (_neighbours(*each, np.float64) for each in ((images.shape[1], height), (images.shape[2], width)))
    right = torch.from_numpy(columns.share).to(images.device).view(1, 1, -1, 1)
    lower = torch.from_numpy(rows.share).to(images.device).view(1, -1, 1, 1)
    sums = pixels[:, :, columns.before] * (1 - right) + pixels[:, :, columns.after] * right
    return sums[:, rows.before] * (1 - lower) + sums[:, rows.after] * lower


@dataclass(frozen=True)
class _Neighbours:
    """For each new line the two old ones that it lies between, and its float32 share of the second."""

    before: np.ndarray
    after: np.ndarray
    share: np.ndarray

    def fixed_point(self, device: torch.device) -> list[Tensor]:
        """Weights of the two, int32."""
        return [
            torch.from_numpy(np.rint(share * np.float32(ONE)).astype(np.int32)).to(device)
            for share in (1 - self.share, self.share)
        ]


def _neighbours(old: int, new: int, precision: type[np.floating[Any]]) -> _Neighbours:
    """OpenCV places the samples in float32 for 8-bit pictures and in float64 for others."""
    place = ((np.arange(new) + 0.5) * (1 / (new / old)) - 0.5).astype(precision)
    whole = np.floor(place)
    first = whole.astype(np.int64)
    return _Neighbours(first.clip(0, old - 1), (first + 1).clip(0, old - 1), (place - whole).astype(np.float32))
