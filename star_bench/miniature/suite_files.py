"""The prompt files and canary pictures of the miniature's suites, from fixed seeds.

They are committed beside their cards. `python -m star_bench.miniature.suite_files` writes them again, and a test holds
the two together.
"""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path

import numpy as np
import PIL.Image

from star_bench.evaluators.geneval.prompts import row
from star_bench.miniature.scenes import (
    HELD_OUT_WORDS,
    KINDS,
    SMALL,
    draw_row,
    random_row,
    sign_row,
)
from star_bench.shipped import SUITES_FOLDER

COUNT = 60  # chosen here: with two samples each, 120 images, about a quarter of a minute on a CPU


def ocr_prompts() -> list[str]:
    """Signs with words that no training sign shows."""
    order = np.random.default_rng(20_260_617).permutation(len(HELD_OUT_WORDS))[:COUNT]
    return [sign_row(HELD_OUT_WORDS[i])["prompt"] for i in order]


def preference_prompts() -> list[str]:
    """All kinds of the small world in turn, no prompt twice."""
    rng = np.random.default_rng(20_260_618)
    prompts: dict[str, None] = {}
    for kind in itertools.cycle(KINDS):  # a kind that has no new prompt left is passed over
        if len(prompts) == COUNT:
            break
        prompts[str(random_row(SMALL, rng, kind)["prompt"])] = None
    return list(prompts)


def preference_canary() -> np.ndarray:
    """(64, 64, 3): "a photo of a red car"."""
    metadata = row("colors", [{"class": "car", "count": 1, "color": "red"}])
    return draw_row(SMALL, np.random.default_rng(1), metadata).image


def geneval_canaries() -> dict[str, np.ndarray]:
    """File name -> (64, 64, 3): one red car; three green cups; a blue kite left of a pink clock."""
    rng = np.random.default_rng(2)
    kite = {"class": "kite", "count": 1, "color": "blue", "position": ["left of", 0]}
    rows = {
        "canary-red-car.png": row("colors", [{"class": "car", "count": 1, "color": "red"}]),
        "canary-three-cups.png": row("counting", [{"class": "cup", "count": 3, "color": "green"}]),
        "canary-kite-clock.png": row("position", [{"class": "clock", "count": 1, "color": "pink"}, kite]),
    }
    return {name: draw_row(SMALL, rng, metadata).image for name, metadata in rows.items()}


def write(suites: Path = SUITES_FOLDER) -> None:
    """Writes the files below `suites` and prints the sha256 that the cards need."""
    for suite, prompts in (
        ("ocr-miniature", ocr_prompts()),
        ("preference-miniature", preference_prompts()),
    ):
        content = ("\n".join(prompts) + "\n").encode()
        (suites / suite / "prompts.txt").write_bytes(content)
        print(f"{suite}: sha256 {hashlib.sha256(content).hexdigest()}")
    PIL.Image.fromarray(preference_canary()).save(suites / "preference-miniature" / "canary-red-car.png")
    for name, picture in geneval_canaries().items():
        PIL.Image.fromarray(picture).save(suites / "geneval-miniature" / name)


if __name__ == "__main__":
    write()
