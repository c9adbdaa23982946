"""What can be said of a picture without any weights: how sharp it is, and how much contrast it has.

Neither is better when it is higher, and both depend on the picture's size: they tell when training moved something that
it was not asked to move.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from star_bench.catalogue.cards import Strict
from star_bench.evaluators.base import Image
from star_bench.evaluators.quality.measure import About, ImageMeasure, Picture

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in JPEG and most grey-scale conversions


class DescriptionCard(Strict):
    kind: Literal["sharpness", "contrast"]
    name: str


def luma(pixels: Image) -> np.ndarray:
    """(H, W) float64 in [0, 255] of a picture (H, W, 3) uint8."""
    return np.asarray(pixels @ np.array(LUMA))


class Sharpness(ImageMeasure):
    """Variance of the Laplacian (4 neighbours) over the pixels that have all of them. Chosen here: the plainest of the
    focus measures that Pech-Pacheco et al. 2000 compare."""

    def __init__(self, card: DescriptionCard) -> None:
        self.about = About(
            name=card.name,
            kind=card.kind,
            unit="variance of the Laplacian of 8-bit luma",
            implementation="star-bench",
            licence="Apache-2.0",
            paper="Pech-Pacheco et al., ICPR 2000",
            better="none",
        )

    def value(self, picture: Picture) -> float:
        y = luma(picture.pixels)
        if min(y.shape) < 3:
            raise ValueError(f"a picture of {y.shape[1]} x {y.shape[0]} pixels has no Laplacian")
        neighbours = y[:-2, 1:-1] + y[2:, 1:-1] + y[1:-1, :-2] + y[1:-1, 2:]
        return float((neighbours - 4 * y[1:-1, 1:-1]).var())


class Contrast(ImageMeasure):
    """Root-mean-square contrast (Peli 1990), on 8-bit luma."""

    def __init__(self, card: DescriptionCard) -> None:
        self.about = About(
            name=card.name,
            kind=card.kind,
            unit="standard deviation of 8-bit luma",
            implementation="star-bench",
            licence="Apache-2.0",
            paper="Peli, J. Opt. Soc. Am. A 7(10), 1990",
            better="none",
        )

    def value(self, picture: Picture) -> float:
        return float(luma(picture.pixels).std())
