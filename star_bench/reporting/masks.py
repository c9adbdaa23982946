"""Pictures of allocation maps: where in a picture the advantage goes, step by step, and how well that meets the truth.

An allocation map is a weight per latent position, 0 or more, with mean one; where it is 1, the update is the one that
Flow-GRPO would make. Everything here is plain arrays: nothing knows a model.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from star_bench.files import to_json, write_atomically
from star_bench.pictures import encode_png
from star_bench.reporting.chart import Chart, Line
from star_bench.reporting.page import RECONSTRUCTED, page

COMBINED = "combined"
"""The map that the trainer used; every other name is a word's own map."""

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
    scores = np.array([[_meeting(_resized(weights, truth.shape), truth) for weights in maps] for maps, truth in known])
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


def _resized(weights: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(h, w) to float32 (H, W), bilinear."""
    if weights.shape == shape:
        return weights
    image = PIL.Image.fromarray(np.ascontiguousarray(weights, np.float32))
    return np.asarray(image.resize((shape[1], shape[0]), PIL.Image.Resampling.BILINEAR))


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
            cell = _over(picture, _resized(weights, (height, width)) / sheet.top)
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


def _colours(shares: np.ndarray) -> np.ndarray:
    """Shares of the colour scale, of any shape, as float (..., 3) between 0 and 255."""
    places = np.linspace(0, 1, len(INFERNO))
    return np.stack([np.interp(shares, places, channel) for channel in np.array(INFERNO, float).T], -1)


def _over(picture: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """The map's colours over the grey picture, uint8 (H, W, 3)."""
    grey = np.asarray(PIL.Image.fromarray(picture).convert("L"), float)[..., None]
    return np.rint(OPACITY * _colours(shares) + (1 - OPACITY) * (127.5 + GREY_SPAN * (grey - 127.5))).astype(np.uint8)


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


def write_masks(sheets: Sequence[MaskSheet], folder: Path) -> Path:
    """Writes images/, masks.npz, masks.json and index.html into `folder`; returns index.html's path.

    masks.npz holds the raw maps, float32 (rollouts, steps, h, w), under the names that masks.json gives. The page comes
    last, so that it never names a picture that is not there. Raises DiskError for a file that can't be written.
    """
    shown = [_written(number, sheet, folder) for number, sheet in enumerate(sheets)]
    arrays: dict[str, Any] = {
        entry["array"]: np.stack([row.maps[entry["name"]] for row in sheet.rows]).astype(np.float32)
        for sheet, maps in zip(sheets, shown, strict=True)
        for entry in maps
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_atomically(folder / "masks.npz", buffer.getvalue())
    write_atomically(folder / "masks.json", to_json(_as_data(sheets, shown)))
    write_atomically(folder / "index.html", _html(sheets, shown).encode("utf-8", "replace"))
    return folder / "index.html"


def _written(number: int, sheet: MaskSheet, folder: Path) -> list[dict[str, Any]]:
    """Draws one sheet's maps; what the page and masks.json say of each."""
    maps = []
    for k, name in enumerate(sheet.names):
        # A word is anybody's text; the numbers alone keep two names apart.
        stem = f"{number:03d}-{k:02d}-{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')[:40]}".rstrip("-")
        drawn = draw(sheet, name)
        write_atomically(folder / f"images/{stem}.png", encode_png(drawn))
        maps.append(
            {
                "name": name,
                "picture": f"images/{stem}.png",
                "array": stem,
                "width": drawn.shape[1],
                "height": drawn.shape[0],
                "overlap": overlap(sheet, name),
            }
        )
    return maps


def _as_data(sheets: Sequence[MaskSheet], shown: Sequence[Sequence[dict[str, Any]]]) -> dict[str, Any]:
    def plain(entry: dict[str, Any]) -> dict[str, Any]:
        found: Overlap | None = entry["overlap"]
        numbers = found and {**asdict(found), "clear_from": found.clear_from}
        return {"name": entry["name"], "picture": entry["picture"], "array": entry["array"], "overlap": numbers}

    return {
        "method": RECONSTRUCTED,
        "prompts": [
            {
                "prompt": sheet.prompt,
                "words": sheet.names[1:],
                "steps": list(sheet.steps),
                "rollouts": len(sheet.rows),
                "top": sheet.top,
                "settings": sheet.settings,
                "maps": [plain(entry) for entry in maps],
            }
            for sheet, maps in zip(sheets, shown, strict=True)
        ],
    }


def _html(sheets: Sequence[MaskSheet], shown: Sequence[Sequence[dict[str, Any]]]) -> str:
    """Settings that all sheets share stand once, at the top; the others with their prompt."""
    common = dict(sheets[0].settings.items()) if sheets else {}
    for sheet in sheets:
        common = {key: value for key, value in common.items() if sheet.settings.get(key) == value}
    prompts = [
        {
            "text": sheet.prompt,
            "rollouts": len(sheet.rows),
            "steps": sheet.steps,
            "settings": {key: value for key, value in sheet.settings.items() if key not in common},
            "maps": [
                {**entry, "url": quote(entry["picture"]), "chart": entry["overlap"] and _chart(entry["overlap"])}
                for entry in maps
            ],
        }
        for sheet, maps in zip(sheets, shown, strict=True)
    ]
    values = {"prompts": prompts, "settings": common, "key": KEY, "reconstructed": RECONSTRUCTED}
    return page("masks.html.j2", values, styles=["plot.css", "masks.css"])


KEY = (
    ("c0 mean", "IoU"),
    ("c0 chance", "its chance"),
    ("c1 mean", "pointing game"),
    ("c1 chance", "its chance"),
)
"""How a chart's lines look, and what they are."""


def _chart(found: Overlap) -> Chart:
    steps = range(1, len(found.iou) + 1)
    values = (
        found.iou,
        [found.iou_chance] * len(steps),
        found.pointing,
        [found.pointing_chance] * len(steps),
    )
    lines = [
        Line(title, list(zip(steps, each, strict=True)), style)
        for (style, title), each in zip(KEY, values, strict=True)
    ]
    said = (
        f"Overlap with the truth by denoising step. IoU: {found.iou[0]:.3f} to {found.iou[-1]:.3f}, by chance "
        f"{found.iou_chance:.3f}; pointing game: {found.pointing[0]:.3f} to {found.pointing[-1]:.3f}, by chance "
        f"{found.pointing_chance:.3f}"
    )
    return Chart("Overlap with the truth", "", "denoising step", lines, said, bounds=(0.0, 1.0))
