"""Reads a finished run: results.json, manifest.json, the rows of its prompts, scores and values, and those of its pictures.

Keys that are not named here are ignored, so that a run may record more than a report shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, field_validator, model_validator

from star_bench.catalogue.cards import wrong
from star_bench.catalogue.suites import Commercial
from star_bench.errors import Incomplete, Refused, UsageError
from star_bench.evaluators.base import Status
from star_bench.files.json import read_json as parse_file
from star_bench.files.json import read_rows
from star_bench.runs.manifest import pictures_of, read_manifest
from star_bench.runs.pictures import PICTURES, SAMPLES, is_picture_path
from star_bench.runs.references import find
from star_bench.runs.store import MANIFEST

FAILURES: tuple[Status, ...] = tuple(status for status in Status if status is not Status.OK)


class _Recorded(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ModelEntry(_Recorded):
    name: str
    digest: str
    licence: str


class MetricEntry(_Recorded):
    """range is (lowest, highest) that a value can take; None where there is no bound."""

    name: str
    implementation: str
    version: str
    unit: str
    range: tuple[FiniteFloat | None, FiniteFloat | None]
    licence: str
    paper: str
    identity: str


class Subset(_Recorded):
    """`limit` prompts out of `of`, the tags taken in turn."""

    limit: int
    of: int


class Counts(_Recorded):
    """Images; all but `planned` are counts by status."""

    planned: int
    ok: int
    missing: int = 0
    corrupt: int = 0
    degenerate: int = 0
    error: int = 0


class Interval(_Recorded):
    """A summary value with its interval; all three are None where nothing was scored."""

    value: FiniteFloat | None
    low: FiniteFloat | None
    high: FiniteFloat | None
    n_images: int
    n_prompts: int


class AggregateEntry(Interval):
    """of_tags: the mean of the tags' means, instead of the mean over all values."""

    name: str
    title: str
    of_tags: bool = False


class MeasureEntry(_Recorded):
    """What the aggregate of this name is, in a suite that measures several things. better: higher, or none for a
    description."""

    name: str
    unit: str
    implementation: str
    version: str
    better: Literal["higher", "none"]


class TagEntry(Interval):
    tag: str


class PublishedEntry(_Recorded):
    model: str
    value: FiniteFloat
    metric: str = ""
    source: str
    protocol: str = "not stated"
    tags: dict[str, FiniteFloat] = Field(default_factory=dict)


class LicenceEntry(_Recorded):
    """Of one part of a run: its model, prompts or a judge."""

    of: str
    name: str
    licence: str
    commercial: Commercial
    licence_url: str | None = None


class NoticeEntry(_Recorded):
    """kind: a word for programs. prompts: the ids of those that it is about."""

    kind: str
    text: str
    prompts: list[str] = Field(default_factory=list)


class Results(_Recorded):
    """results.json, schema 1. The first aggregate is the headline; `protocol` is None for foreign images."""

    schema_: Literal[1] = Field(alias="schema")
    model: ModelEntry
    suite: str
    title: str
    metric: MetricEntry
    protocol: dict[str, Any] | None
    digest: str
    subset: Subset | None
    generation: Literal["star-bench", "foreign"]
    counts: Counts
    complete: bool
    aggregates: list[AggregateEntry] = Field(min_length=1)
    tags: list[TagEntry]
    canaries: int
    judges: dict[str, str]
    interval: str
    published: list[PublishedEntry]
    measures: list[MeasureEntry] = Field(default_factory=list)
    licences: list[LicenceEntry] = Field(default_factory=list)
    notices: list[NoticeEntry] = Field(default_factory=list)
    versions: dict[str, Any] = Field(default_factory=dict)
    """Of everything that took part; from manifest.json where results.json, which repeats exactly, leaves them out."""

    @property
    def is_complete(self) -> bool:
        """Every planned image has a score, by the run's own word and by its counts."""
        return self.complete and self.counts.ok == self.counts.planned

    @property
    def ledger(self) -> list[LicenceEntry]:
        """The licences; a model or pictures of which the run recorded none may be anything."""
        if any(part.of == "model" for part in self.licences):
            return self.licences
        of = "images" if self.generation == "foreign" else "model"
        unsaid = LicenceEntry(of=of, name=self.model.name, licence=self.model.licence, commercial="unknown")
        return [unsaid, *self.licences]


class PromptRow(_Recorded):
    id: str
    text: str
    tag: str = ""
    metadata: dict[str, Any] = Field(default_factory=dict)


class SampleRow(_Recorded):
    """path is relative to the folder of pictures; None, like sha256, where there never was a picture."""

    prompt_id: str
    k: int
    path: str | None
    sha256: str | None

    @field_validator("path")
    @classmethod
    def _below_the_run(cls, path: str | None) -> str | None:
        if path is not None and not is_picture_path(path):
            raise ValueError(f"{path!r} is a picture outside itself, not below images/")
        return path


class ScoreRow(_Recorded):
    """value is None exactly when status is not ok; detail is the evaluator's own."""

    prompt_id: str
    k: int
    status: Status
    value: FiniteFloat | None
    detail: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _value_when_ok(self) -> ScoreRow:
        if (self.value is None) == (self.status is Status.OK):
            raise ValueError("a score has a value exactly when its status is ok")
        return self


@dataclass(frozen=True)
class RunImage:
    """Image k of a prompt. sample is None where no picture was stored, score where none was recorded."""

    prompt: PromptRow
    k: int
    sample: SampleRow | None
    score: ScoreRow | None

    @property
    def status(self) -> Status:
        return self.score.status if self.score else Status.MISSING

    @property
    def value(self) -> float | None:
        return self.score.value if self.score else None


class ValuesRow(_Recorded):
    """Aggregate -> what it is made of: a prompt's value per image, or its only one."""

    prompt_id: str
    values: dict[str, list[FiniteFloat]]


@dataclass(frozen=True)
class RunFiles:
    """A finished run; `images` are in the prompts' order, then by k.

    pictures: the folder that their paths are relative to. suite: what its suite's card says of the judge, from the
    manifest. values: prompt id -> aggregate -> values.
    """

    folder: Path
    pictures: Path
    results: Results
    suite: Mapping[str, Any]
    prompts: Mapping[str, PromptRow]
    images: tuple[RunImage, ...]
    values: Mapping[str, Mapping[str, list[float]]]


Entry = TypeVar("Entry", bound=BaseModel)


def check_record(model: type[Entry], data: Any, where: str) -> Entry:
    """`data` as a `model`. Raises Refused, naming where it stands and the key, for anything else."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        key, words = wrong(error)
        raise Refused(
            f"{where}: {key or 'the record'}: {words}", "score the run again with this version of star-bench"
        ) from None


def parse_results(data: Mapping[str, Any]) -> Results:
    """Checks the content of a results.json. Raises Refused, naming the key, for anything but schema 1."""
    return check_record(Results, data, "results.json")


def read_json(path: Path) -> Any:
    """None where there is no such file. Raises Refused for one that is no JSON."""
    try:
        return parse_file(path)
    except FileNotFoundError:
        return None


def _manifest(run_dir: Path) -> dict[str, Any]:
    """Empty where there is none."""
    manifest = read_json(run_dir / MANIFEST)
    return manifest if isinstance(manifest, dict) else {}


def _in(manifest: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = manifest.get(key)
    return found if isinstance(found, dict) else {}


def pictures_folder(run_dir: Path) -> Path:
    """Where a run's pictures lie."""
    digest = _manifest(run_dir).get("pictures")
    return pictures_of(run_dir, digest if isinstance(digest, str) else None)


def stored_pictures(place: Path) -> Path:
    """The folder of pictures that a person means by it, or by a run of them. Raises UsageError where it is neither, Refused
    for a run of 0.1.0."""
    if (place / SAMPLES).is_file() and place.resolve().parent.name == PICTURES:
        return place.resolve()
    folder = find(place)
    if read_manifest(folder).pictures is None:
        raise Refused(
            f"{folder} is a run of star-bench 0.1.0, which kept pictures with one suite's scores; it can be reported and "
            "compared, and not judged by another suite",
            "draw the pictures again with this version",
        )
    return drawn_of(folder)


def drawn_of(run_dir: Path) -> Path:
    """`pictures_folder`, of a run that is to be judged again. Raises UsageError where no pictures are there."""
    pictures = pictures_folder(run_dir)
    if not (pictures / SAMPLES).is_file():
        raise UsageError(f"the pictures of {run_dir} are not at {pictures}", "copy them there too, or draw them again")
    return pictures


def read_results(run_dir: Path) -> Results:
    """Raises UsageError where there is no results.json (the run did not finish), Refused where it is broken."""
    path = run_dir / "results.json"
    data = read_json(path)
    if data is None:
        raise UsageError(f"{path} is not there", "let 'star-bench run' finish this run first")
    results = check_record(Results, data, str(path))
    if results.versions:
        return results
    versions, drawn = _in(_manifest(run_dir), "environment"), _in(_manifest(pictures_folder(run_dir)), "environment")
    other = {f"{name}, of the pictures": said for name, said in drawn.items() if versions.get(name) != said}
    return results.model_copy(update={"versions": {**versions, **other}})


def read_records(path: Path, model: type[Entry]) -> list[Entry]:
    """Every line of a JSONL file as a `model`. Raises Refused, naming the line."""
    return [check_record(model, row, f"{path}, line {number}") for number, row in enumerate(read_rows(path), start=1)]


def read_finished(path: Path) -> RunFiles:
    """The run that a user means by `path`. Raises what `references.find` and `read_run` raise, but Incomplete for a run
    that has no results yet: to a gate that is a verdict on the run and no slip of the user.
    """
    folder = find(path)
    if not (folder / "results.json").exists():
        raise Incomplete(f"{folder} has no results", "let 'star-bench run' finish this run first")
    return read_run(folder)


def read_run(run_dir: Path) -> RunFiles:
    """All that a report needs, except the pictures. A later row for the same image replaces an earlier one.

    Raises UsageError for a run that did not finish, and Refused for broken files, rows of unknown prompts, and
    results that are not of these scores.
    """
    results = read_results(run_dir)
    prompts = {row.id: row for row in read_records(run_dir / "prompts.jsonl", PromptRow)}
    manifest = _manifest(run_dir)
    pictures = pictures_folder(run_dir)
    samples = {(row.prompt_id, row.k): row for row in read_records(pictures / SAMPLES, SampleRow)}
    scores = {(row.prompt_id, row.k): row for row in read_records(run_dir / "scores.jsonl", ScoreRow)}
    order = {prompt_id: i for i, prompt_id in enumerate(prompts)}
    if isinstance(count := manifest.get("samples"), int) and pictures != run_dir:  # a set of pictures may hold more
        samples = {key: row for key, row in samples.items() if key[1] < count}
    keys = samples.keys() | scores.keys()
    unknown = sorted(prompt_id for prompt_id, _ in keys if prompt_id not in prompts)
    if unknown:
        raise Refused(f"{run_dir} holds images of {unknown[0]!r}, a prompt it does not list", "run the suite again")
    images = tuple(
        RunImage(prompts[key[0]], key[1], samples.get(key), scores.get(key))
        for key in sorted(keys, key=lambda key: (order[key[0]], key[1]))
    )
    scored = sum(image.status is Status.OK for image in images)
    if scored != results.counts.ok:
        raise Refused(
            f"{run_dir} holds {scored} scores and its results.json speaks of {results.counts.ok}",
            "give the same 'star-bench run' again to summarise it anew",
        )
    values = {row.prompt_id: row.values for row in read_records(run_dir / "values.jsonl", ValuesRow)}
    return RunFiles(run_dir, pictures, results, _in(manifest, "suite"), prompts, images, values)
