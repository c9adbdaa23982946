"""Pictures into their store: drawn by a model, or taken from a folder. What is there is kept, what is missing is made."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from star_bench.errors import Incomplete
from star_bench.evaluators.base import Status
from star_bench.files.pictures import encode_png
from star_bench.runs.beside import beside
from star_bench.runs.engines.base import Engine
from star_bench.runs.engines.halving import OutOfMemory
from star_bench.runs.foreign import content_of
from star_bench.runs.manifest import SCHEMA
from star_bench.runs.notices import Notice, plain
from star_bench.runs.pictures import PictureStore
from star_bench.runs.plan import Item, PicturePlan
from star_bench.runs.progress import Progress
from star_bench.runs.store import Key
from star_bench.runs.workers import Generate, Pictures

Batches = Sequence[list[Item]]


def opening(
    plan: PicturePlan,
    *,
    source: dict[str, Any],
    notices: Sequence[Notice] = (),
    environment: dict[str, Any],
    batch_size: int,
    remote: bool = False,
) -> dict[str, Any]:
    """What `PictureStore.opening` is to be told.

    source: where the pictures come from: a checkpoint's name, place and commit, or a folder. environment: what this session
    is run with.
    """
    subject = {**vars(plan.subject), "licences": [vars(part) for part in plan.subject.licences]}
    what = {"schema": SCHEMA, "digest": plan.digest(), **plan.identity(), "subject": subject}
    return {
        "what": what,
        "about": {"source": source, "notices": plain(notices)},
        "environment": environment,
        "engine": "elsewhere" if remote else "local",
        "batch_size": batch_size,
    }


def draw(store: PictureStore, produced: Iterable[list[Item]]) -> Iterator[list[Item]]:
    """Passes on each batch that is stored; in the end the session says how many pictures it made, and in what time."""
    begun, rows = time.monotonic(), store.recorded
    yield from produced
    if store.recorded > rows:
        store.say(images_made=store.recorded - rows, generation_s=round(time.monotonic() - begun, 2))
        store.end()


def generate(
    batches: Batches, store: PictureStore, make: Callable[[], Generate], engine: Engine, bar: Progress
) -> Iterator[list[Item]]:
    """Makes the images that the store lacks; yields each batch, in order, once all its pictures are stored.

    A stored picture whose bytes are not those that were stored is made again, with a note, and so is one that failed
    for want of memory. While a batch is encoded and stored, the next one is made.
    """
    known = store.rows
    items = [item for batch in batches for item in batch]
    keys = {item.key for item in items}
    damaged = {k for k, row in known.items() if k in keys and row["status"] == "ok" and store.read_image(row) is None}
    if damaged:
        bar.note(f"{len(damaged)} stored pictures are damaged or gone and are made again")
    failed = {key for key, row in known.items() if row["status"] == "error"}
    missing = {key for key in keys if key not in known or key in damaged | failed}
    bar.start("generating", len(items), len(items) - len(missing))
    made = engine.generate(make, (batch for batch in batches if any(item.key in missing for item in batch)))

    def record(job: tuple[list[Item], Pictures | None]) -> tuple[list[Item], int]:
        batch, pictures = job
        if pictures is None:
            return batch, 0
        pairs = zip(batch, pictures, strict=True)
        rows = [_store(store, item.key, picture) for item, picture in pairs if item.key in missing]
        store.add(rows)
        return batch, len(rows)

    jobs = ((batch, next(made) if any(item.key in missing for item in batch) else None) for batch in batches)
    for batch, count in beside(record, jobs):
        if count:
            bar.advance(count)
        yield batch


def _store(store: PictureStore, key: Key, picture: np.ndarray | OutOfMemory | None) -> dict[str, Any]:
    """The sample's row. A picture that is degenerate is kept, so that a person can look at it; scoring finds it again."""
    if isinstance(picture, OutOfMemory):
        return _failed(key, Status.ERROR, picture.reason)
    if picture is None:
        return _failed(key, Status.DEGENERATE, "the latents were not finite")
    return store.save_image(key, encode_png(picture))


def take_foreign(batches: Batches, store: PictureStore, files: dict[Key, Path], bar: Progress) -> Iterator[list[Item]]:
    """Copies pictures made elsewhere into the store, byte for byte, and yields each batch once it is there.

    Images that are not there are recorded as missing.
    """
    known = store.rows
    bar.start("taking images", sum(map(len, batches)), 0)
    for batch in batches:
        for item in batch:
            source, row = files.get(item.key), known.get(item.key)
            if source is None:
                new = _failed(item.key, Status.MISSING, "no file for this image in the folder")
            else:
                new = store.save_image(item.key, content_of(source), source.suffix.lower())
            if row is None or {**row, **new} != row:
                store.add([new])
        bar.advance(len(batch))
        yield batch


def take_stored(batches: Batches, store: PictureStore) -> Batches:
    """The batches, all of whose pictures are stored. Raises Incomplete where some were never drawn."""
    items = [item for batch in batches for item in batch]
    if lacking := [item for item in items if item.key not in store.rows]:
        raise Incomplete(
            f"{store.folder} holds {len(items) - len(lacking)} of the {len(items)} pictures that are to be judged",
            "give its 'star-bench run' again, which draws the rest, or ask for fewer with --samples",
        )
    return batches


def _failed(key: Key, status: Status, reason: str) -> dict[str, Any]:
    return {"prompt_id": key[0], "k": key[1], "path": None, "sha256": None, "status": status.value, "reason": reason}
