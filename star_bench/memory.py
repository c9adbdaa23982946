"""Too little memory: how libraries say it, and what a person is told where weights do not fit."""

from __future__ import annotations

import gc
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from star_bench.errors import Incomplete

WORDS = (
    *("can't allocate memory", "not enough memory", "out of memory", "bad allocation", "bad_alloc"),
    *("could not create a primitive", "could not create a memory object"),
)
"""How torch on a CPU, CUDA libraries, ONNX Runtime and, last, oneDNN say it, in errors that have no type of their own."""
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
GB = 1e9


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it, or what it was raised from, is of too little memory."""
    torch = sys.modules.get("torch")
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, MemoryError) or (torch and isinstance(seen, torch.OutOfMemoryError)):
            return True
        if isinstance(seen, RuntimeError) and any(words in str(seen).lower() for words in WORDS):
            return True
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return False


def free_memory() -> None:
    """Gives back what nobody holds any more. Not while an error is being handled: it holds all that its work had."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_available():
        torch.cuda.empty_cache()


def numbers_in(files: Iterable[Path]) -> int:
    """How many numbers safetensors files hold, by their headers. Raises OSError and ValueError for files that are none."""
    total = 0
    for path in files:
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        total += sum(math.prod(said["shape"]) for name, said in header.items() if name != "__metadata__")
    return total


@contextmanager
def fitting(what: str, device: str, remedy: str, needed: Callable[[], float] | None = None) -> Iterator[None]:
    """Around the loading of weights. Raises Incomplete (exit 3), and not the library's error, where they are too large for
    the device. needed: bytes, where they can be told."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        size = f": its weights alone take {needed() / GB:.3g} GB" if needed else ""
        free = _free(device)
        there = "" if free is None else f" and {free / GB:.3g} GB are free"
        raise Incomplete(f"{what} does not fit into the memory of {device}{size}{there}", remedy) from None


def _free(device: str) -> float | None:
    if device.startswith("cuda"):
        free: int = sys.modules["torch"].cuda.mem_get_info(device)[0]
        return free
    try:
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (ValueError, OSError):
        return None
