"""Contact sheets: what the scenes look like, and what a miniature generates.

`python -m star_bench.miniature.sheets FOLDER [PIPELINE]` writes scenes-small.png, scenes-large.png and samples.png.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from star_bench.catalogue.shipped import MINIATURE_FOLDER
from star_bench.miniature.scenes import HELD_OUT_WORDS, KINDS, SMALL, WORLDS, random_row, random_scene, sign_row

SCALE = 2
CAPTION = 30
COLUMNS = 8


def sheet(cells: Sequence[tuple[str, np.ndarray]], *, columns: int = COLUMNS) -> Image.Image:
    """Pictures (H, W, 3), twice their size, each above its caption."""
    side = cells[0][1].shape[0] * SCALE
    rows = -(-len(cells) // columns)
    out = Image.new("RGB", (columns * (side + 8) + 8, rows * (side + CAPTION + 8) + 8), "white")
    draw, font = ImageDraw.Draw(out), ImageFont.load_default(size=10)
    for i, (caption, picture) in enumerate(cells):
        x, y = 8 + (i % columns) * (side + 8), 8 + (i // columns) * (side + CAPTION + 8)
        out.paste(Image.fromarray(picture).resize((side, side), Image.Resampling.NEAREST), (x, y))
        lines: list[str] = []
        line = ""
        for word in caption.removeprefix("a photo of ").split():
            if draw.textlength(f"{line} {word}", font) > side:
                lines, line = [*lines, line], ""
            line = f"{line} {word}".strip()
        draw.multiline_text((x, y + side + 2), "\n".join([*lines, line]), "black", font, spacing=2)
    return out


def scenes(world: str) -> Image.Image:
    """A row of each kind."""
    rng = np.random.default_rng(0)
    drawn = [random_scene(WORLDS[world], rng, kind) for kind in KINDS for _ in range(COLUMNS)]
    return sheet([(scene.caption, scene.image) for scene in drawn])


def samples(pipeline: Path) -> Image.Image:
    """A row of each kind, generated with the checkpoint's defaults; signs show held-out words."""
    from star_bench.assets import model_files
    from star_bench.catalogue import checkpoints
    from star_bench.catalogue.protocol import GenerationSettings
    from star_bench.generation.pipeline import load
    from star_bench.generation.sampler import Sampler
    from star_bench.runs.plan import merge_protocol

    rng = np.random.default_rng(1)
    rows = [random_row(SMALL, rng, kind) for kind in KINDS[:-1] for _ in range(COLUMNS)]
    rows += [sign_row(word) for word in rng.choice(HELD_OUT_WORDS, COLUMNS, replace=False)]
    defaults = checkpoints.resolve("miniature").generation
    protocol = merge_protocol(GenerationSettings(), defaults, seed=0, dtype="float32", device="cpu", where="miniature")
    local = model_files.locate(checkpoints.resolve(str(pipeline)))
    sampler = Sampler(load(local, dtype="float32", device="cpu"), protocol)
    items = [(f"{i:05d}", row["prompt"], 0) for i, row in enumerate(rows)]
    pictures = sampler.generate(items, batch_size=8)
    blank = np.zeros((protocol.height, protocol.width, 3), np.uint8)
    return sheet([(r["prompt"], blank if p is None else p) for r, p in zip(rows, pictures, strict=True)])


def write(folder: Path, pipeline: Path = MINIATURE_FOLDER / "pipeline") -> None:
    """All three sheets."""
    folder.mkdir(parents=True, exist_ok=True)
    for world in WORLDS:
        scenes(world).save(folder / f"scenes-{world}.png", optimize=True)
    samples(pipeline).save(folder / "samples.png", optimize=True)


if __name__ == "__main__":
    write(*(Path(word) for word in sys.argv[1:3]))
