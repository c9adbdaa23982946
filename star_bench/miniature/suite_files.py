"""The prompt files, training files and canary pictures of the miniature's suites, from fixed seeds.

They are committed beside their cards. `python -m star_bench.miniature.suite_files` writes them again, and a test holds
the two together.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from star_bench.catalogue import suites
from star_bench.catalogue.shipped import SUITES_FOLDER
from star_bench.evaluators.geneval.evaluator import GenEval
from star_bench.evaluators.geneval.metadata import PromptRow, scene_of
from star_bench.evaluators.geneval.prompts import row
from star_bench.miniature.scenes import (
    HELD_OUT_WORDS,
    KINDS,
    SMALL,
    WORD_TAG,
    draw_row,
    random_row,
    sign_row,
)

COUNT = 60  # chosen here: with two samples each, 120 images, about a quarter of a minute on a CPU
TRAINING_COUNT = 850  # chosen here: 50 times the sum of the mix
TRAINING_MIX = {"position": 3, "counting": 4, "color_attr": 4, "colors": 2, "two_object": 4}
"""Chosen here, by what the miniature gets wrong. Flow-GRPO's 7 : 5 : 3 : 1 : 1 (arXiv:2505.05470) leans to positions,
which SD3.5 gets wrong and the miniature mostly right. Neither trains on single objects."""
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


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


def ocr_training_prompts() -> list[str]:
    """Signs, half with everyday words and half with random capitals; none shows a word that is held out."""
    rng = np.random.default_rng(20_260_619)
    return [str(random_row(SMALL, rng, WORD_TAG)["prompt"]) for _ in range(TRAINING_COUNT)]


def preference_training_prompts() -> list[str]:
    """All kinds in turn, without the prompts of the suite."""
    rng = np.random.default_rng(20_260_620)
    held_out = set(preference_prompts())
    drawn = (str(random_row(SMALL, rng, kind)["prompt"]) for kind in itertools.cycle(KINDS))
    return list(itertools.islice((prompt for prompt in drawn if prompt not in held_out), TRAINING_COUNT))


def geneval_training_rows() -> list[dict[str, Any]]:
    """GenEval's metadata in TRAINING_MIX and a mixed order, without the scenes of the suite. The small world has
    fewer scenes than rows, so many stand there several times."""
    rng = np.random.default_rng(20_260_621)
    tests = (prompt.metadata for prompt in GenEval(suites.load("geneval-miniature")).prompts())
    held_out = {_scene(same) for test in tests for same in (test, _told_from_the_other_side(test))}
    share = TRAINING_COUNT // sum(TRAINING_MIX.values())
    kinds = rng.permutation([kind for kind, part in TRAINING_MIX.items() for _ in range(part * share)])
    rows = []
    for kind in kinds:
        while _scene(drawn := random_row(SMALL, rng, kind)) in held_out:
            pass
        rows.append(drawn)
    return rows


def _scene(metadata: dict[str, Any]) -> Hashable:
    return scene_of(PromptRow.model_validate(metadata, strict=False).include)


def _told_from_the_other_side(metadata: dict[str, Any]) -> dict[str, Any]:
    """A kite left of a clock as a clock right of a kite; a row without a relation as it is."""
    if metadata["tag"] != "position":
        return metadata
    anchor, placed = metadata["include"]
    relation, _ = placed["position"]
    return row(
        "position",
        [{"class": placed["class"], "count": 1}, {**anchor, "position": [OPPOSITE[relation], 0]}],
    )


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


def prompt_files() -> dict[str, list[str]]:
    """Path below the suites' folder -> lines."""
    return {
        "ocr-miniature/prompts.txt": ocr_prompts(),
        "preference-miniature/prompts.txt": preference_prompts(),
        "ocr-miniature/train.txt": ocr_training_prompts(),
        "preference-miniature/train.txt": preference_training_prompts(),
        "geneval-miniature/train.jsonl": [json.dumps(each) for each in geneval_training_rows()],
    }


def write(folder: Path = SUITES_FOLDER) -> None:
    """Writes the files below `folder` and prints the sha256 that the cards need."""
    for name, lines in prompt_files().items():
        content = ("\n".join(lines) + "\n").encode()
        (folder / name).write_bytes(content)
        print(f"{name}: sha256 {hashlib.sha256(content).hexdigest()}")
    PIL.Image.fromarray(preference_canary()).save(folder / "preference-miniature" / "canary-red-car.png")
    for name, picture in geneval_canaries().items():
        PIL.Image.fromarray(picture).save(folder / "geneval-miniature" / name)


if __name__ == "__main__":
    write()
