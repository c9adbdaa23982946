"""A run in parts that know nothing of each other, for schedulers such as Slurm; and what makes one run of them.

Shard 2 of 7 is batches 2, 9, 16, ... of the run's plan. The batches are those of the whole run, so every picture has the
bytes that it would have there. A shard has a directory of its own below the run's, with one writer, and goes on like a run.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from star_bench.catalogue import suites
from star_bench.catalogue.cards import parse
from star_bench.errors import Incomplete, Refused, UsageError
from star_bench.evaluators.base import Evaluator, Prompt, Status
from star_bench.files.json import read_json, read_rows
from star_bench.runs.draw import Batches
from star_bench.runs.manifest import Manifest, pictures_of, read_manifest
from star_bench.runs.pictures import SAMPLES, PictureStore
from star_bench.runs.plan import Plan, Subject
from star_bench.runs.progress import Progress
from star_bench.runs.score import conclude
from star_bench.runs.scores import SCORES, ScoreStore
from star_bench.runs.store import MANIFEST, Key, Store, locked
from star_bench.runs.workers import make_evaluator

SHARDS = "shards"
RECORD = "shard.json"


@dataclass(frozen=True)
class Shard:
    """Part `number`, from 1, of `of`."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Of "2/7". Raises UsageError."""
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            raise UsageError(f"{text!r} is no shard", "give its number, from 1, and how many there are, as in 2/7")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def folder(self, run: Path) -> Path:
        """Below the directory of a run's scores, or of its pictures."""
        return run / SHARDS / f"{self.number}-of-{self.of}"

    def own(self, batches: Batches) -> Batches:
        """Every `of`-th batch; none where there are fewer batches than shards."""
        return batches[self.number - 1 :: self.of]


class Record(BaseModel):
    """shard.json. finished: whether every image of the shard was tried and judged. suite: as it is found on a machine.

    counts: images by status. model, of_prompts: what results.json says and manifest.json does not.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_: Literal[1] = Field(default=1, alias="schema")
    number: int = Field(ge=1)
    of: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    digest: str
    suite: str
    model: Subject
    of_prompts: int = Field(ge=1)
    finished: bool = False
    canaries: int = 0
    counts: dict[str, int] = Field(default_factory=dict)

    @property
    def shard(self) -> Shard:
        return Shard(self.number, self.of)


def _read(folder: Path) -> Record:
    """Raises Refused for a record that can't be read, UsageError for one that says what none can say."""
    return parse(Record, read_json(folder / RECORD), str(folder / RECORD))


def begin_shard(store: ScoreStore, shard: Shard, plan: Plan, batch_size: int) -> None:
    """Says what the shard is of. Raises UsageError where it was begun with batches of another size."""
    if (store.folder / RECORD).exists() and (begun := _read(store.folder).batch_size) != batch_size:
        raise UsageError(
            f"shard {shard} was begun with --batch-size {begun}, and batches of {batch_size} are cut elsewhere",
            f"give --batch-size {begun}, or delete {store.folder}",
        )
    record = Record(
        number=shard.number,
        of=shard.of,
        batch_size=batch_size,
        digest=plan.digest(),
        suite=plan.card.asked,
        model=plan.subject,
        of_prompts=plan.of,
    )
    store.write(RECORD, record.model_dump(mode="json", by_alias=True))


def finish_shard(_: Plan, __: PictureStore, store: ScoreStore, ___: Evaluator, canaries: int) -> dict[str, Any]:
    """The shard's record, also in shard.json."""
    statuses = Counter(row["status"] for row in store.rows.values())
    counts = {"planned": len(store.rows), **{status.value: statuses.get(status.value, 0) for status in Status}}
    done = _read(store.folder).model_copy(update={"finished": True, "canaries": canaries, "counts": counts})
    record = done.model_dump(mode="json", by_alias=True)
    store.write(RECORD, record)
    return {**record, "complete": counts["planned"] == counts["ok"]}


def merge(run: Path, bar: Progress) -> dict[str, Any]:
    """Makes the run of its shards: the same files as of a run in one piece. Returns its results.

    Neither the checkpoint nor the judges' weights are needed. The shards stay where they are. Raises UsageError where there
    are none, Incomplete where one is missing, unfinished or damaged, Refused where they are not of one plan, and Locked.
    """
    if not (run / SHARDS).is_dir():
        raise UsageError(
            f"{run} has no shards", "give the directory that 'star-bench run --shard' names, up to /shards"
        )
    with locked(run):
        records = _whole_set(run)
        folders = [record.shard.folder(run) for record in records]
        manifests = [read_manifest(folder) for folder in folders]
        plan, evaluator = _plan(folders[0], records[0], manifests[0])
        if strangers := [
            folder for folder, each in zip(folders, manifests, strict=True) if each.digest != plan.digest()
        ]:
            raise Refused(f"{strangers[0]} is of another run than {folders[0]}", "delete it, and run it again")
        pictures = pictures_of(run, plan.pictures.digest())
        with locked(pictures):
            drawn = [PictureStore(record.shard.folder(pictures)) for record in records]
            scored = [ScoreStore(folder) for folder in folders]
            place = {
                item.key: i % len(records)
                for i, batch in enumerate(plan.batches(records[0].batch_size))
                for item in batch
            }
            keys = [*place]
            if lost := [k for k in keys if k not in drawn[place[k]].rows or k not in scored[place[k]].rows]:
                raise Incomplete(f"image {lost[0][1]} of prompt {lost[0][0]!r} is in no shard", "run the shards again")
            _take_pictures([(key, drawn[place[key]]) for key in keys], PictureStore(pictures), bar)
            for folder, of_shards, name in ((pictures, drawn, SAMPLES), (run, scored, SCORES)):
                _merge_rows(Store(folder, name), of_shards, [(key, place[key]) for key in keys], name)
            prompts = read_rows(folders[0] / "prompts.jsonl")
            ScoreStore(run).write_rows("prompts.jsonl", prompts)
            return conclude(plan, PictureStore(pictures), ScoreStore(run), evaluator, records[0].canaries)


def _whole_set(run: Path) -> list[Record]:
    """Shards 1 to n of the same n and the same batches. Raises Incomplete where none has all, naming what is missing."""
    sets: dict[tuple[int, int], dict[int, Record]] = defaultdict(dict)
    for path in sorted((run / SHARDS).glob(f"*/{RECORD}")):
        record = _read(path.parent)
        sets[record.of, record.batch_size][record.number] = record
    whole = [found for (of, _), found in sets.items() if len(found) == of and all(r.finished for r in found.values())]
    if whole:
        return [whole[0][number] for number in sorted(whole[0])]
    if not sets:
        raise Incomplete(f"{run / SHARDS} holds no shard that was begun", "run the shards first")
    (of, size), found = max(sets.items(), key=lambda one: sum(r.finished for r in one[1].values()) / one[0][0])
    missing = [n for n in range(1, of + 1) if n not in found or not found[n].finished]
    named = ", ".join(f"{n}/{of}" for n in missing[:10]) + (", ..." if len(missing) > 10 else "")
    others = f"; others were cut otherwise, {len(sets)} ways in all" if len(sets) > 1 else ""
    raise Incomplete(
        f"{len(missing)} of {of} shards with batches of {size} are not finished ({named}{others})",
        "run them with --shard, each with the same --batch-size, then merge again",
    )


def _plan(folder: Path, record: Record, manifest: Manifest) -> tuple[Plan, Evaluator]:
    """As the shards had it, made again with what is installed here. Raises Refused where that gives another one."""
    card = suites.load(record.suite)
    evaluator = make_evaluator(card, "cpu")
    prompts = tuple(
        Prompt(row["id"], row["text"], row["tag"], row["metadata"]) for row in read_rows(folder / "prompts.jsonl")
    )
    plan = Plan(
        record.model,
        card,
        evaluator.metric,
        manifest.judges,
        prompts,
        record.of_prompts,
        manifest.samples,
        manifest.protocol,
    )
    if plan.digest() != manifest.digest:
        raise Refused(
            f"the suite {card.name!r} here is not the one that the shards were run with",
            f"merge with star-bench {manifest.star_bench} and the same card",
        )
    return plan, evaluator


def _take_pictures(owners: list[tuple[Key, PictureStore]], merged: PictureStore, bar: Progress) -> None:
    """Copies what is not there yet. Raises Incomplete for a picture that is damaged."""
    bar.start("merging", len(owners), 0)
    for key, owner in owners:
        row = owner.rows[key]
        if row["status"] == "ok" and merged.read_image(row) is None:
            content = owner.read_image(row)
            if content is None:
                raise Incomplete(
                    f"{owner.folder / row['path']} is damaged or gone", "run its shard again, which makes it anew"
                )
            merged.save_image(key, content, Path(row["path"]).suffix)
        bar.advance(1)


def _merge_rows(merged: Store, shards: Sequence[Store], owners: list[tuple[Key, int]], name: str) -> None:
    """The rows of all shards as one file, and the first shard's manifest with the sessions of all. Rows of the merged store
    that no shard has, such as further images of pictures that were drawn before, stay."""
    sessions = [
        ({"environment": one.manifest["environment"], **session, "shard": one.folder.name}, number)
        for number, one in enumerate(shards)
        for session in one.manifest.get("sessions", [])  # a shard of no batch drew nothing
    ]
    sessions.sort(key=lambda pair: str(pair[0]["started"]))
    kept = merged.manifest.get("sessions", []) if merged.rows and not _is_merged(merged) else []
    places: dict[int, list[int]] = {number: [] for number in range(len(shards))}
    for place, (_, number) in enumerate(sessions, start=len(kept)):  # of one shard they are in order
        places[number].append(place)
    own = {key for key, _ in owners}
    others = [row for key, row in merged.rows.items() if key not in own] if kept else []
    rows = [_moved(shards[number].rows[key], places[number]) for key, number in owners]
    first = next(one.manifest for one in shards if one.manifest)
    merged.write(MANIFEST, {**first, "sessions": [*kept, *(session for session, _ in sessions)]})
    merged.write_rows(name, [*rows, *others])


def _is_merged(store: Store) -> bool:
    """Whether the store was made of shards before, and can be made of them again."""
    return all("shard" in session for session in store.manifest["sessions"])


def _moved(row: dict[str, Any], places: list[int]) -> dict[str, Any]:
    """A shard's row, for the merged run."""
    return {**row, "session": places[row["session"]]} if "session" in row else row
