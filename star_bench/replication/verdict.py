"""Was a published number reproduced? What is said of a row, and why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from star_bench.replication.window import Window


class Verdict(StrEnum):
    """Only the first two say something of the published number."""

    REPRODUCED = "reproduced"
    DIFFERS = "differs"
    INCONCLUSIVE = "inconclusive"
    PROTOCOL_NOT_STATED = "protocol not stated"
    INCOMPLETE = "incomplete"
    FAILED = "failed"
    NOT_RUN = "not run"


UNDECIDED = (Verdict.INCONCLUSIVE, Verdict.INCOMPLETE, Verdict.FAILED)
"""The row was run, and what a verdict needs did not come out: more work, and not the source's fault."""


@dataclass(frozen=True)
class Finding:
    """reasons: whole sentences without a full stop, what weighs most first."""

    verdict: Verdict
    reasons: tuple[str, ...] = ()


def judge(difference: float, window: Window | None, widest: float) -> Finding:
    """difference: measured - published. window: None where a tag has a single prompt and nothing is known of chance.

    A difference beyond even a wide window is one. Within a window wider than `widest` nothing is known.
    """
    if window is None:
        reason = (
            "a tag has a single prompt with a single image, so nothing is known of chance: run it with more prompts"
        )
        return Finding(Verdict.INCONCLUSIVE, (reason,))
    if not window.holds(difference):
        return Finding(Verdict.DIFFERS, (f"the difference is outside the window of ±{window.half:.4f}",))
    if window.half > widest:
        reason = f"the window of ±{window.half:.4f} is wider than ±{widest:g}, so it says too little"
        return Finding(Verdict.INCONCLUSIVE, (f"{reason}: run it with more images",))
    return Finding(Verdict.REPRODUCED)
