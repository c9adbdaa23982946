"""Prompt sets as a whole: every file that suites name, fetched from its repository, verified on this machine."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from star_bench.assets.asset import Asset
from star_bench.assets.downloads import Advance, download_checked
from star_bench.assets.prompt_files import PromptFile, fetch_command, lines_of, prompts_of, training_of
from star_bench.catalogue import suites
from star_bench.errors import Incomplete, UsageError

SITE = "https://raw.githubusercontent.com"


class State(StrEnum):
    """What there is to say of a prompt file. unchecked: its card gives no digest to compare with."""

    OK = "ok"
    UNCHECKED = "unchecked"
    ABSENT = "absent"
    OTHER = "another content"


@dataclass(frozen=True)
class Verified:
    """A prompt file as it is on this machine; the counts are None where it is absent or has another content."""

    file: PromptFile
    state: State
    where: Path | None
    prompts: int | None = None
    different: int | None = None

    def row(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "suite": self.file.suite,
            "set": self.file.purpose,
            "state": self.state.value,
            "prompts": self.prompts,
            "different": self.different,
            "where": str(self.where) if self.where else None,
        }


def files(names: Sequence[str], *, training: bool) -> list[PromptFile]:
    """The prompt files of the named suites, of all that come with the package where none is named.

    Raises UsageError for an unknown suite, and a named one that has no such file.
    """
    found: list[PromptFile] = []
    for name in names or suites.names():
        card = suites.load(name)
        mine = [prompts_of(card)] if card.prompts.path else []
        if training and (file := training_of(card)):
            mine.append(file)
        if not mine and name in names:
            remedy = "leave it out" if training or not card.prompts.training else "add --training for its training set"
            raise UsageError(f"suite {name!r} makes its prompts itself and names no prompt file", remedy)
        found += mine
    return found


def fetch(file: PromptFile, advance: Advance, *, site: str = SITE) -> Path:
    """The file, from its repository into the cache unless it is on this machine already.

    Raises what PromptFile.check and download_checked raise, and UsageError where nothing pins the content.
    """
    found = file.find()
    if found is not None and found != file.cached:
        return file.check(found)
    if file.digest is None:
        raise UsageError(f"the card of suite {file.suite!r} gives no digest for {file.path}", "add the file's sha256")
    address = f"{site}/{file.repository}/{file.revision or 'HEAD'}/{urllib.parse.quote(file.path)}"
    remedy = f"run '{fetch_command([file])}' where there is a network, or save {file.origin} {file.by_hand}"
    return download_checked(address, file.cached, digest=file.digest, remedy=remedy, advance=advance)


def asset_of(file: PromptFile) -> Asset:
    """Of a file that its card names by a repository, or that lies beside the card."""
    what = f"the {'training ' if file.purpose == 'training' else ''}prompts of suite {file.suite}"
    if file.repository is None or file.digest is None:
        return Asset(what, file.suite, file.locate)
    return Asset(what, file.suite, file.locate, lambda advance: fetch(file, advance))


def verify(file: PromptFile) -> Verified:
    """Looks for the file and at its content. Raises UsageError where PromptFile.find or lines_of do."""
    where = file.find()
    if where is None:
        return Verified(file, State.ABSENT, None)
    if file.digest and file.digest.of(where) != file.digest:
        return Verified(file, State.OTHER, where)
    prompts = [line for line in lines_of(where) if line]
    state = State.OK if file.digest else State.UNCHECKED
    return Verified(file, state, where, len(prompts), len(set(prompts)))


def require(verified: Iterable[Verified]) -> None:
    """Raises Refused for the first file with another content, else Incomplete where some are absent."""
    absent = []
    for each in verified:
        if each.where is None:
            absent.append(each.file)
        elif each.state is State.OTHER:
            each.file.check(each.where)
    if absent:
        raise Incomplete(
            f"not on this machine: {', '.join(dict.fromkeys(file.origin for file in absent))}",
            f"run '{fetch_command(absent)}', or name a folder that holds them with --prompts-dir",
        )
