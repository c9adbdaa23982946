"""One thing changed in a metadata row: what a judge must tell apart from the row itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from star_bench.evaluators.geneval.prompts import RELATIONS, counting_row, row
from star_bench.miniature.scenes import WORD_TAG, World, sign_row


def changed_row(world: World, rng: np.random.Generator, metadata: dict[str, Any], *, least: int = 1) -> dict[str, Any]:
    """Another class, another colour or colours swapped, another relation, a count off by one, or one letter.

    Each of the changes that the row's kind allows is equally likely. least: the smallest count that may come out.
    """
    tag = metadata["tag"]
    if tag == WORD_TAG:
        return sign_row(_other_letter(rng, metadata["target"]))
    include = [dict(clause) for clause in metadata["include"]]
    change = str(rng.choice(_CHANGES[tag]))
    which = include[int(rng.integers(len(include)))]
    if change == "class":
        taken = {clause["class"] for clause in include}
        which["class"] = _other(rng, world.classes, taken)
    elif change == "color":
        which["color"] = _other(rng, world.colors, {clause["color"] for clause in include})
    elif change == "swap":
        include[0]["color"], include[1]["color"] = include[1]["color"], include[0]["color"]
    elif change == "relation":
        include[1]["position"] = [_other(rng, RELATIONS, {include[1]["position"][0]}), 0]
    count = include[0]["count"]
    if change == "count":
        count = int(rng.choice([n for n in (count - 1, count + 1) if least <= n <= 4]))
    return counting_row(include[0]["class"], count) if tag == "counting" else row(tag, include)


_CHANGES = {
    "single_object": ["class"],
    "two_object": ["class"],
    "counting": ["class", "count", "count"],
    "colors": ["class", "color"],
    "position": ["class", "relation", "relation"],
    "color_attr": ["class", "color", "swap"],
}


def _other(rng: np.random.Generator, values: tuple[str, ...], taken: set[str]) -> str:
    return str(rng.choice([v for v in values if v not in taken]))


def _other_letter(rng: np.random.Generator, text: str) -> str:
    place = int(rng.integers(len(text)))
    letters = tuple(chr(65 + i) for i in range(26))
    return text[:place] + _other(rng, letters, {text[place]}) + text[place + 1 :]
