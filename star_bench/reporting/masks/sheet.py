"""Allocation maps of a prompt's rollouts: where in a picture the advantage goes, step by step, and how well that meets the
truth.

An allocation map is a weight per latent position, 0 or more, with mean one; where it is 1, the update is the one that
Flow-GRPO would make. Everything here is plain arrays: nothing knows a model.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import PIL.Image

COMBINED = "combined"
"""The map that the trainer used; every other name is a word's own map."""


@dataclass(frozen=True, eq=False)
class MaskRow:
    """One rollout. picture: its finished picture, uint8 (H, W, 3). maps: name -> weights, (steps, h, w), mean one, of
    any latent size. truth: bool (H, W), where what the prompt names really is; None where nobody knows."""

    picture: np.ndarray
    maps: dict[str, np.ndarray]
    truth: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class MaskSheet:
    """The rollouts of one prompt. steps: sigma of each denoising step. settings: what made the maps, as text.

    Raises ValueError unless all rollouts have the same maps, the combined one among them, with finite weights of 0 or
    more for each step, and pictures and truths of one size.
    """

    prompt: str
    steps: list[float]
    rows: list[MaskRow]
    settings: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.rows or not self.steps:
            raise ValueError("a sheet needs at least one rollout and one step")
        shapes = {name: maps.shape for name, maps in self.rows[0].maps.items()}
        if COMBINED not in shapes:
            raise ValueError(f"a sheet needs a map named {COMBINED!r}, and these are {', '.join(shapes) or 'none'}")
        for name, shape in shapes.items():
            if len(shape) != 3 or shape[0] != len(self.steps):
                raise ValueError(f"the map {name!r} has the shape {shape} where there are {len(self.steps)} steps")
        for row in self.rows:
            if {name: maps.shape for name, maps in row.maps.items()} != shapes:
                raise ValueError("the rollouts of a sheet differ in the names or the sizes of their maps")
            if row.picture.dtype != np.uint8 or row.picture.shape[2:] != (3,):
                raise ValueError(f"a picture is {row.picture.dtype} {row.picture.shape} and not uint8 (H, W, 3)")
            if row.picture.shape != self.rows[0].picture.shape:
                raise ValueError("the rollouts of a sheet differ in the size of their pictures")
            if row.truth is not None and (row.truth.dtype != bool or row.truth.shape != row.picture.shape[:2]):
                raise ValueError(f"a truth is {row.truth.dtype} {row.truth.shape} and not bool, of its picture's size")
            if not all(np.isfinite(maps).all() and maps.min() >= 0 for maps in row.maps.values()):
                raise ValueError("a weight is negative or no number")

    @property
    def names(self) -> list[str]:
        """The combined map first, then the words in the rollouts' order."""
        return [COMBINED, *(name for name in self.rows[0].maps if name != COMBINED)]

    @property
    def top(self) -> float:
        """The end of the colour scale that all drawings of a sheet share: its greatest weight, 2 at the least."""
        return max(2.0, *(float(maps.max()) for row in self.rows for maps in row.maps.values()))


@dataclass(frozen=True)
class Overlap:
    """How one map meets the truth, per step, as means over the rollouts whose truth is known and not empty.

    iou: of the truth with as many pixels, those of greatest weight. pointing: the share of the greatest weight's pixels
    that lie in the truth. The chance of each is what a random map would have for truths of these areas.
    """

    name: str
    iou: tuple[float, ...]
    pointing: tuple[float, ...]
    iou_chance: float
    pointing_chance: float
    rollouts: int

    @property
    def clear_from(self) -> int | None:
        """The first step, counted from 0, from which on the IoU stays above twice its chance; None if it never does."""
        below = [step for step, iou in enumerate(self.iou) if iou <= 2 * self.iou_chance]
        first = below[-1] + 1 if below else 0
        return first if first < len(self.iou) else None


def overlap(sheet: MaskSheet, name: str = COMBINED) -> Overlap | None:
    """None where no rollout has a truth to meet. Maps are brought to the picture's size bilinearly.

    Equal weights share a place evenly, so a constant map has exactly the chance levels.
    """
    known = [(row.maps[name], row.truth) for row in sheet.rows if row.truth is not None and row.truth.any()]
    if not known:
        return None
    scores = np.array([[_meeting(resized(weights, truth.shape), truth) for weights in maps] for maps, truth in known])
    areas = np.array([truth.mean() for _, truth in known])
    iou, pointing = scores.mean(0).T.tolist()
    return Overlap(
        name,
        tuple(iou),
        tuple(pointing),
        # A random set of a share a of all pixels meets a truth of that size in a² and covers 2a - a² together with it.
        float((areas / (2 - areas)).mean()),
        float(areas.mean()),
        len(known),
    )


def _meeting(weights: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """(IoU, pointing) of one map, (H, W) both."""
    size = int(truth.sum())
    threshold = np.partition(weights, weights.size - size, axis=None)[weights.size - size]
    above, level = weights > threshold, weights == threshold
    share = (size - above.sum()) / level.sum()
    common = float((above & truth).sum() + share * (level & truth).sum())
    greatest = weights == weights.max()
    return common / (2 * size - common), float((greatest & truth).sum() / greatest.sum())


def resized(weights: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(h, w) to float32 (H, W), bilinear."""
    if weights.shape == shape:
        return weights
    image = PIL.Image.fromarray(np.ascontiguousarray(weights, np.float32))
    return np.asarray(image.resize((shape[1], shape[0]), PIL.Image.Resampling.BILINEAR))
