"""Scores into their store: every picture of a plan that has none yet is judged, and results are made of all."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from star_bench.evaluators.base import Begun, Evaluator, Judged, Score, Status, check_canaries
from star_bench.files.atomic import write_atomically
from star_bench.files.pictures import UnusablePicture, check_picture
from star_bench.memory import free_memory
from star_bench.runs.beside import beside
from star_bench.runs.draw import Batches
from star_bench.runs.engines.base import Engine, MakeWorker, Settings
from star_bench.runs.engines.local import LocalEngine
from star_bench.runs.environment import of_mixture
from star_bench.runs.manifest import SCHEMA
from star_bench.runs.notices import of_canaries, of_judge, plain
from star_bench.runs.pictures import PictureStore
from star_bench.runs.plan import Item, Plan
from star_bench.runs.progress import Progress
from star_bench.runs.scores import RESULTS, ScoreStore
from star_bench.runs.store import Key
from star_bench.runs.workers import Asked, Judge, finished, judging

Conclude = Callable[[Plan, PictureStore, ScoreStore, Evaluator, int], dict[str, Any]]
"""Makes an end, given also how many canaries were judged."""


def planned(plan: Plan) -> dict[str, Any]:
    """What a manifest of scores says of its plan."""
    identity = plan.identity()
    prompts = identity.pop("prompts")  # last: by far the longest, and often not read
    return {
        "schema": SCHEMA,
        "digest": plan.digest(),
        "model": plan.subject.digest,
        "protocol": plan.pictures.identity()["protocol"],
        "suite": plan.card.content,
        **identity,
        "prompts": prompts,
    }


def begin_scores(
    plan: Plan,
    store: ScoreStore,
    evaluator: Evaluator,
    *,
    environment: dict[str, Any],
    source: dict[str, Any],
    remote: bool = False,
    apart: bool = False,
    bar: Progress,
) -> int:
    """Writes what is planned and judges the canaries; returns how many there were.

    source: where the pictures come from. apart: the canaries are judged by an evaluator of their own that is let go, so
    that the judge's networks hold no memory of the device while a model is loaded and draws. They are loaded twice.
    Raises Refused when a canary is misjudged.
    """
    engine = "elsewhere" if remote else "local"
    store.begin(planned(plan), {"source": source}, environment, engine=engine)
    store.write_rows(
        "prompts.jsonl", ({"id": p.id, "text": p.text, "tag": p.tag, "metadata": p.metadata} for p in plan.prompts)
    )
    bar.note(f"{plan.metric.identity}")
    canaries = _check_canaries_apart(evaluator) if apart else check_canaries(evaluator)
    said = [*of_canaries(canaries), *of_judge(evaluator, plan.prompts)]
    for notice in said:
        bar.note(notice.text)
    store.manifest["notices"] = plain(said)
    store.write_manifest()
    return canaries


def judge(
    plan: Plan,
    batches: Batches,
    stored: Iterable[list[Item]],
    pictures: PictureStore,
    store: ScoreStore,
    evaluator: Evaluator,
    *,
    canaries: int,
    bar: Progress,
    engine: Engine | None = None,
    make_judge: Callable[[], Judge] | None = None,
    then: Conclude | None = None,
) -> dict[str, Any]:
    """Scores the batches as `stored` yields them, of a session that `begin_scores` began. Returns what `then` makes of it,
    by default results.

    engine, make_judge: where scoring is done and what with; by default here, by the evaluator.
    """
    begun = time.monotonic()
    make = make_judge or (lambda: judging(evaluator, bar.note))
    score(batches, stored, pictures, store, make, engine or LocalEngine(Settings()), bar, size=size_of(plan))
    store.say(scoring_s=round(time.monotonic() - begun, 2))
    results = (then or conclude)(plan, pictures, store, evaluator, canaries)
    store.end()
    return results


@dataclass(frozen=True)
class _HandedOver:
    """A batch that a judge has: the images that need a score, what is known without the judge, and what it was given."""

    todo: list[Item]
    found: dict[Key, Score]
    ready: list[Item]


def score(
    batches: Batches,
    stored: Iterable[list[Item]],
    pictures: PictureStore,
    store: ScoreStore,
    make: Callable[[], Judge],
    engine: Engine,
    bar: Progress,
    *,
    size: tuple[int, int] | None,
) -> None:
    """Scores every image of the batches that has no score yet, in the batches that `stored` yields. While the judge has a
    batch, the verdicts of the one before are made and stored.

    size: (height, width) that every picture must have; None for any.
    """
    samples, known = pictures.rows, store.rows

    def is_scored(item: Item) -> bool:
        row, sample = known.get(item.key), samples.get(item.key)
        return bool(row and sample and row["sha256"] == sample["sha256"] and row["status"] != "error")

    items = [item for batch in batches for item in batch]
    bar.start("scoring", len(items), sum(map(is_scored, items)))
    with_judge: deque[_HandedOver] = deque()

    def asked() -> Iterator[list[Asked]]:
        for batch in stored:
            todo = [item for item in batch if not is_scored(item)]
            if not todo:
                continue
            found: dict[Key, Score] = {}
            ready: list[tuple[Item, np.ndarray]] = []
            for item in batch:
                picture = _readable(pictures, samples[item.key], size)
                if isinstance(picture, Score):
                    found[item.key] = picture
                else:
                    ready.append((item, picture))
            with_judge.append(_HandedOver(todo, found, [item for item, _ in ready]))
            yield [(item.prompt, picture) for item, picture in ready]

    def record(judged: tuple[_HandedOver, Sequence[Begun]]) -> int:
        batch, begun = judged
        found = batch.found | {item.key: finished(one) for item, one in zip(batch.ready, begun, strict=True)}
        store.add(
            {
                "prompt_id": item.prompt.id,
                "k": item.k,
                "sha256": samples[item.key]["sha256"],
                "status": found[item.key].status.value,
                "value": found[item.key].value,
                "detail": found[item.key].detail,
            }
            for item in batch.todo
        )
        return len(batch.todo)

    make_worker: MakeWorker[list[Asked], Sequence[Begun]] = make
    for count in beside(record, ((with_judge.popleft(), begun) for begun in engine.score(make_worker, asked()))):
        bar.advance(count)


def _readable(store: PictureStore, row: dict[str, Any], size: tuple[int, int] | None) -> np.ndarray | Score:
    """The picture of a sample, or the score of one that can't be judged. size: (height, width) that it must have."""
    if row["status"] != "ok":
        return Score(None, Status(row["status"]), {"error": row["reason"]})
    try:
        return check_picture(store.read_image(row), size)
    except UnusablePicture as error:
        return Score(None, Status.DEGENERATE if error.degenerate else Status.CORRUPT, {"error": str(error)})


def size_of(plan: Plan) -> tuple[int, int] | None:
    """(height, width) of the pictures that are planned; None for pictures made elsewhere."""
    return (plan.protocol.height, plan.protocol.width) if plan.protocol else None


def score_here(
    plan: Plan, pictures: PictureStore, store: ScoreStore, evaluator: Evaluator, bar: Progress, *, batch_size: int
) -> None:
    """`score`, in this process, of pictures that are all stored."""
    batches, engine = plan.batches(batch_size), LocalEngine(Settings())
    score(batches, batches, pictures, store, lambda: judging(evaluator, bar.note), engine, bar, size=size_of(plan))


def conclude(
    plan: Plan, pictures: PictureStore, store: ScoreStore, evaluator: Evaluator, canaries: int
) -> dict[str, Any]:
    """The results of scores that are all there, which are also in results.json.

    results.json holds nothing that two undisturbed runs would not share; times and versions are in manifest.json.
    """
    from star_bench.runs.summary import summarise, values  # scipy: only once the run is this process'

    store.write_rows("values.jsonl", values(plan, evaluator, store.rows))
    keys = [item.key for item in plan.items]
    mixed = [
        *of_mixture("pictures", pictures.manifest, (pictures.rows[key] for key in keys)),
        *of_mixture("scores", store.manifest, (store.rows[key] for key in keys)),
    ]
    notices = [*pictures.manifest.get("notices", []), *store.manifest.get("notices", []), *plain(mixed)]
    results = summarise(plan, evaluator, store.rows, canaries=canaries, notices=notices)
    for name, text in evaluator.exports(_judged(plan, pictures, store)).items():
        write_atomically(store.folder / name, text.encode())
    store.write(RESULTS, results)
    return results


def _judged(plan: Plan, pictures: PictureStore, store: ScoreStore) -> Iterator[Judged]:
    for item in plan.items:
        row = store.rows[item.key]
        found = Score(row["value"], Status(row["status"]), row["detail"])
        yield Judged(item.prompt, pictures.rows[item.key]["path"] or "", found)


def _check_canaries_apart(evaluator: Evaluator) -> int:
    found = check_canaries(type(evaluator)(evaluator.card, device=evaluator.device))
    free_memory()
    return found
