"""Numbers as people read them, the same everywhere: a value that stands in a file with six decimals and one that was just
computed may differ in their last bits, and must not be printed as two numbers.
"""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

ABSENT = "–"
RECORDED = 6
"""Decimals of results.json."""


def number(value: float | None, decimals: int = 4) -> str:
    """Rounded as by hand, halves away from zero, from the value as results.json has it; a dash for none and for NaN."""
    if value is None or value != value:
        return ABSENT
    places = Decimal(1).scaleb(-decimals)
    rounded = Decimal(repr(round(float(value), RECORDED))).quantize(places, ROUND_HALF_UP)
    return str(rounded if rounded else abs(rounded))


def signed(value: float | None) -> str:
    """The same with a sign; 0 has a plus."""
    text = number(value)
    return text if text == ABSENT or text.startswith("-") else f"+{text}"
