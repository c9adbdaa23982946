"""What a number of a run is: the identity of the suite's metric, or of the one of its measures that the number is of."""

from __future__ import annotations

from star_bench.runs.finished import MeasureEntry, Results


def measure_of(results: Results, aggregate: str) -> MeasureEntry | None:
    """Of a suite that measures several things; None where the metric says it all."""
    return next((measure for measure in results.measures if measure.name == aggregate), None)


def identity_of(results: Results, aggregate: str) -> str:
    """Numbers whose identities differ are not comparable."""
    measure = measure_of(results, aggregate)
    if measure is None:
        return results.metric.identity
    return f"{measure.name} [{measure.unit}], {measure.implementation} {measure.version}"
