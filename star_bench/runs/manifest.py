"""Reads the manifest.json of scores and of pictures: what was planned, what it was made with, and when."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from star_bench.catalogue.cards import wrong
from star_bench.catalogue.protocol import Protocol
from star_bench.catalogue.suites import judging_of
from star_bench.errors import Refused, UsageError
from star_bench.files.digests import digest_of
from star_bench.files.json import read_json
from star_bench.runs.pictures import PICTURES, SAMPLES
from star_bench.runs.plan import Subject
from star_bench.runs.store import MANIFEST

SCHEMA = 2
PLANNED = ("pictures", "judging", "metric", "judges", "samples", "prompts")
"""The keys of `Plan.identity`: the digest is of these."""
PLANNED_IN_0_1 = ("model", "suite", "metric", "judges", "protocol", "samples", "prompts")
"""Of schema 1, star-bench 0.1.0's, whose pictures lie in the run's own folder."""
DRAWN = ("model", "protocol", "prompts")
"""The keys of `PicturePlan.identity`."""


class Session(BaseModel):
    """One call of the command. finished is None for one that was interrupted."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    finished: datetime | None = None
    environment: dict[str, Any] = Field(default_factory=dict)
    """Of it alone; empty for one of before they were kept."""


class _Manifest(BaseModel):
    """source: where the pictures come from."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    digest: str
    model: str
    protocol: Protocol | None
    sessions: list[Session] = Field(default_factory=list)
    environment: dict[str, Any] = Field(default_factory=dict)
    source: dict[str, Any] = Field(default_factory=dict)

    @property
    def finished(self) -> datetime | None:
        """When the results were written; None where no session came to its end."""
        return next((session.finished for session in reversed(self.sessions) if session.finished), None)

    @property
    def star_bench(self) -> str:
        """The version that made it."""
        return str(self.environment.get("star-bench") or "unknown")


class Manifest(_Manifest):
    """Of scores. pictures: their digest, None in schema 1. suite: what its card says of its judge. prompts: id, text and
    metadata."""

    schema_: Literal[1, 2] = Field(alias="schema")
    pictures: str | None = None
    suite: dict[str, Any]
    metric: str
    judges: dict[str, str]
    samples: int = Field(ge=1)
    prompts: list[tuple[str, str, dict[str, Any]]] = Field(min_length=1)

    @property
    def judging(self) -> dict[str, Any]:
        """As `SuiteCard.judging`."""
        return judging_of(self.suite)


class PicturesManifest(_Manifest):
    """Of pictures. prompts: id and text."""

    schema_: Literal[2] = Field(alias="schema")
    subject: Subject
    prompts: list[tuple[str, str]] = Field(min_length=1)
    notices: list[dict[str, Any]] = Field(default_factory=list)


Kind = TypeVar("Kind", bound=_Manifest)


def read_manifest(folder: Path) -> Manifest:
    """Of scores, checked, and its digests made again from what it says.

    Raises UsageError where there is none, Refused for a broken one and for one whose digest is of something else.
    """
    path = folder / MANIFEST
    data, manifest = _read(path, Manifest)
    if manifest.schema_ == 1:
        _check_digest(path, manifest.digest, {key: data.get(key) for key in PLANNED_IN_0_1})
        return manifest
    _check_digest(path, manifest.digest, {key: data.get(key) for key in PLANNED})
    texts = [prompt[:2] for prompt in data["prompts"]]
    _check_digest(path, str(manifest.pictures), {**{key: data.get(key) for key in DRAWN}, "prompts": texts})
    if data["judging"] != manifest.judging:
        raise Refused(
            f"{path} says two things of its judge", "get the run again from who made it: this one was changed"
        )
    return manifest


def read_pictures_manifest(folder: Path) -> PicturesManifest:
    """Of pictures, as `read_manifest`."""
    path = folder / MANIFEST
    data, manifest = _read(path, PicturesManifest)
    _check_digest(path, manifest.digest, {key: data.get(key) for key in DRAWN})
    return manifest


def pictures_of(run: Path, digest: str | None) -> Path:
    """Where a run's pictures lie. digest: of its manifest. A bundle, and a run of 0.1.0, has them in its own folder."""
    if digest is None or (run / SAMPLES).is_file():
        return run
    return run.resolve().parents[1] / PICTURES / digest[:16]


def _read(path: Path, kind: type[Kind]) -> tuple[dict[str, Any], Kind]:
    try:
        data = read_json(path, "restore it, or score the run again")
        return data, kind.model_validate(data)
    except FileNotFoundError:
        raise UsageError(f"{path} is not there", "give the directory of a run, as 'star-bench run' names it") from None
    except ValidationError as error:
        key, words = wrong(error)
        raise Refused(f"{path}: {key or 'the record'}: {words}", "score the run again with this version") from None


def _check_digest(path: Path, said: str, content: dict[str, Any]) -> None:
    try:
        digest = digest_of(content)
    except ValueError as error:  # text that no file can hold, of which there is no digest
        raise Refused(f"{path} can't be read ({error})", "restore it, or score the run again") from None
    if digest != said:
        raise Refused(
            f"{path} names the digest {said[:16]}, and what it says was run has {digest[:16]}",
            "get the run again from who made it: this one was changed",
        )
