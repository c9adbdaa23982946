"""Small pictures of COCO classes and capital letters, drawn by code.

Each class is a function of a canvas whose coordinates run from 0 to 1. Objects are drawn four times too large
and averaged down, so that edges are smooth at 20 pixels. Colours are close to the names' X11 meaning.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SUPERSAMPLE = 4

RGB: dict[str, tuple[int, int, int]] = {
    "red": (214, 32, 36),
    "orange": (250, 140, 20),
    "yellow": (250, 222, 40),
    "green": (40, 160, 60),
    "blue": (40, 80, 215),
    "purple": (128, 40, 165),
    "pink": (255, 130, 190),
    "brown": (120, 72, 32),
    "black": (24, 24, 26),
    "white": (250, 250, 250),
}
"""GenEval's ten colours."""

OUTLINE = (44, 40, 46)
Point = tuple[float, float]


class Canvas:
    """A square drawing surface in unit coordinates, filled with one colour and outlined in dark."""

    def __init__(self, size: int, fill: tuple[int, int, int]) -> None:
        self.pixels = size * SUPERSAMPLE
        self.image = Image.new("RGBA", (self.pixels, self.pixels), (*fill, 0))
        self.draw = ImageDraw.Draw(self.image)
        self.fill = fill
        self.line = max(2, round(0.045 * self.pixels))
        # Details inside a shape (hands, windows) must show on dark fills as well as on light ones.
        luminance = 0.299 * fill[0] + 0.587 * fill[1] + 0.114 * fill[2]
        self.detail = OUTLINE if luminance > 90 else (205, 205, 205)

    def _scaled(self, points: list[Point]) -> list[Point]:
        return [(x * self.pixels, y * self.pixels) for x, y in points]

    def ellipse(self, x0: float, y0: float, x1: float, y1: float) -> None:
        self.draw.ellipse(self._scaled([(x0, y0), (x1, y1)]), self.fill, OUTLINE, self.line)

    def box(self, x0: float, y0: float, x1: float, y1: float, radius: float = 0.05) -> None:
        self.draw.rounded_rectangle(
            self._scaled([(x0, y0), (x1, y1)]), radius * self.pixels, self.fill, OUTLINE, self.line
        )

    def polygon(self, *points: Point) -> None:
        self.draw.polygon(self._scaled(list(points)), self.fill)
        self.stroke(*points, points[0])

    def stroke(self, *points: Point, detail: bool = False) -> None:
        color = self.detail if detail else OUTLINE
        self.draw.line(self._scaled(list(points)), color, self.line, joint="curve")

    def dot(self, x: float, y: float, radius: float, color: tuple[int, int, int] | None = None) -> None:
        corners = self._scaled([(x - radius, y - radius), (x + radius, y + radius)])
        self.draw.ellipse(corners, color or self.detail)

    def pane(self, x0: float, y0: float, x1: float, y1: float) -> None:
        """A pale window."""
        self.draw.rectangle(self._scaled([(x0, y0), (x1, y1)]), (222, 236, 242), OUTLINE, self.line // 2)


def _apple(c: Canvas) -> None:
    c.stroke((0.5, 0.3), (0.58, 0.03))
    c.ellipse(0.06, 0.2, 0.94, 0.97)
    c.stroke((0.38, 0.27), (0.5, 0.34), (0.62, 0.27))


def _banana(c: Canvas) -> None:
    outer = [(0.08, 0.22), (0.12, 0.55), (0.3, 0.82), (0.6, 0.93), (0.95, 0.8)]
    inner = [(0.9, 0.66), (0.64, 0.68), (0.44, 0.56), (0.33, 0.36), (0.28, 0.1), (0.14, 0.08)]
    c.polygon(*outer, *inner)


def _clock(c: Canvas) -> None:
    c.ellipse(0.04, 0.04, 0.96, 0.96)
    c.stroke((0.5, 0.2), (0.5, 0.52), (0.72, 0.62), detail=True)
    for x, y in ((0.5, 0.13), (0.87, 0.5), (0.5, 0.87), (0.13, 0.5)):
        c.dot(x, y, 0.04)


def _cup(c: Canvas) -> None:
    c.draw.ellipse(c._scaled([(0.58, 0.3), (0.97, 0.74)]), None, OUTLINE, c.line * 3)
    c.polygon((0.08, 0.12), (0.76, 0.12), (0.68, 0.93), (0.17, 0.93))
    c.stroke((0.1, 0.26), (0.74, 0.26), detail=True)


def _car(c: Canvas) -> None:
    c.polygon((0.22, 0.5), (0.34, 0.22), (0.66, 0.22), (0.8, 0.5))
    c.box(0.02, 0.46, 0.98, 0.76, 0.09)
    c.pane(0.36, 0.29, 0.48, 0.47)
    c.pane(0.53, 0.29, 0.65, 0.47)
    for x in (0.25, 0.75):
        c.dot(x, 0.76, 0.14, OUTLINE)
        c.dot(x, 0.76, 0.06, (170, 170, 170))


def _umbrella(c: Canvas) -> None:
    c.stroke((0.5, 0.45), (0.5, 0.86), (0.56, 0.94), (0.66, 0.92), (0.68, 0.82))
    c.draw.pieslice(c._scaled([(0.02, 0.06), (0.98, 1.0)]), 180, 360, c.fill, OUTLINE, c.line)
    c.stroke((0.5, 0.08), (0.34, 0.52), detail=True)
    c.stroke((0.5, 0.08), (0.66, 0.52), detail=True)


def _chair(c: Canvas) -> None:
    for x in (0.22, 0.74):
        c.box(x - 0.06, 0.58, x + 0.06, 0.98, 0.02)
    c.box(0.14, 0.04, 0.34, 0.62, 0.04)
    c.box(0.14, 0.46, 0.86, 0.68, 0.04)


def _kite(c: Canvas) -> None:
    c.polygon((0.6, 0.02), (0.94, 0.3), (0.45, 0.78), (0.22, 0.2))
    c.stroke((0.6, 0.02), (0.45, 0.78), (0.24, 0.82), (0.28, 0.92), (0.08, 0.97))
    c.stroke((0.22, 0.2), (0.94, 0.3), detail=True)


def _bus(c: Canvas) -> None:
    c.box(0.02, 0.2, 0.98, 0.8, 0.08)
    for x in (0.1, 0.32, 0.54, 0.76):
        c.pane(x, 0.3, x + 0.15, 0.5)
    for x in (0.25, 0.75):
        c.dot(x, 0.8, 0.11, OUTLINE)


def _bottle(c: Canvas) -> None:
    c.box(0.41, 0.02, 0.59, 0.2, 0.02)
    c.polygon((0.41, 0.18), (0.59, 0.18), (0.72, 0.4), (0.72, 0.97), (0.28, 0.97), (0.28, 0.4))
    c.pane(0.29, 0.55, 0.71, 0.78)


def _boat(c: Canvas) -> None:
    c.stroke((0.5, 0.02), (0.5, 0.66))
    c.polygon((0.55, 0.06), (0.92, 0.56), (0.55, 0.56))
    c.polygon((0.02, 0.64), (0.98, 0.64), (0.8, 0.95), (0.2, 0.95))


def _tv(c: Canvas) -> None:
    c.stroke((0.3, 0.04), (0.5, 0.22), (0.7, 0.04))
    c.box(0.03, 0.2, 0.97, 0.88, 0.07)
    c.pane(0.13, 0.3, 0.74, 0.78)
    c.dot(0.85, 0.42, 0.05)
    c.stroke((0.25, 0.88), (0.2, 0.98))
    c.stroke((0.75, 0.88), (0.8, 0.98))


DRAWINGS: dict[str, Callable[[Canvas], None]] = {
    "apple": _apple,
    "banana": _banana,
    "clock": _clock,
    "cup": _cup,
    "car": _car,
    "umbrella": _umbrella,
    "chair": _chair,
    "kite": _kite,
    "bus": _bus,
    "bottle": _bottle,
    "boat": _boat,
    "tv": _tv,
}
"""COCO classes that can be drawn, each told from the others by its outline."""


def _shrink(image: Image.Image) -> np.ndarray:
    """Averages down by SUPERSAMPLE, weighting colour by alpha so that edges take no colour from outside."""
    rgba = np.asarray(image, np.float32) / 255
    h, w = rgba.shape[0] // SUPERSAMPLE, rgba.shape[1] // SUPERSAMPLE
    rgba = rgba.reshape(h, SUPERSAMPLE, w, SUPERSAMPLE, 4)
    alpha = rgba[..., 3:].mean((1, 3))
    color = (rgba[..., :3] * rgba[..., 3:]).mean((1, 3)) / np.maximum(alpha, 1e-6)
    sprite = np.concatenate([color * 255, alpha], axis=-1)
    sprite.setflags(write=False)
    return sprite


@cache
def sprite(name: str, color: str, size: int) -> np.ndarray:
    """(size, size, 4) float32: RGB in 0..255 and alpha in 0..1."""
    canvas = Canvas(size, RGB[color])
    DRAWINGS[name](canvas)
    return _shrink(canvas.image)


@cache
def letter(char: str, width: int, height: int) -> np.ndarray:
    """(height, width, 4) float32: one dark capital, drawn to fill its cell but for a pixel of air on each side."""
    font = ImageFont.load_default(size=96)
    left, top, right, bottom = (round(v) for v in font.getbbox(char, stroke_width=2))
    glyph = Image.new("L", (right - left, bottom - top), 0)
    ImageDraw.Draw(glyph).text((-left, -top), char, 255, font, stroke_width=2)
    high = (height - 4) * SUPERSAMPLE
    wide = min((width - 1) * SUPERSAMPLE, max(2 * SUPERSAMPLE, round(glyph.width * high / glyph.height)))
    cell = Image.new("RGBA", (width * SUPERSAMPLE, height * SUPERSAMPLE), (*OUTLINE, 0))
    ink = Image.new("RGBA", (wide, high), (*OUTLINE, 255))
    ink.putalpha(glyph.resize((wide, high), Image.Resampling.LANCZOS))
    cell.paste(ink, ((cell.width - wide) // 2, (cell.height - high) // 2))
    return _shrink(cell)
