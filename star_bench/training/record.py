"""A training run's folder: its recipe, its lines of metrics, its states. One process writes it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

from star_bench.catalogue.cards import did_you_mean, load_yaml, parse
from star_bench.errors import Refused, UsageError
from star_bench.files.atomic import write_atomically
from star_bench.files.json import read_rows
from star_bench.runs.store import RowFile
from star_bench.training import state as states
from star_bench.training.output import METRICS, RECIPE
from star_bench.training.recipe import Recipe
from star_bench.training.state import State

STATES = "state"


class Record:
    """What a run has written of itself, and goes on from."""

    def __init__(self, folder: Path, recipe: Recipe, identity: str) -> None:
        """identity: a digest of all that decides the next epoch beside the state; a run goes on only under the same."""
        self.folder, self.recipe, self.identity = folder, recipe, identity

    def check(self) -> None:
        """Raises Refused where the folder was begun under other settings, and names them."""
        file = self.folder / RECIPE
        if not file.is_file():
            return
        old, new = (flat(each.deciding()) for each in (parse(Recipe, load_yaml(file), str(file)), self.recipe))
        different = [
            f"{key.replace('/', '.')} was {old.get(key, 'not set')} and is now {new.get(key, 'not set')}"
            for key in sorted(old.keys() | new.keys())
            if old.get(key) != new.get(key)
        ]
        if different:
            raise Refused(
                f"{self.folder} was begun with other settings ({'; '.join(different)})",
                f"give another --out, or the settings in {file}",
            )

    def newest(self, note: Callable[[str], None]) -> State | None:
        """The state to go on from; None at the beginning.

        Raises Refused for one of another base, judge or prompt file, and UsageError where more epochs are done than asked.
        """
        state = states.latest(self.folder / STATES, note)
        if state is None:
            return None
        if "sessions" not in state.numbers:
            raise Refused(
                f"the states in {self.folder} are of an older star-bench, which counted other settings as the recipe's",
                "give another --out, or finish it with that version",
            )
        if state.epoch > self.recipe.epochs:
            raise UsageError(
                f"{state.epoch} epochs are done in {self.folder}, and {self.recipe.epochs} are asked for",
                f"give epochs={state.epoch} or more, or another --out",
            )
        if state.numbers["identity"] != self.identity:
            raise Refused(
                f"the base model, a judge or the training prompts are not those that {self.folder} was begun with",
                "put them back, or give another --out",
            )
        return state

    def begin(self, state: State | None) -> None:
        """Writes the recipe, and drops the lines of epochs that come again: those after the state, without one all."""
        recipe = yaml.safe_dump(self.recipe.model_dump(mode="json"), sort_keys=False)
        write_atomically(self.folder / RECIPE, recipe.encode())
        rows = [row for row in self.rows() if state is not None and row["epoch"] <= state.epoch]
        write_atomically(self.folder / METRICS, "".join(json.dumps(row) + "\n" for row in rows).encode())
        self._lines = RowFile(self.folder / METRICS)

    def add(self, metrics: dict[str, Any]) -> None:
        """An epoch's line, synced to disk."""
        self._lines.append([metrics])

    def rows(self) -> list[dict[str, Any]]:
        return read_rows(self.folder / METRICS)

    def save(self, state: State) -> None:
        """After the epoch's line, so that a state on disk has all its lines."""
        numbers = {"identity": self.identity, **state.numbers}
        states.save(self.folder / STATES, State(state.epoch, state.tensors, numbers))


def trackers(names: Sequence[str]) -> list[str]:
    """The names again. Raises UsageError for a tracker that accelerate does not know, or whose package is not installed."""
    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            raise UsageError(f"there is no tracker {name!r}", did_you_mean(name, LOGGER_TYPE_TO_CLASS))
        if name not in {str(found) for found in get_available_trackers()}:
            raise UsageError(f"the tracker {name!r} is not installed", f"run `pip install {name}`")
    return list(names)


def flat(data: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as "section/key": what trackers take."""
    out: dict[str, str] = {}
    for key, value in data.items():
        out |= flat(value, f"{prefix}{key}/") if isinstance(value, dict) else {f"{prefix}{key}": str(value)}
    return out
