"""Training curves: the metrics of many training runs on one page, a thin line per seed and the mean of each recipe.

A training run is a folder with a card.json (recipe, seed) and a metrics.jsonl, of which each line holds an epoch and
the metrics measured in it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, FiniteFloat, NonNegativeInt, ValidationError
from scipy import special

from star_bench.analysis.numbers import number, signed
from star_bench.catalogue.cards import wrong
from star_bench.errors import UsageError
from star_bench.files.atomic import to_json, write_atomically
from star_bench.reporting.chart import Chart, Line
from star_bench.reporting.page import RECONSTRUCTED, page

INTERVAL = "95 % t-interval of the mean over seeds"
LEVEL = 0.95
COLOURS = 8
"""plot.css has so many."""
MINUS = "−"

FREE = (
    *("seed", "epochs", "guards", "masks", "save_every", "title", "note", "rollout.batch_size"),
    *(f"compute.{name}" for name in ("gradient_checkpointing", "compile", "offload_text_encoders", "cached_prompts")),
)
"""Settings in which the seeds of one mean may differ: they alter no update and no evaluation. compute.precision is none."""

Curve = dict[int, float | None]
"""Epoch -> value, in order of epochs; None where the trainer had no value."""


class _Notice(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")

    text: str


class _Card(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")

    recipe: str
    seed: int
    settings: dict[str, Any] = {}
    notices: list[_Notice] = []


class _Row(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")
    __pydantic_extra__: dict[str, FiniteFloat | None]

    epoch: NonNegativeInt


@dataclass(frozen=True)
class TrainingRun:
    """One seed of one recipe, with the settings that it was used with; metrics in the order in which the trainer first
    wrote them."""

    folder: Path
    recipe: str
    seed: int
    settings: dict[str, Any]
    metrics: dict[str, Curve]
    notices: tuple[str, ...] = ()
    """What a reader must know beside the numbers."""

    @property
    def precision(self) -> str | None:
        """Of the forwards."""
        said: str | None = self.settings.get("compute", {}).get("precision")
        return said

    @property
    def last_epoch(self) -> int:
        return max(epoch for curve in self.metrics.values() for epoch in curve)


@dataclass(frozen=True)
class Gain:
    """What an evaluation metric became between the first and the last epoch that every seed of a recipe has.

    firsts and lasts are by seed; low and high, INTERVAL of the gain, are None for a single seed. With fewer than two
    such epochs nothing has a value.
    """

    metric: str
    recipe: str
    seeds: tuple[int, ...]
    epochs: tuple[int, int] | None
    firsts: tuple[float, ...]
    lasts: tuple[float, ...]
    first: float | None
    last: float | None
    gain: float | None
    low: float | None
    high: float | None

    @property
    def gains(self) -> tuple[float, ...]:
        """By seed."""
        return tuple(last - first for first, last in zip(self.firsts, self.lasts, strict=True))


class _Group(NamedTuple):
    title: str
    starts: tuple[str, ...]


GROUPS = (
    _Group("Evaluation", ("eval/",)),
    _Group("Reward", ("reward",)),
    _Group("How far updates go", ("kl", "clip_fraction")),
)
"""In the page's order, by how a metric's name starts. What starts otherwise stands folded below them."""

UNITS = (
    ("eval/geneval", "share of images judged right"),
    ("eval/ocr", "1 − normalised edit distance"),
    ("kl", "mean over latent elements"),
    ("clip_fraction", "share"),
    ("ratio/max", "new probability / old"),
    ("ratio/first_log", "log of new probability / old"),
    ("ratio/last_log", "log of new probability / old"),
    ("seconds", "s"),
)
"""By how a metric's name starts; a metric that is not here has its name alone."""


def read_training(folder: Path) -> TrainingRun:
    """A finished training run. A torn last line (a kill while writing) is left out.

    Raises UsageError for a folder that holds none, for a broken line, with its number, and for a metric that was written
    twice in one epoch.
    """
    try:
        card = _Card.model_validate_json((folder / "card.json").read_bytes())
        lines = (folder / "metrics.jsonl").read_bytes().split(b"\n")[:-1]
    except OSError as error:
        raise UsageError(
            f"{folder} holds no finished training run ({error.filename}: {error.strerror})",
            "give the folder of a training run that came to its end",
        ) from None
    except ValidationError as error:
        raise UsageError(f"{folder / 'card.json'} {_said(error)}", "give a folder that the trainer wrote") from None
    metrics: dict[str, Curve] = {}
    for n, line in enumerate(lines, start=1):
        where = f"line {n} of {folder / 'metrics.jsonl'}"
        try:
            row = _Row.model_validate_json(line)
        except ValidationError as error:
            raise UsageError(f"{where} {_said(error)}", "restore the file, or train again") from None
        for name, value in row.__pydantic_extra__.items():
            curve = metrics.setdefault(name, {})
            if row.epoch in curve:
                raise UsageError(
                    f"{where} has {name} of epoch {row.epoch} for the second time, and which holds can't be known",
                    "remove the lines that do not belong to this training",
                )
            curve[row.epoch] = value
    if not metrics:
        raise UsageError(f"{folder / 'metrics.jsonl'} holds no number yet", "wait for the first epoch to end")
    in_order = {name: dict(sorted(curve.items())) for name, curve in metrics.items()}
    notices = tuple(notice.text for notice in card.notices)
    return TrainingRun(folder, card.recipe, card.seed, card.settings, in_order, notices)


def _said(error: ValidationError) -> str:
    return f"is broken ({': '.join(filter(None, wrong(error)))})"


def _told_apart(runs: Sequence[TrainingRun]) -> list[TrainingRun]:
    """A recipe that was changed (`--set`) is another: where runs of one differ, its name gets their settings."""
    out = []
    for run in runs:
        same = [other.settings for other in runs if other.recipe == run.recipe]
        changed = [f"{'.'.join(path)}={json.dumps(_at(run.settings, path))}" for path in _different(same)]
        out.append(replace(run, recipe=f"{run.recipe} ({', '.join(changed)})") if changed else run)
    return out


def _different(values: Sequence[Any], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Where in nested settings not all are equal. What one of them lacks, as another version's may, is not compared."""
    if all(isinstance(value, dict) for value in values):
        shared = [
            key for key in values[0] if all(key in value for value in values) and ".".join((*path, key)) not in FREE
        ]
        return [found for key in shared for found in _different([value[key] for value in values], (*path, key))]
    return [path] if any(value != values[0] for value in values) else []


def _at(settings: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        settings = settings[key]
    return settings


def by_recipe(runs: Sequence[TrainingRun]) -> dict[str, list[TrainingRun]]:
    """Recipe, with any settings that were changed -> its runs by seed, recipes in order of first sight. Raises UsageError
    for the same seed twice."""
    groups: dict[str, list[TrainingRun]] = {}
    for run in _told_apart(runs):
        group = groups.setdefault(run.recipe, [])
        twin = next((other for other in group if other.seed == run.seed), None)
        if twin is not None:
            raise UsageError(
                f"{twin.folder} and {run.folder} are both seed {run.seed} of {run.recipe}",
                "give each seed once, for a mean over seeds counts each of them once",
            )
        group.append(run)
    return {recipe: sorted(group, key=lambda run: run.seed) for recipe, group in groups.items()}


def mean_over_seeds(curves: Sequence[Curve]) -> Curve:
    """At the epochs that every curve has; None where one of them has no value."""
    out: Curve = {}
    for epoch in curves[0]:
        if all(epoch in curve for curve in curves):
            values = [value for curve in curves if (value := curve[epoch]) is not None]
            out[epoch] = float(np.mean(values)) if len(values) == len(curves) else None
    return out


def gain(metric: str, runs: Sequence[TrainingRun]) -> Gain:
    """Of one recipe's runs, one per seed."""
    curves = [run.metrics.get(metric, {}) for run in runs]
    recipe, seeds = runs[0].recipe, tuple(run.seed for run in runs)
    shared = [epoch for epoch, value in mean_over_seeds(curves).items() if value is not None]
    if len(shared) < 2:
        return Gain(metric, recipe, seeds, None, (), (), None, None, None, None, None)
    firsts, lasts = (np.array([curve[epoch] for curve in curves], float) for epoch in (shared[0], shared[-1]))
    gains = lasts - firsts
    low, high = _t_interval(gains)
    return Gain(
        metric,
        recipe,
        seeds,
        (shared[0], shared[-1]),
        tuple(firsts.tolist()),
        tuple(lasts.tolist()),
        float(firsts.mean()),
        float(lasts.mean()),
        float(gains.mean()),
        low,
        high,
    )


def _t_interval(values: np.ndarray) -> tuple[float | None, float | None]:
    """Of the mean of (n,) values; (None, None) for one value, which knows nothing of its spread."""
    n = len(values)
    if n < 2:
        return None, None
    half = float(special.stdtrit(n - 1, (1 + LEVEL) / 2)) * float(values.std(ddof=1)) / math.sqrt(n)
    return float(values.mean()) - half, float(values.mean()) + half


def write_curves(folders: Sequence[Path], out: Path) -> Path:
    """Writes curves.json and index.html of these training runs into `out`; returns index.html's path.

    Raises what `read_training` and `by_recipe` raise, UsageError for no folder at all, and DiskError for a file that
    can't be written.
    """
    if not folders:
        raise UsageError("there is no training run to draw", "give the folder of at least one")
    recipes = by_recipe([read_training(folder) for folder in folders])
    names = list(dict.fromkeys(name for runs in recipes.values() for run in runs for name in run.metrics))
    means = {
        recipe: {name: mean_over_seeds([run.metrics.get(name, {}) for run in runs]) for name in names}
        for recipe, runs in recipes.items()
    }
    gains = [gain(name, runs) for name in names if name.startswith("eval/") for runs in recipes.values()]
    write_atomically(out / "curves.json", to_json(_as_data(recipes, means, gains)))
    write_atomically(out / "index.html", _html(recipes, means, gains, names).encode("utf-8", "replace"))
    return out / "index.html"


def _as_data(
    recipes: dict[str, list[TrainingRun]], means: dict[str, dict[str, Curve]], gains: Sequence[Gain]
) -> dict[str, Any]:
    def listed(curves: dict[str, Curve]) -> dict[str, Any]:
        return {
            name: {"epochs": list(curve), "values": list(curve.values())} for name, curve in curves.items() if curve
        }

    return {
        "method": RECONSTRUCTED,
        "interval": INTERVAL,
        "gains": [{**asdict(entry), "gains": entry.gains} for entry in gains],
        "means": {recipe: listed(curves) for recipe, curves in means.items()},
        "runs": [
            {
                "recipe": run.recipe,
                "seed": run.seed,
                "folder": run.folder.name,
                "precision": run.precision,
                "notices": run.notices,
                "metrics": listed(run.metrics),
            }
            for runs in recipes.values()
            for run in runs
        ],
    }


def _unit(metric: str) -> str:
    return next((unit for start, unit in UNITS if metric.startswith(start)), "")


def _colour(k: int) -> str:
    return f"c{k % COLOURS}" + (" again" if k >= COLOURS else "")


def _chart(metric: str, recipes: dict[str, list[TrainingRun]], means: dict[str, dict[str, Curve]]) -> Chart:
    """Seeds below, means above. A recipe's only seed is its mean."""
    seeds, thick, said = [], [], []
    for k, (recipe, runs) in enumerate(recipes.items()):
        colour, mean = _colour(k), means[recipe][metric]
        if len(runs) > 1:
            seeds += [
                Line(f"{recipe}, seed {run.seed}", list(run.metrics.get(metric, {}).items()), f"{colour} seed")
                for run in runs
            ]
        who = f"{recipe}, {_seeds(len(runs))}"
        thick.append(Line(who, list(mean.items()), f"{colour} mean"))
        ends = [value for value in mean.values() if value is not None]
        said.append(f"{who}: {ends[0]:.4g} to {ends[-1]:.4g}" if ends else f"{who}: no mean")
    return Chart(metric, _unit(metric), "epoch", [*seeds, *thick], f"{metric} by epoch. {'; '.join(said)}")


def _seeds(count: int) -> str:
    return "1 seed" if count == 1 else f"mean of {count} seeds"


def _html(
    recipes: dict[str, list[TrainingRun]], means: dict[str, dict[str, Curve]], gains: Sequence[Gain], names: list[str]
) -> str:
    charts = {name: _chart(name, recipes, means) for name in names}
    groups = {
        group.title: [charts.pop(name) for start in group.starts for name in names if name.startswith(start)]
        for group in GROUPS
    }
    of_metric: dict[str, list[Gain]] = {}
    for entry in gains:
        of_metric.setdefault(entry.metric, []).append(entry)
    values = {
        "recipes": recipes,
        "key": [
            (f"{_colour(k)} mean", f"{recipe} ({_seeds(len(runs))})")
            for k, (recipe, runs) in enumerate(recipes.items())
        ],
        "runs": [run for runs in recipes.values() for run in runs],
        "gains": of_metric,
        "unit": _unit,
        "plain": number,
        "signed": _signed,
        "has_seeds": any(len(runs) > 1 for runs in recipes.values()),
        "groups": {title: drawn for title, drawn in groups.items() if drawn},
        "rest": list(charts.values()),
        "interval": INTERVAL,
        "reconstructed": RECONSTRUCTED,
    }
    return page("curves.html.j2", values, styles=["plot.css", "curves.css"])


def _signed(value: float) -> str:
    return signed(value).replace("-", MINUS)
