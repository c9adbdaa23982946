"""The page of allocation maps: their pictures, their numbers, and how well they meet the truth."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from star_bench.files.atomic import to_json, write_atomically
from star_bench.files.pictures import encode_png
from star_bench.reporting.chart import Chart, Line
from star_bench.reporting.masks.picture import draw
from star_bench.reporting.masks.sheet import MaskSheet, Overlap, overlap
from star_bench.reporting.page import RECONSTRUCTED, page


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
