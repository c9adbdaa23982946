"""A batch size found by itself: the one that draws pictures fastest here, of those that fit."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from typing import TYPE_CHECKING

from star_bench.memory import free_memory, is_out_of_memory
from star_bench.runs.plan import Item

if TYPE_CHECKING:
    from star_bench.generation.sampler import Sampler

LARGEST = 64
"""Chosen here: more at a time gains nothing on GPUs of today, and a batch is what a kill costs."""
GAIN = 1.05
"""Twice as many at a time must draw so much faster. Chosen here: less than this is noise."""
STEPS = 4
"""Denoising steps of a trial. Chosen here: memory is that of a whole picture, and its decoding does not rule the time."""


def fastest(rate: Callable[[int], float], *, largest: int) -> int:
    """1, 2, 4 and so on, until the rate no longer grows, a batch does not fit into memory, or it would be over `largest`.

    rate: pictures per second at a batch size. Raises what it raises, but for being out of memory.
    """
    best, best_rate, size = 1, 0.0, 1
    while size <= largest:
        try:
            found = rate(size)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            found = 0.0
        free_memory()
        if found < best_rate * GAIN or not found:
            break
        best, best_rate, size = size, found, 2 * size
    return best


def fastest_for(sampler: Sampler, items: Sequence[Item]) -> int:
    """The batch size for these items, by drawing some of them, with a few steps and their own noise."""
    asked = [(item.prompt.id, item.prompt.text, item.k) for item in items[:LARGEST]]

    def rate(size: int) -> float:
        batch = list(islice(cycle(asked), size))
        sampler.pixels(batch, steps=STEPS)  # encodes texts, and chooses or compiles kernels for this size
        began = time.perf_counter()
        sampler.pixels(batch, steps=STEPS)
        return size / (time.perf_counter() - began)

    return fastest(rate, largest=min(LARGEST, len(asked)))
