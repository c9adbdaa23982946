"""What the speed measurements share: a clock, orders that alternate, and the figures of several rounds."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from statistics import median
from typing import Any, TypeVar

import numpy as np
import torch

RESAMPLES = 10_000  # chosen here; the interval's ends then change by less than they are printed with
T = TypeVar("T")


def one_thread(device: str) -> bool:
    """Then time is the process's own CPU time, which leaves out what else runs on a shared machine."""
    return device == "cpu" and torch.get_num_threads() == 1


def now(device: str) -> float:
    """Seconds, read when all that was asked of the device is done."""
    if device != "cpu":
        torch.accelerator.synchronize()
    return time.process_time() if one_thread(device) else time.perf_counter()


def seconds(work: Callable[[], object], device: str) -> float:
    start = now(device)
    work()
    return now(device) - start


def in_rounds(variants: Mapping[str, Callable[[int], T]], rounds: int, *, warm: bool = False) -> dict[str, list[T]]:
    """What each variant returns in each round, to which it is told the round's number.

    A B, B A, A B ...: a machine that grows slower meets all alike. Before round 1 comes one that warms up and does not
    count, unless nothing needs it.
    """
    out: dict[str, list[T]] = {name: [] for name in variants}
    for number in range(1 if warm else 0, 1 + rounds):
        for name in list(variants)[:: 1 if number % 2 else -1]:
            result = variants[name](number)
            if number:
                out[name].append(result)
    return out


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"min": min(values), "median": median(values), "max": max(values)}


def interval(values: Sequence[float]) -> dict[str, float]:
    """The median and its 95 % percentile bootstrap interval, from a seed of its own."""
    drawn = np.random.default_rng(0).choice(np.array(values), (RESAMPLES, len(values)))
    low, high = np.quantile(np.median(drawn, axis=1), [0.025, 0.975])
    return {"low": float(low), "median": median(values), "high": float(high)}


def setting(device: str, libraries: Sequence[str], goal: Mapping[str, float]) -> dict[str, Any]:
    """What the figures were measured with, in words that name no machine."""
    threads = torch.get_num_threads()
    name = torch.cuda.get_device_name() if device == "cuda" else device.upper()
    return {
        "device": f"{name}, {threads} {'thread' if threads == 1 else 'threads'}",
        "threads": threads,
        "clock": "CPU time" if one_thread(device) else "wall clock",
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in libraries}},
        "goal": dict(goal),
    }


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """As Markdown."""
    return "".join(f"| {' | '.join(line)} |\n" for line in [head, ["---"] * len(head), *rows])
