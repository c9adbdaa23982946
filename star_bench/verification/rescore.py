"""Judges a recorded run's pictures again, and says score by score what came out otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from star_bench.evaluators.base import Score, Status, check_canaries
from star_bench.runs.finished import RunFiles, RunImage
from star_bench.runs.pictures import SAMPLES, PictureStore
from star_bench.runs.progress import Progress
from star_bench.runs.score import score_here
from star_bench.runs.scores import ScoreStore
from star_bench.runs.summary import summarise
from star_bench.verification.recorded import Recorded

RELATIVE = 1e-3
"""Chosen here: a judge on another CPU or GPU moves a score by less. A verdict is 0 or 1, and no other number is near 0."""


@dataclass(frozen=True)
class Change:
    """A picture that is judged otherwise than recorded. k is None for a value of a whole prompt.

    measure: "score", or an aggregate's name. recorded, now: a value, or the status of a picture without one.
    """

    prompt_id: str
    k: int | None
    picture: str | None
    measure: str
    recorded: float | str
    now: float | str


@dataclass(frozen=True)
class Rescored:
    """same: pictures whose score is equal to the last bit; close: within the tolerance, and not the same.

    unjudged: pictures that have a score and that the judges here failed on, each with its reason.
    largest: the largest difference of two scores, in the metric's unit; None where no two could be compared.
    headline: the first aggregate with its interval, of today's scores; None where a picture is not there.
    """

    device: str
    canaries: int
    judged: int
    same: int
    close: int
    changes: tuple[Change, ...]
    unjudged: tuple[tuple[str, str], ...]
    largest: float | None
    headline: dict[str, Any] | None

    @property
    def changed(self) -> int:
        """Pictures, or prompts for a value of a whole prompt, with any change."""
        return len({(change.prompt_id, change.k) for change in self.changes})

    @property
    def sentences(self) -> list[str]:
        said = [f"{self.same + self.close} of {self.judged} pictures are judged as recorded"]
        if self.changes:
            said.append(f"{self.changed} otherwise")
        if self.unjudged:
            said.append(f"{len(self.unjudged)} could not be judged here ({self.unjudged[0][1]})")
        return said


def is_close(recorded: float, now: float, relative: float = RELATIVE) -> bool:
    """0 is close to nothing but 0."""
    return abs(recorded - now) <= relative * max(abs(recorded), abs(now))


def rescore(
    run: RunFiles, recorded: Recorded, folder: Path, *, skip: Set[str], device: str, batch_size: int, bar: Progress
) -> Rescored:
    """Canaries first, then every picture but those in `skip` (paths that are not there), as a run scores them.

    folder: keeps the new scores, so that the same call goes on where it was stopped. Raises Refused for a canary.
    """
    plan, evaluator = recorded.plan, recorded.evaluator
    bar.note(plan.metric.identity)
    canaries = check_canaries(evaluator)
    store = ScoreStore(folder)
    store.write_rows(SAMPLES, (_sample(run, image) for image in run.images))
    score_here(plan, PictureStore(folder), store, evaluator, bar, batch_size=batch_size)
    new = {key: Score(row["value"], Status(row["status"]), row["detail"]) for key, row in store.rows.items()}
    judged = [image for image in run.images if image.sample and image.sample.path and image.sample.path not in skip]
    pairs = [Pair(image, _recorded(image), new[image.prompt.id, image.k]) for image in judged]
    failed = [pair for pair in pairs if pair.now.status is Status.ERROR is not pair.was.status]
    able = [pair for pair in pairs if pair not in failed]
    changes = [*(change for pair in able for change in _changes(recorded, pair)), *_of_prompts(recorded, able)]
    touched = {(change.prompt_id, change.k) for change in changes}
    as_was = [pair for pair in able if (pair.image.prompt.id, pair.image.k) not in touched]
    same = sum((pair.was.value, pair.was.status) == (pair.now.value, pair.now.status) for pair in as_was)
    distances = [abs(p.was.value - p.now.value) for p in able if p.was.value is not None and p.now.value is not None]
    whole = None if skip or failed else summarise(plan, evaluator, store.rows, canaries=canaries)
    return Rescored(
        device=device,
        canaries=canaries,
        judged=len(pairs),
        same=same,
        close=len(as_was) - same,
        changes=tuple(changes),
        unjudged=tuple((pair.name, str(pair.now.detail.get("error"))) for pair in failed),
        largest=max(distances, default=None),
        headline=whole and whole["aggregates"][0],
    )


@dataclass(frozen=True)
class Pair:
    """A picture with its recorded score and today's."""

    image: RunImage
    was: Score
    now: Score

    @property
    def name(self) -> str:
        return f"{self.image.prompt.id}/{self.image.k}"


def _sample(run: RunFiles, image: RunImage) -> dict[str, Any]:
    """A row for the store of new scores: the recorded picture, where it lies."""
    sample = image.sample
    path = str((run.pictures / sample.path).resolve()) if sample and sample.path else None
    row = {"prompt_id": image.prompt.id, "k": image.k, "path": path, "sha256": sample and sample.sha256}
    return {**row, "status": "ok"} if path else {**row, "status": image.status.value, "reason": "as recorded"}


def _recorded(image: RunImage) -> Score:
    return Score(image.value, image.status, image.score.detail if image.score else {})


def _changes(recorded: Recorded, pair: Pair) -> Iterator[Change]:
    """The score's, and those of what the aggregates take from it where that is another number."""
    image, was, now = pair.image, pair.was, pair.now
    path = image.sample.path if image.sample else None

    def change(measure: str, old: float | str, new: float | str) -> Change:
        return Change(image.prompt.id, image.k, path, measure, old, new)

    if was.value is None or now.value is None:
        if was.status is not now.status:
            yield change("score", *(each.status.value if each.value is None else each.value for each in (was, now)))
        return
    if not is_close(was.value, now.value):
        yield change("score", was.value, now.value)
    for aggregate in recorded.evaluator.aggregates:
        old, new = aggregate.value(was), aggregate.value(now)
        if _is_number(old) and (old, new) != (was.value, now.value) and not is_close(old, new):
            yield change(aggregate.name, float(old), float(new))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))


def _of_prompts(recorded: Recorded, pairs: list[Pair]) -> Iterator[Change]:
    """Of aggregates that take no number from a picture but make one of all pictures of a prompt, such as diversity."""
    scored: dict[str, list[Pair]] = {}
    for pair in pairs:
        if pair.was.value is not None and pair.now.value is not None:
            scored.setdefault(pair.image.prompt.id, []).append(pair)
    for aggregate in recorded.evaluator.aggregates:
        if aggregate.of_prompt is None:
            continue
        for prompt_id, mine in scored.items():
            if len(mine) < recorded.plan.samples or _is_number(aggregate.value(mine[0].was)):
                continue
            old, new = (
                aggregate.of_prompt([aggregate.value(s) for s in each])
                for each in zip(*((p.was, p.now) for p in mine), strict=True)
            )
            if old is not None and new is not None and not is_close(old, new):
                yield Change(prompt_id, None, None, aggregate.name, old, new)
