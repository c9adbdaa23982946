"""Allocation maps of a run's own pictures, kept beside them: one strip of maps per picture, one map per denoising step.

RUN/masks.json says what made them, RUN/masks.jsonl has a row per picture, and RUN/masks/<prompt id>/<k>.png is the
strip. No score depends on them, so neither the run's digest nor its results know of them.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

import numpy as np
import PIL.Image
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from star_bench.reporting.masks.picture import colours
from star_bench.reporting.masks.sheet import resized
from star_bench.runs.finished import RunFiles, check_record, read_json, read_records

SETTINGS = "masks.json"
ROWS = "masks.jsonl"
TILE = 64
"""Pixels of a map's longer side in its strip: what a latent of 512 pixels has (chosen here)."""
LEVELS = 256


class _Recorded(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class MapSettings(_Recorded):
    """What made the maps. sigmas: of each step. top: the weight at the end of the colour scale. about: in words."""

    schema_: int = Field(default=1, alias="schema", ge=1, le=1)
    sigmas: list[FiniteFloat] = Field(min_length=1)
    top: FiniteFloat = Field(gt=0)
    about: dict[str, str]


class MapRow(_Recorded):
    """The maps of one picture. sha256: of the picture that they are of. path: of the strip; None where there is none, and
    why. words: the core words that the maps are of."""

    prompt_id: str
    k: int
    sha256: str
    path: str | None
    words: list[str] = []
    reason: str = ""


@dataclass(frozen=True)
class StepMaps:
    """settings: as recorded. rows: (prompt id, k) -> its newest row, of the picture that the run has now."""

    settings: MapSettings
    rows: Mapping[tuple[str, int], MapRow]


@dataclass(frozen=True)
class Strip:
    """A picture's maps for the page. name is relative to the report; width and height are one map's, in pixels."""

    name: str
    png: bytes
    width: int
    height: int
    words: tuple[str, ...]

    @property
    def url(self) -> str:
        return quote(self.name)


def draw_strip(weights: np.ndarray, top: float) -> bytes:
    """PNG bytes of (T, h, w) weights, one below the other: colours from 0 to `top`, which stands for all above it too."""
    height, width = weights.shape[1:]
    shape = (max(round(TILE * height / max(height, width)), 1), max(round(TILE * width / max(height, width)), 1))
    levels = np.concatenate([resized(each.astype(np.float32), shape) for each in weights]) / top
    image = PIL.Image.fromarray(np.rint((LEVELS - 1) * levels.clip(0, 1)).astype(np.uint8), "L")
    image.putpalette(np.rint(colours(np.linspace(0, 1, LEVELS))).astype(np.uint8).tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def read_step_maps(run: RunFiles) -> StepMaps | None:
    """None for a run without maps. Maps of a picture that was made anew since are left out.

    Raises Refused for broken records.
    """
    data = read_json(run.folder / SETTINGS)
    if data is None:
        return None
    settings = check_record(MapSettings, data, str(run.folder / SETTINGS))
    pictures = {(image.prompt.id, image.k): image.sample for image in run.images}
    rows = {(row.prompt_id, row.k): row for row in read_records(run.folder / ROWS, MapRow)}
    kept = {key: row for key, row in rows.items() if (sample := pictures.get(key)) and sample.sha256 == row.sha256}
    return StepMaps(settings, kept)


def read_strip(run: RunFiles, maps: StepMaps, key: tuple[str, int]) -> Strip | None:
    """None where a picture has no maps, or no whole strip of them."""
    row = maps.rows.get(key)
    if row is None or row.path is None:
        return None
    path = run.folder / row.path
    if not path.resolve().is_relative_to(run.folder.resolve()):
        return None
    try:
        content = path.read_bytes()
        with PIL.Image.open(io.BytesIO(content)) as image:
            width, height = image.size
    except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError):
        return None
    steps = len(maps.settings.sigmas)
    if height % steps:
        return None
    name = f"masks/{hashlib.sha256(row.prompt_id.encode(errors='surrogatepass')).hexdigest()[:16]}-{row.k}.png"
    return Strip(name, content, width, height // steps, tuple(row.words))
