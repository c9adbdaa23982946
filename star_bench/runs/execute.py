"""Generate, score, summarise: what is there is kept, what is missing is made, what failed is counted."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from star_bench.evaluators.base import Evaluator, Judged, Score, Status, check_canaries
from star_bench.files.atomic import write_atomically
from star_bench.files.pictures import UnusablePicture, check_picture, encode_png
from star_bench.memory import free_memory
from star_bench.runs.engines.base import Engine, MakeWorker, Settings
from star_bench.runs.engines.halving import OutOfMemory
from star_bench.runs.engines.local import LocalEngine
from star_bench.runs.environment import of_mixture, packages
from star_bench.runs.foreign import content_of
from star_bench.runs.notices import Notice, of_canaries, of_judge, plain
from star_bench.runs.plan import Item, Plan
from star_bench.runs.progress import NotesOnly, Progress
from star_bench.runs.store import Key, RunStore
from star_bench.runs.workers import Asked, Generate, Judge, Pictures, judging

Batches = Sequence[list[Item]]
Conclude = Callable[[Plan, RunStore, Evaluator, int], dict[str, Any]]
"""Makes an end, given also how many canaries were judged."""


def generate(
    batches: Batches, store: RunStore, make: Callable[[], Generate], engine: Engine, bar: Progress
) -> Iterator[list[Item]]:
    """Makes the images that the store lacks; yields each batch, in order, once all its pictures are stored.

    A stored picture whose bytes are not those that were stored is made again, with a note, and so is one that failed
    for want of memory. While a batch is encoded and stored, the next one is made.
    """
    known = store.samples
    damaged = {key for key, row in known.items() if row["status"] == "ok" and store.read_image(row) is None}
    items = [item for batch in batches for item in batch]
    damaged &= {item.key for item in items}
    if damaged:
        bar.note(f"{len(damaged)} stored pictures are damaged or gone and are made again")
    failed = {key for key, row in known.items() if row["status"] == "error"}
    missing = {item.key for item in items if item.key not in known or item.key in damaged | failed}
    bar.start("generating", len(items), len(items) - len(missing))
    made = engine.generate(make, (batch for batch in batches if any(item.key in missing for item in batch)))

    def record(batch: list[Item], pictures: Pictures) -> int:
        pairs = zip(batch, pictures, strict=True)
        rows = [_store(store, item.key, picture) for item, picture in pairs if item.key in missing]
        store.add_samples(rows)
        return len(rows)

    def finish(batch: list[Item], job: Future[int] | None) -> list[Item]:
        if job:
            bar.advance(job.result())
        return batch

    begun: deque[tuple[list[Item], Future[int] | None]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="store") as writer:
        writer.submit(int)  # starts the thread while there is memory for it
        for batch in batches:
            if any(item.key in missing for item in batch):
                begun.append((batch, writer.submit(record, batch, next(made))))
            else:
                begun.append((batch, None))
            if len(begun) > 1:
                yield finish(*begun.popleft())
        while begun:
            yield finish(*begun.popleft())


def _store(store: RunStore, key: Key, picture: np.ndarray | OutOfMemory | None) -> dict[str, Any]:
    """The sample's row. A picture that is degenerate is kept, so that a person can look at it; scoring finds it again."""
    if isinstance(picture, OutOfMemory):
        return _failed(key, Status.ERROR, picture.reason)
    if picture is None:
        return _failed(key, Status.DEGENERATE, "the latents were not finite")
    return store.save_image(key, encode_png(picture))


def take_foreign(batches: Batches, store: RunStore, files: dict[Key, Path], bar: Progress) -> Iterator[list[Item]]:
    """Copies pictures made elsewhere into the store, byte for byte, and yields each batch once it is there.

    Images that are not there are recorded as missing.
    """
    known = store.samples
    bar.start("taking images", sum(map(len, batches)), 0)
    for batch in batches:
        for item in batch:
            source, row = files.get(item.key), known.get(item.key)
            if source is None:
                new = _failed(item.key, Status.MISSING, "no file for this image in the folder")
            else:
                new = store.save_image(item.key, content_of(source), source.suffix.lower())
            if row is None or {**row, **new} != row:
                store.add_samples([new])
        bar.advance(len(batch))
        yield batch


def _failed(key: Key, status: Status, reason: str) -> dict[str, Any]:
    return {"prompt_id": key[0], "k": key[1], "path": None, "sha256": None, "status": status.value, "reason": reason}


@dataclass(frozen=True)
class _HandedOver:
    """A batch that a judge has: the images that need a score, what is known without the judge, and what it was given."""

    todo: list[Item]
    found: dict[Key, Score]
    ready: list[Item]


def score(
    batches: Batches,
    stored: Iterable[list[Item]],
    store: RunStore,
    make: Callable[[], Judge],
    engine: Engine,
    bar: Progress,
    *,
    size: tuple[int, int] | None,
) -> None:
    """Scores every image of the batches that has no score yet, in the batches that `stored` yields.

    size: (height, width) that every picture must have; None for any.
    """
    samples, known = store.samples, store.scores

    def is_scored(item: Item) -> bool:
        row, sample = known.get(item.key), samples.get(item.key)
        return bool(row and sample and row["sha256"] == sample["sha256"] and row["status"] != "error")

    items = [item for batch in batches for item in batch]
    bar.start("scoring", len(items), sum(map(is_scored, items)))
    with_judge: deque[_HandedOver] = deque()

    def pictures() -> Iterator[list[Asked]]:
        for batch in stored:
            todo = [item for item in batch if not is_scored(item)]
            if not todo:
                continue
            found: dict[Key, Score] = {}
            ready: list[tuple[Item, np.ndarray]] = []
            for item in batch:
                picture = _readable(store, samples[item.key], size)
                if isinstance(picture, Score):
                    found[item.key] = picture
                else:
                    ready.append((item, picture))
            with_judge.append(_HandedOver(todo, found, [item for item, _ in ready]))
            yield [(item.prompt, picture) for item, picture in ready]

    make_worker: MakeWorker[list[Asked], list[Score]] = make
    for scores in engine.score(make_worker, pictures()):
        batch = with_judge.popleft()
        found = batch.found | {item.key: one for item, one in zip(batch.ready, scores, strict=True)}
        store.add_scores(
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
        bar.advance(len(batch.todo))


def _readable(store: RunStore, row: dict[str, Any], size: tuple[int, int] | None) -> np.ndarray | Score:
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


def score_here(batches: Batches, store: RunStore, evaluator: Evaluator, bar: Progress, *, plan: Plan) -> None:
    """`score`, in this process, where all pictures are stored."""
    engine = LocalEngine(Settings())
    score(batches, batches, store, lambda: judging(evaluator, bar.note), engine, bar, size=size_of(plan))


def conclude(plan: Plan, store: RunStore, evaluator: Evaluator, canaries: int) -> dict[str, Any]:
    """The results of scores that are all there, which are also in results.json.

    results.json holds nothing that two undisturbed runs would not share; times and versions are in manifest.json.
    """
    from star_bench.runs.summary import summarise, values  # scipy: only once the run is this process'

    store.write_rows("values.jsonl", values(plan, evaluator, store.scores))
    manifest = store.read("manifest.json") or {}
    mixed = of_mixture(manifest, (*store.samples.values(), *store.scores.values()))
    notices = [*manifest.get("notices", []), *plain(mixed)]
    results = summarise(plan, evaluator, store.scores, canaries=canaries, notices=notices)
    for name, text in evaluator.exports(_judged(plan, store)).items():
        write_atomically(store.folder / name, text.encode())
    store.write("results.json", results)
    return results


def _judged(plan: Plan, store: RunStore) -> Iterator[Judged]:
    for item in plan.items:
        row = store.scores[item.key]
        score = Score(row["value"], Status(row["status"]), row["detail"])
        yield Judged(item.prompt, store.samples[item.key]["path"] or "", score)


def _check_canaries_apart(evaluator: Evaluator) -> int:
    found = check_canaries(type(evaluator)(evaluator.card, device=evaluator.device))
    free_memory()
    return found


def execute(
    plan: Plan,
    batches: Batches,
    store: RunStore,
    evaluator: Evaluator,
    *,
    produce: Callable[[Progress], Iterable[list[Item]]],
    environment: dict[str, Any],
    source: dict[str, Any],
    bar: Progress,
    batch_size: int,
    engine: Engine | None = None,
    make_judge: Callable[[], Judge] | None = None,
    notices: Sequence[Notice] = (),
    apart: bool = False,
    then: Conclude = conclude,
) -> dict[str, Any]:
    """Generates and scores the batches, and says so in manifest.json. Returns what `then` makes of it, by default results.

    produce fills the store with images, reporting to what it is given, and yields each batch that is there.
    engine, make_judge: where scoring is done and what with; by default here, by the evaluator.
    environment: what this session is run with; each of its rows names the session.
    source says where the images come from: a checkpoint's name, place and commit, or a folder.
    notices: what is known before; of the judge's cuts is found here.
    apart: the canaries are judged by an evaluator of their own that is let go, so that the judge's networks hold no memory
    of the device while the model is loaded and draws. They are loaded twice.
    Raises Refused when a canary is misjudged: then nothing is generated or scored.
    """
    engine = engine or LocalEngine(Settings())
    manifest = store.read("manifest.json") or {"schema": 1, "digest": plan.digest(), **plan.identity(), "sessions": []}
    manifest |= {"environment": manifest.get("environment", environment), "source": source}
    session: dict[str, Any] = {"started": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "finished": None}
    session |= {"engine": "elsewhere" if engine.remote else "local", "batch_size": batch_size}
    session["environment"] = {**environment, "packages": packages()}
    store.session = len(manifest["sessions"])
    manifest["sessions"].append(session)
    store.write("manifest.json", manifest)
    store.write_rows(
        "prompts.jsonl", ({"id": p.id, "text": p.text, "tag": p.tag, "metadata": p.metadata} for p in plan.prompts)
    )
    bar.note(f"{plan.metric.identity}")
    canaries = _check_canaries_apart(evaluator) if apart else check_canaries(evaluator)
    said = [*notices, *of_canaries(canaries), *of_judge(evaluator, plan.prompts)]
    for notice in said:
        bar.note(notice.text)
    manifest["notices"] = plain(said)
    store.write("manifest.json", manifest)
    begun, rows = time.monotonic(), store.recorded

    def stored() -> Iterator[list[Item]]:
        yield from produce(NotesOnly(bar) if engine.remote else bar)
        session["images_made"] = store.recorded - rows
        session["generation_s"] = round(time.monotonic() - begun, 2)

    make = make_judge or (lambda: judging(evaluator, bar.note))
    score(batches, stored() if engine.remote else list(stored()), store, make, engine, bar, size=size_of(plan))
    session["scoring_s"] = round(time.monotonic() - begun - session["generation_s"], 2)
    results = then(plan, store, evaluator, canaries)
    session["finished"] = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    store.write("manifest.json", manifest)
    return results
