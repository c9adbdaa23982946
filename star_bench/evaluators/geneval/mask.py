"""A detection's mask in a few hundred characters: for people who look at verdicts, not for the verdicts themselves.

Run lengths as COCO writes them (cocodataset/cocoapi, maskApi.c, restated): of a mask read column by column, how long it
stays False, then True, and so on; each run from the fourth on as its difference to the run two before, since
neighbouring columns are alike; and each number in groups of five bits, lowest first, with a sixth for "more follows".
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

MASK_SIDE = 96
"""A mask is stored with at most this many rows and columns (chosen here: finer than a thumbnail shows; a typical object
takes 200 characters, whatever the size of the picture)."""
FIRST = 48
"""The character of the number 0. COCO's."""


def encode(mask: np.ndarray, box: np.ndarray) -> dict[str, Any] | None:
    """mask bool (H, W) as the part of it inside box (x1, y1, x2, y2 in pixels), laid over it as a grid.

    Returns {"size": [rows, columns], "counts": text}, or None where the box holds no pixel.
    """
    x1, y1, x2, y2 = (max(int(edge), 0) for edge in box)
    inside = mask[y1:y2, x1:x2]
    if not inside.size:
        return None
    rows, columns = (_middles(side) for side in inside.shape)
    grid = inside[rows[:, None], columns]
    return {"size": list(grid.shape), "counts": "".join(map(_characters, _differences(_runs(grid))))}


def decode(stored: Any) -> np.ndarray:
    """The grid, bool (rows, columns), of what `encode` made. Raises ValueError for anything else."""
    try:
        (rows, columns), text = stored["size"], stored["counts"].encode("ascii")
    except (TypeError, KeyError, AttributeError, ValueError):
        raise ValueError("not a mask: it needs a size and counts") from None
    if not all(isinstance(side, int) and 0 < side <= MASK_SIDE for side in (rows, columns)):
        raise ValueError(f"a mask has 1 to {MASK_SIDE} rows and columns, not {stored['size']}")
    runs: list[int] = []
    for number in _numbers(text):
        runs.append(number + (runs[-2] if len(runs) > 2 else 0))
    if min(runs, default=-1) < 0 or sum(runs) != rows * columns:
        raise ValueError(f"the runs of a mask don't fill its {rows} rows and {columns} columns")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(columns, rows).T


@cache
def _middles(side: int) -> np.ndarray:
    """Which of `side` lines are kept: at most MASK_SIDE, evenly spread."""
    count = min(side, MASK_SIDE)
    return ((np.arange(count) + 0.5) * side / count).astype(int)


def _runs(grid: np.ndarray) -> list[int]:
    """The lengths of equal stretches, column by column, the first of them False and perhaps empty."""
    line = grid.T.ravel()
    edges = (np.flatnonzero(line[1:] != line[:-1]) + 1).tolist()
    starts = [0, 0] if line[0] else [0]
    return [end - start for start, end in pairwise([*starts, *edges, line.size])]


def _differences(runs: list[int]) -> list[int]:
    return [run - (runs[i - 2] if i > 2 else 0) for i, run in enumerate(runs)]


@cache
def _characters(number: int) -> str:
    out = ""
    while True:
        low, number = number & 31, number >> 5
        # The highest bit of the last group is the sign of the whole.
        done = number == (-1 if low & 16 else 0)
        out += chr(FIRST + low + (0 if done else 32))
        if done:
            return out


def _numbers(text: bytes) -> list[int]:
    """Raises ValueError for characters that COCO does not use and a number that does not end."""
    numbers, number, shift = [], 0, 0
    for character in text:
        group = character - FIRST
        if not 0 <= group < 64 or shift > 30:
            raise ValueError("the runs of a mask can't be read")
        number |= (group & 31) << shift
        shift += 5
        if not group & 32:
            numbers.append(number - (1 << shift) if group & 16 else number)
            number, shift = 0, 0
    if shift:
        raise ValueError("the runs of a mask break off")
    return numbers
