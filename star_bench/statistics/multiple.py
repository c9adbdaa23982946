"""Many tests at once: one of twenty would cry at 5 % by chance alone."""

from __future__ import annotations

from collections.abc import Mapping

METHOD = "Holm's step-down correction (Scandinavian Journal of Statistics 6, 1979)"


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjusted p-values by name, in the order given: to reject what is at most alpha errs anywhere with at most alpha."""
    adjusted: dict[str, float] = {}
    highest = 0.0
    for rank, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = highest
    return {name: adjusted[name] for name in p_values}
