"""A replication plan: published numbers in YAML, each with what it was measured on, how, and who printed it."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from star_bench.catalogue import checkpoints, suites
from star_bench.catalogue.cards import Strict, did_you_mean, load_yaml, parse
from star_bench.catalogue.shipped import shipped
from star_bench.catalogue.suites import NOT_STATED
from star_bench.errors import UsageError
from star_bench.evaluators.base import Metric

PLANS = {
    "paper": shipped("benchmarks/replication.yaml", "replication.yaml"),
    "miniature": shipped("benchmarks/replication-miniature.yaml", "replication-miniature.yaml"),
}
"""The plans that come with the package."""

CLAIMED = "claimed"
"""In place of a checkpoint: its numbers were printed, and no weights of it are known."""

Unstated = Literal["not stated"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*$")]
NUMBER = re.compile(r"-?\d+(\.\d+)?")


def _as_printed(value: Any) -> Any:
    if not isinstance(value, str) or not NUMBER.fullmatch(value):
        raise ValueError('write it in quotes as it was printed, as in "23.60": its decimals say how it was rounded')
    return value


class StatedProtocol(Strict):
    """How the published pictures were made, as far as it was said. What is left out is the model's own, and of samples the
    suite's; what the source does not say is "not stated"."""

    samples: Annotated[int, Field(ge=1)] | Unstated | None = None
    """Images per prompt."""
    steps: Annotated[int, Field(ge=1)] | Unstated | None = None
    guidance_scale: Annotated[float, Field(ge=0)] | Unstated | None = None
    size: Annotated[int, Field(ge=8)] | Unstated | None = None
    """Height and width, pixels."""
    seed: Annotated[int, Field(ge=0)] | Unstated = "not stated"
    """Most papers state none. Another seed is another draw of noise, which the window covers."""
    dtype: Literal["float32", "float16", "bfloat16"] | None = None

    @property
    def unstated(self) -> list[str]:
        """The settings but for the seed that the source does not say, in words."""
        return [name.replace("_", " ") for name, value in self if value == NOT_STATED and name != "seed"]

    def stated(self, name: str) -> Any:
        """A setting's value; None where it is not stated, or left to the suite."""
        value = getattr(self, name)
        return None if value == NOT_STATED else value

    @property
    def words(self) -> str:
        """Such as "512 px, 40 steps, guidance 4.5, 4 images per prompt, seed not stated"."""
        forms = {
            "size": "{} px",
            "steps": "{} steps",
            "guidance_scale": "guidance {:g}",
            "samples": "{} per prompt",
            "dtype": "{}",
        }
        said = [form.format(value) for name, form in forms.items() if (value := self.stated(name)) is not None]
        seed = [] if self.seed == NOT_STATED else [f"seed {self.seed}"]
        missing = [*self.unstated, *(["seed"] if self.seed == NOT_STATED else [])]
        return ", ".join([*said, *seed, *(f"{name} not stated" for name in missing)])


class Judged(Strict):
    """What measured the published numbers of a suite, as far as it matters; and how wide a window still says something.

    A run of another metric is not held against them. implementation and version: only where another one is known to
    give other numbers.
    """

    metric: str
    unit: str
    implementation: str | None = None
    version: str | None = None
    widest_window: float = Field(gt=0)
    """In the unit. A number that lies within a wider window than this is no reproduction: the run can't tell."""

    def unlike(self, metric: Metric) -> str | None:
        """The first difference from a metric, in words; None where it is the same."""
        pairs = {
            "name": (self.metric, metric.name),
            "unit": (self.unit, metric.unit),
            "implementation": (self.implementation, metric.implementation),
            "version": (self.version, metric.version),
        }
        for part, (published, here) in pairs.items():
            if published is not None and published != here:
                return f"published with the {part} {published!r}, and here it is {here!r}"
        return None


class Grid(Strict):
    """Settings to try in place of a row's own, all with all. An axis that is left out stays as it is in the row."""

    steps: tuple[Annotated[int, Field(ge=1)], ...] = ()
    guidance_scale: tuple[Annotated[float, Field(ge=0)], ...] = ()
    size: tuple[Annotated[int, Field(ge=8)], ...] = ()
    seed: tuple[Annotated[int, Field(ge=0)], ...] = ()

    @model_validator(mode="after")
    def _is_a_grid(self) -> Grid:
        if not any(values for _, values in self):
            raise ValueError("give at least one of steps, guidance_scale, size and seed")
        twice = [name for name, values in self if len(set(values)) < len(values)]
        if twice:
            raise ValueError(f"{twice[0]} names a value twice")
        return self

    def cells(self) -> Iterator[dict[str, Any]]:
        """Setting -> value for every cell, the last axis fastest."""
        axes = {name: values for name, values in self if values}
        for values in itertools.product(*axes.values()):
            yield dict(zip(axes, values, strict=True))


class Row(Strict):
    """One published number."""

    id: Name
    model: str
    """As the source calls it."""
    checkpoint: str
    """As `star-bench run --model` takes it, or "claimed"."""
    suite: str
    """As `star-bench run --suite` takes it; the plan's `suites` says what it is judged by."""
    measure: str
    """Of the suite's aggregates or tags, or "not stated": then the suite's headline is shown beside it."""
    published: Annotated[str, BeforeValidator(_as_printed)]
    """As it was printed, with its decimals."""
    source: str
    protocol: str
    """A name of the plan's `protocols`, or "not stated"."""
    prompts: int | None = Field(default=None, ge=1)
    """How many the number is over, where that was said."""
    limit: int | None = Field(default=None, ge=1)
    """Only so many prompts, as `star-bench run --limit`."""
    tolerance: float = Field(default=0.0, ge=0)
    """Added to the window, in the metric's unit; say why in `note`."""
    same_noise: bool = False
    """Measured by star-bench with the stated seed: the same noise, so chance has no part in a difference."""
    sensitivity: Grid | None = None
    note: str = ""

    @property
    def value(self) -> float:
        return float(self.published)

    @property
    def rounding(self) -> float:
        """Half a unit of the last printed decimal: the unrounded number is not further away."""
        exponent = Decimal(self.published).as_tuple().exponent
        assert isinstance(exponent, int)  # the pattern lets no infinity through
        return 0.5 * 10.0**exponent


class Plan(Strict):
    """The whole file."""

    name: Name
    title: str
    note: str = ""
    protocols: dict[str, StatedProtocol] = Field(default_factory=dict)
    suites: dict[str, Judged]
    rows: tuple[Row, ...] = Field(min_length=1)

    def protocol(self, row: Row) -> StatedProtocol | None:
        """None where the source states none."""
        return None if row.protocol == NOT_STATED else self.protocols[row.protocol]

    def unstated(self, row: Row) -> str | None:
        """What the source leaves open and a verdict would need, in words; None where nothing is."""
        protocol = self.protocol(row)
        missing = ["protocol"] if protocol is None else protocol.unstated
        if row.measure == NOT_STATED:
            missing = [*missing, "measure"]
        return f"{', '.join(missing)} not stated" if missing else None


def load(name: str) -> Plan:
    """A plan of PLANS by name, or one by its path. Raises UsageError, with the row, for a broken one."""
    path = PLANS.get(name, Path(name))
    if name not in PLANS and path.suffix not in (".yaml", ".yml"):
        raise UsageError(
            f"there is no plan named {name!r}", f"{did_you_mean(name, PLANS)}, or give a plan's .yaml file"
        )
    plan = parse(Plan, load_yaml(path), str(path))
    twice = [row_id for row_id, count in Counter(row.id for row in plan.rows).items() if count > 1]
    if twice:
        raise UsageError(f"{path}: {twice[0]!r} is the id of two rows", "give each row an id of its own")
    for row in plan.rows:
        _check(row, plan, f"{path}: row {row.id}")
    return plan


def _check(row: Row, plan: Plan, where: str) -> None:
    """What one row names must be there, and fit together."""
    if row.protocol != NOT_STATED and row.protocol not in plan.protocols:
        known = [*plan.protocols, NOT_STATED]
        raise UsageError(f"{where}: there is no protocol named {row.protocol!r}", did_you_mean(row.protocol, known))
    if row.suite not in plan.suites:
        raise UsageError(
            f"{where}: nothing says what suite {row.suite!r} is judged by", "add it to the plan's `suites`"
        )
    suites.load(row.suite)
    if row.checkpoint != CLAIMED:
        checkpoints.resolve(row.checkpoint)
    protocol = plan.protocol(row)
    if row.same_noise and (protocol is None or protocol.seed == NOT_STATED):
        raise UsageError(f"{where}: same_noise needs the seed", "name a protocol that states it, or remove same_noise")


def choose(plan: Plan, ids: Sequence[str], *, sensitivity: bool) -> tuple[Row, ...]:
    """The rows of these ids in the plan's order; all where none is named.

    Raises UsageError for an unknown id, and, with `sensitivity`, where none of the rows has a grid.
    """
    known = [row.id for row in plan.rows]
    for wanted in ids:
        if wanted not in known:
            raise UsageError(f"plan {plan.name!r} has no row {wanted!r}", did_you_mean(wanted, known))
    rows = tuple(row for row in plan.rows if not ids or row.id in ids)
    if sensitivity and not any(row.sensitivity for row in rows):
        raise UsageError("none of these rows has a sensitivity grid", "add `sensitivity` to a row, or leave it out")
    return rows
