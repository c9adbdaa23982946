"""Generate, score, summarise: what is there is kept, what is missing is made, what failed is counted."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from star_bench.engines.memory import Halving, OutOfMemory
from star_bench.evaluators.base import Evaluator, Judged, Score, Status, check_canaries
from star_bench.files import write_atomically
from star_bench.pictures import UnusablePicture, check_picture, encode_png
from star_bench.runs.foreign import content_of
from star_bench.runs.patience import Patience, limit
from star_bench.runs.plan import Item, Plan
from star_bench.runs.store import Key, RunStore

Generate = Callable[[list[Item]], Sequence[np.ndarray | None]]
"""A batch of items to uint8 RGB pictures, None where the latents were not finite."""
Made = Sequence[np.ndarray | OutOfMemory | None]
Engine = Callable[[Callable[[], Callable[[list[Item]], Made]], Iterable[list[Item]]], Iterator[Made]]


class Progress(Protocol):
    """Where work reports to."""

    def start(self, title: str, total: int, done: int) -> None: ...
    def advance(self, count: int) -> None: ...
    def note(self, message: str) -> None: ...


def generate(
    plan: Plan, store: RunStore, make: Callable[[], Generate], engine: Engine, size: int, bar: Progress
) -> int:
    """Makes the images that the store lacks, batch by batch; returns how many were made.

    A stored picture whose bytes are not those that were stored is made again, with a note, and so is one that failed
    for want of memory. A batch that is too large for the memory is made in halves: noise is each image's own.
    """
    known = store.samples
    damaged = {key for key, row in known.items() if row["status"] == "ok" and store.read_image(row) is None}
    if damaged:
        bar.note(f"{len(damaged)} stored pictures are damaged or gone and are made again")
    items = plan.items
    failed = {key for key, row in known.items() if row["status"] == "error"}
    missing = {item.key for item in items if item.key not in known or item.key in damaged | failed}
    bar.start("generating", len(items), len(items) - len(missing))
    todo = [batch for batch in plan.batches(size) if any(item.key in missing for item in batch)]
    halving = Halving("generating", bar.note)

    def make_halving() -> Callable[[list[Item]], Made]:
        worker = make()
        return lambda batch: halving(worker, batch)

    for batch, pictures in zip(todo, engine(make_halving, todo), strict=True):
        pairs = zip(batch, pictures, strict=True)
        rows = [_store(store, item.key, picture) for item, picture in pairs if item.key in missing]
        store.add_samples(rows)
        bar.advance(len(rows))
    return len(missing)


def _store(store: RunStore, key: Key, picture: np.ndarray | OutOfMemory | None) -> dict[str, Any]:
    """The sample's row. A picture that is degenerate is kept, so that a person can look at it; scoring finds it again."""
    if isinstance(picture, OutOfMemory):
        return _failed(key, Status.ERROR, picture.reason)
    if picture is None:
        return _failed(key, Status.DEGENERATE, "the latents were not finite")
    return store.save_image(key, encode_png(picture))


def take_foreign(plan: Plan, store: RunStore, files: dict[Key, Path], bar: Progress) -> int:
    """Copies pictures made elsewhere into the store, byte for byte, and returns how many were there.

    Images that are not there are recorded as missing.
    """
    known = store.samples
    bar.start("taking images", len(plan.items), 0)
    for item in plan.items:
        source, row = files.get(item.key), known.get(item.key)
        if source is None:
            new = _failed(item.key, Status.MISSING, "no file for this image in the folder")
        else:
            new = store.save_image(item.key, content_of(source), source.suffix.lower())
        if row != new:
            store.add_samples([new])
        bar.advance(1)
    return sum(item.key in files for item in plan.items)


def _failed(key: Key, status: Status, reason: str) -> dict[str, Any]:
    return {"prompt_id": key[0], "k": key[1], "path": None, "sha256": None, "status": status.value, "reason": reason}


def score(plan: Plan, store: RunStore, evaluator: Evaluator, size: int, bar: Progress) -> None:
    """Scores every image that has no score yet. A judge that raises fails the images of its batch, not the run."""
    samples, known = store.samples, store.scores
    items = plan.items
    expected = (plan.protocol.height, plan.protocol.width) if plan.protocol else None
    halving, patience = Halving("scoring", bar.note), Patience(limit())

    def is_scored(item: Item) -> bool:
        row = known.get(item.key)
        return row is not None and row["sha256"] == samples[item.key]["sha256"] and row["status"] != "error"

    missing = {item.key for item in items if not is_scored(item)}
    bar.start("scoring", len(items), len(items) - len(missing))
    for batch in plan.batches(size):
        todo = [item for item in batch if item.key in missing]
        if not todo:
            continue
        found: dict[Key, Score] = {}
        ready: list[tuple[Item, np.ndarray]] = []
        for item in batch:
            picture = _readable(store, samples[item.key], expected)
            if isinstance(picture, Score):
                found[item.key] = picture
            else:
                ready.append((item, picture))
        found |= _judge(evaluator, ready, halving, patience)
        store.add_scores(
            {
                "prompt_id": item.prompt.id,
                "k": item.k,
                "sha256": samples[item.key]["sha256"],
                "status": found[item.key].status.value,
                "value": found[item.key].value,
                "detail": found[item.key].detail,
            }
            for item in todo
        )
        bar.advance(len(todo))


def _readable(store: RunStore, row: dict[str, Any], size: tuple[int, int] | None) -> np.ndarray | Score:
    """The picture of a sample, or the score of one that can't be judged. size: (height, width) that it must have."""
    if row["status"] != "ok":
        return Score(None, Status(row["status"]), {"error": row["reason"]})
    try:
        return check_picture(store.read_image(row), size)
    except UnusablePicture as error:
        return Score(None, Status.DEGENERATE if error.degenerate else Status.CORRUPT, {"error": str(error)})


def _judge(
    evaluator: Evaluator, ready: list[tuple[Item, np.ndarray]], halving: Halving, patience: Patience
) -> dict[Key, Score]:
    def work(part: list[tuple[Item, np.ndarray]]) -> list[Score]:
        pictures, prompts = [picture for _, picture in part], [item.prompt for item, _ in part]
        return [_storable(one) for one in patience(lambda: evaluator.score(pictures, prompts))]

    try:
        found = halving(work, ready)
    except Exception as error:  # noqa: BLE001 - a plugin may raise anything; only its images have no score
        found = [Score(None, Status.ERROR, {"error": f"{type(error).__name__}: {error}"})] * len(ready)
    return {
        item.key: Score(None, Status.ERROR, {"error": one.reason}) if isinstance(one, OutOfMemory) else one
        for (item, _), one in zip(ready, found, strict=True)
    }


def _storable(score: Any) -> Score:
    """A judge's answer for one picture, or an error where it is none that could be stored."""
    try:
        if not isinstance(score, Score):
            raise TypeError(f"a judge must return Score, not {type(score).__name__}")
        json.dumps([score.value, score.detail], allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        return Score(None, Status.ERROR, {"error": f"{type(error).__name__}: {error}"})
    return score


def _judged(plan: Plan, store: RunStore) -> Iterator[Judged]:
    samples, scores = store.samples, store.scores
    for item in plan.items:
        row = scores[item.key]
        score = Score(row["value"], Status(row["status"]), row["detail"])
        yield Judged(item.prompt, samples[item.key]["path"] or "", score)


def execute(
    plan: Plan,
    store: RunStore,
    evaluator: Evaluator,
    *,
    produce: Callable[[], int],
    environment: dict[str, Any],
    source: dict[str, Any],
    batch_size: int,
    bar: Progress,
) -> dict[str, Any]:
    """The whole run; `produce` fills the store with images. Returns the results, which are also in results.json.

    source says where the images come from: a checkpoint's name, place and commit, or a folder.
    results.json holds nothing that two undisturbed runs would not share; times and versions are in manifest.json.
    Raises Refused when a canary is misjudged: then nothing is generated or scored.
    """
    from star_bench.runs.summary import summarise, values  # scipy: only once the run is this process'

    manifest = store.read("manifest.json") or {"schema": 1, "digest": plan.digest(), **plan.identity(), "sessions": []}
    manifest |= {"environment": environment, "source": source}
    session: dict[str, Any] = {"started": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "finished": None}
    manifest["sessions"].append(session)
    store.write("manifest.json", manifest)
    store.write_rows(
        "prompts.jsonl", ({"id": p.id, "text": p.text, "tag": p.tag, "metadata": p.metadata} for p in plan.prompts)
    )
    bar.note(f"{plan.metric.identity}")
    canaries = check_canaries(evaluator)
    begun = time.monotonic()
    session["images_made"] = produce()
    session["generation_s"] = round(time.monotonic() - begun, 2)
    begun = time.monotonic()
    score(plan, store, evaluator, batch_size, bar)
    session["scoring_s"] = round(time.monotonic() - begun, 2)
    store.write_rows("values.jsonl", values(plan, evaluator, store.scores))
    results = summarise(plan, evaluator, store.scores, canaries=canaries)
    for name, text in evaluator.exports(_judged(plan, store)).items():
        write_atomically(store.folder / name, text.encode())
    store.write("results.json", results)
    session["finished"] = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    store.write("manifest.json", manifest)
    return results
