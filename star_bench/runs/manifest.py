"""Reads a run's manifest.json: what was planned, what it was made with, and when."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from star_bench.catalogue.cards import wrong
from star_bench.catalogue.protocol import Protocol
from star_bench.errors import Refused, UsageError
from star_bench.files.digests import digest_of
from star_bench.files.json import read_json

PLANNED = ("model", "suite", "metric", "judges", "protocol", "samples", "prompts")
"""The keys of `Plan.identity`: the digest is of these."""


class Session(BaseModel):
    """One call of the command. finished is None for one that was interrupted."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    finished: datetime | None = None
    environment: dict[str, Any] = Field(default_factory=dict)
    """Of it alone; empty for one of before they were kept."""


class Manifest(BaseModel):
    """suite: the content of its card. prompts: id, text and metadata. source: where the pictures come from."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    schema_: Literal[1] = Field(alias="schema")
    digest: str
    model: str
    suite: dict[str, Any]
    metric: str
    judges: dict[str, str]
    protocol: Protocol | None
    samples: int = Field(ge=1)
    prompts: list[tuple[str, str, dict[str, Any]]] = Field(min_length=1)
    sessions: list[Session] = Field(default_factory=list)
    environment: dict[str, Any] = Field(default_factory=dict)
    source: dict[str, Any] = Field(default_factory=dict)

    @property
    def finished(self) -> datetime | None:
        """When the results were written; None where no session came to its end."""
        return next((session.finished for session in reversed(self.sessions) if session.finished), None)

    @property
    def star_bench(self) -> str:
        """The version that made the run."""
        return str(self.environment.get("star-bench") or "unknown")


def read_manifest(folder: Path) -> Manifest:
    """Checked, and its digest made again from what it says.

    Raises UsageError where there is none, Refused for a broken one and for one whose digest is of something else.
    """
    path = folder / "manifest.json"
    try:
        data = read_json(path, "restore it, or score the run again")
        manifest = Manifest.model_validate(data)
        digest = digest_of({key: data.get(key) for key in PLANNED})
    except FileNotFoundError:
        raise UsageError(f"{path} is not there", "give the directory of a run, as 'star-bench run' names it") from None
    except ValidationError as error:
        key, words = wrong(error)
        raise Refused(f"{path}: {key or 'the record'}: {words}", "score the run again with this version") from None
    except ValueError as error:  # text that no file can hold, of which there is no digest
        raise Refused(f"{path} can't be read ({error})", "restore it, or score the run again") from None
    if digest != manifest.digest:
        raise Refused(
            f"{path} names the digest {manifest.digest[:16]}, and what it says was run has {digest[:16]}",
            "get the run again from who made it: this one was changed",
        )
    return manifest
