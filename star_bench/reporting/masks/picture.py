"""A sheet of allocation maps as one picture: rollouts by denoising steps, over the finished pictures, with a colour bar."""

from __future__ import annotations

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from star_bench.reporting.masks.sheet import COMBINED, MaskSheet, resized

# Layout of a drawn sheet, in pixels (chosen here).
CELL = 160
REDUCED = 144
GAP = 4
MARGIN = 16
TEXT = 18
ROW_LABELS = 98
COLUMN_LABELS = 32
BAR_WIDTH = 18
BAR_LABELS = 166
PAPER = (255, 255, 255)
INK = (29, 28, 26)
OUTLINE = (255, 255, 255)

OPACITY = 0.72
"""Of the map over the picture, whose grey shows where its objects are (chosen here)."""
GREY_SPAN = 0.55
"""The grey picture's contrast below the map: enough to see objects, little enough not to pass for weights."""
INFERNO = (
    *((0, 0, 4), (27, 12, 65), (74, 12, 107), (120, 28, 109), (165, 44, 96)),
    *((207, 68, 70), (237, 105, 37), (251, 155, 6), (247, 209, 61), (252, 255, 164)),
)
"""Perceptually uniform, by Smith and van der Walt (2015), at ten equal distances."""


def draw(sheet: MaskSheet, name: str = COMBINED) -> np.ndarray:
    """One sheet as uint8 (H', W', 3): a row per rollout, its finished picture and then its map at each step.

    Maps lie over the grey picture, with the truth outlined where it is known, and share the sheet's colour scale.
    """
    shown = [_fitted(row.picture) for row in sheet.rows]
    height, width = shown[0].shape[:2]
    left, top = MARGIN + ROW_LABELS, MARGIN + COLUMN_LABELS
    right = left + (len(sheet.steps) + 1) * (width + GAP) + GAP
    # The colour bar needs some height of its own, even beside a single row.
    bottom = top + max(len(sheet.rows) * (height + GAP) - GAP, REDUCED)
    canvas = PIL.Image.new("RGB", (right + MARGIN + BAR_WIDTH + BAR_LABELS, bottom + MARGIN), PAPER)
    pen, font = PIL.ImageDraw.Draw(canvas), PIL.ImageFont.load_default(TEXT)

    def column(k: int) -> int:
        """Its left edge; the finished picture stands a little apart."""
        return left + k * (width + GAP) + (GAP if k else 0)

    for k, label in enumerate(["finished", *(f"{sigma:.3f}" for sigma in sheet.steps)]):
        pen.text((column(k) + width / 2, top - 8), label, INK, font, anchor="ms")
    pen.text((left - 10, top - 8), "sigma", INK, font, anchor="rs")
    for r, (row, picture) in enumerate(zip(sheet.rows, shown, strict=True)):
        y = top + r * (height + GAP)
        pen.text((left - 10, y + height / 2), f"rollout {r + 1}", INK, font, anchor="rm")
        canvas.paste(PIL.Image.fromarray(picture), (left, y))
        edge = None if row.truth is None else _edge(row.truth, (height, width))
        for k, weights in enumerate(row.maps[name], start=1):
            cell = _over(picture, resized(weights, (height, width)) / sheet.top)
            if edge is not None:
                cell[edge] = OUTLINE
            canvas.paste(PIL.Image.fromarray(cell), (column(k), y))
    _draw_bar(canvas, (right + MARGIN, top), bottom - top, sheet.top)
    return np.asarray(canvas)


def _fitted(picture: np.ndarray) -> np.ndarray:
    """A cell's picture: small ones enlarged by a whole factor, pixel by pixel, large ones reduced."""
    side = max(picture.shape[:2])
    if side <= CELL:
        factor = CELL // side
        return picture.repeat(factor, 0).repeat(factor, 1)
    height, width = (max(round(edge * REDUCED / side), 1) for edge in picture.shape[:2])
    return np.asarray(PIL.Image.fromarray(picture).resize((width, height), PIL.Image.Resampling.LANCZOS))


def colours(shares: np.ndarray) -> np.ndarray:
    """Shares of the colour scale, of any shape, as float (..., 3) between 0 and 255."""
    places = np.linspace(0, 1, len(INFERNO))
    return np.stack([np.interp(shares, places, channel) for channel in np.array(INFERNO, float).T], -1)


def _over(picture: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """The map's colours over the grey picture, uint8 (H, W, 3)."""
    grey = np.asarray(PIL.Image.fromarray(picture).convert("L"), float)[..., None]
    return np.rint(OPACITY * colours(shares) + (1 - OPACITY) * (127.5 + GREY_SPAN * (grey - 127.5))).astype(np.uint8)


def _edge(truth: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The truth's own outermost pixels at a cell's size, bool (H, W)."""
    image = PIL.Image.fromarray(truth.astype(np.uint8)).resize(shape[::-1], PIL.Image.Resampling.NEAREST)
    inside = np.asarray(image, bool)
    around = np.pad(inside, 1)
    return inside & ~(around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:])


def _draw_bar(canvas: PIL.Image.Image, corner: tuple[int, int], height: int, top: float) -> None:
    """The colour scale from 0 at its foot to `top`, as its colours look over a middle grey."""
    x, y = corner
    pen, font = PIL.ImageDraw.Draw(canvas), PIL.ImageFont.load_default(TEXT)
    shares = np.linspace(1, 0, height)[:, None].repeat(BAR_WIDTH, 1)
    colours = _over(np.full((height, BAR_WIDTH, 3), 128, np.uint8), shares)
    canvas.paste(PIL.Image.fromarray(colours), (x, y))
    pen.text((x, y - 8), "weight", INK, font, anchor="ls")
    # Ticks at least a line and a half apart.
    apart = next(step for step in (1, 2, 5, 10, 20, 50, 100, 1000, 10**6) if step * height / top >= 1.5 * TEXT)
    for weight in sorted({1, *range(0, int(top) + 1, apart)}):
        at = y + (height - 1) * (1 - weight / top)
        pen.line([(x + BAR_WIDTH, at), (x + BAR_WIDTH + 5, at)], INK)
        if weight == 1:
            pen.line([(x, at), (x + BAR_WIDTH, at)], PAPER, 2)
        label = "1, as Flow-GRPO" if weight == 1 else str(weight)
        pen.text((x + BAR_WIDTH + 9, at), label, INK, font, anchor="lm")
