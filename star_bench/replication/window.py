"""How far a measured number may lie from a published one before chance no longer explains it. Reasons: docs/replicate.md."""

from __future__ import annotations

from dataclasses import dataclass

SAME = "the same noise: rounding and tolerance alone"
WITHIN = "sqrt(2) x the 95 % half width of the noise within prompts (Student's t), rounding, tolerance"
WHOLE = (
    "sqrt(2) x half of the run's own 95 % interval (on average too wide: one value per prompt does not show its noise), "
    "rounding, tolerance"
)
SIX_DECIMALS = 1e-6
"""What a run's results are rounded to."""


@dataclass(frozen=True)
class Window:
    """Two-sided, around the published number, in its unit. basis says how it was made.

    noise: of two draws of noise on the same prompts, the published one and ours; 0 where they are the same draw.
    rounding: half a unit of the last printed decimal. tolerance: the row's own.
    """

    noise: float
    rounding: float
    tolerance: float
    basis: str

    @property
    def half(self) -> float:
        """A difference of at most so much is within the window."""
        return self.noise + self.rounding + self.tolerance

    def holds(self, difference: float) -> bool:
        return abs(difference) <= self.half + SIX_DECIMALS
