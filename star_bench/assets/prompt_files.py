"""Prompt files on this machine: found, checked by their digest, one prompt per line.

Looked for, in this order: beside the card; in the folder that STAR_BENCH_PROMPTS_DIR names; in the cache. Nothing
is fetched here.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from star_bench.assets.cache import cache_folder
from star_bench.catalogue.suites import SuiteCard
from star_bench.errors import MissingWeights, Refused, UsageError
from star_bench.files.digests import Digest
from star_bench.files.json import BLANK, read_text

PROMPTS_VARIABLE = "STAR_BENCH_PROMPTS_DIR"


def use_folder(folder: Path | None) -> None:
    """Lets a folder from the command line win over the environment's, for this process and those that it starts."""
    if folder is not None:
        os.environ[PROMPTS_VARIABLE] = str(folder)


def local_name(path: str) -> str:
    """A repository's prompt file outside it: dataset/pickscore_sfw/test.txt -> pickscore-sfw-test.txt."""
    return "-".join(PurePosixPath(path.removeprefix("dataset/")).parts).replace("_", "-")


@dataclass(frozen=True)
class PromptFile:
    """A suite's prompts, or those that models for it are trained on. repository None: the file lies beside the card."""

    suite: str
    """As a user types it."""
    purpose: Literal["test", "training"]
    path: str
    repository: str | None
    revision: str | None
    digest: Digest | None
    beside: Path

    @property
    def cached(self) -> Path:
        """Where a fetched copy is kept."""
        return cache_folder() / "prompts" / local_name(self.path)

    @property
    def origin(self) -> str:
        """The file where it is published, in words."""
        return f"{self.path} of {self.repository}" + (f" at {self.revision}" if self.revision else "")

    @property
    def by_hand(self) -> str:
        """Where a copy from elsewhere is to be put, in words."""
        return f"as {local_name(self.path)} in a folder that --prompts-dir or {PROMPTS_VARIABLE} names"

    def find(self) -> Path | None:
        """The file, unchecked. Raises UsageError where it should lie beside the card, or in a folder, that isn't there."""
        places = [self.beside]
        if self.repository:
            places += [*_users_folder(local_name(self.path)), self.cached]
        found = next((place for place in places if place.is_file()), None)
        if found is None and not self.repository:
            raise UsageError(f"the prompt file {self.beside} of suite {self.suite!r} is not there", "check its 'path'")
        return found

    def check(self, path: Path) -> Path:
        """The path again. Raises Refused where its content is not what the card asks for."""
        got = self.digest and self.digest.of(path)
        if self.digest and got != self.digest:
            raise Refused(
                f"the prompt file {path} has {got} and the card asks for {self.digest.value}",
                "put the card's file there, or give the card of your own suite the new digest",
            )
        return path

    def locate(self) -> Path:
        """The file, checked. Raises what `find` and `check` raise, and MissingWeights where it is not on this machine."""
        found = self.find()
        if found is None:
            what = "training prompts" if self.purpose == "training" else "prompts"
            digest = f", {self.digest}" if self.digest else ""
            raise MissingWeights(
                f"the {what} of suite {self.suite!r} are not on this machine ({self.origin}{digest})",
                f"run '{fetch_command([self])}', or save that file {self.by_hand}",
            )
        return self.check(found)


def fetch_command(files: Sequence[PromptFile]) -> str:
    """What a user types to have them fetched."""
    names = " ".join(dict.fromkeys(file.suite for file in files))
    return f"star-bench fetch --prompts {names}" + (
        " --training" if any(f.purpose == "training" for f in files) else ""
    )


def prompts_of(card: SuiteCard) -> PromptFile:
    """Raises UsageError where the card names no file."""
    source = card.prompts
    if source.path is None:
        raise UsageError(f"the card of suite {card.name!r} names no prompt file", "give its prompts a 'path'")
    digest = Digest("sha256", source.sha256) if source.sha256 else None
    beside = card.folder / source.path
    return PromptFile(card.asked, "test", source.path, source.repository, source.revision, digest, beside)


def training_of(card: SuiteCard) -> PromptFile | None:
    """None where the card names no training set."""
    source = card.prompts.training
    if source is None:
        return None
    beside = card.folder / source.path
    return PromptFile(card.asked, "training", source.path, source.repository, source.revision, source.digest, beside)


def locate_training(card: SuiteCard) -> Path:
    """The file of the card's training prompts. Raises UsageError where it names none, and what PromptFile.locate does."""
    file = training_of(card)
    if file is None:
        raise UsageError(
            f"the card of suite {card.name!r} names no training prompts", "give its prompts a 'training' with a 'path'"
        )
    return file.locate()


def lines_of(path: Path) -> list[str]:
    """All lines but blank ones at the end, surrounding blanks removed.

    Raises UsageError for a file that can't be read, is not UTF-8 or is empty.
    """
    # Not splitlines(): it would also break a prompt at a form feed or U+2028, which Flow-GRPO's reader does not.
    lines = [line.strip(BLANK) for line in read_text(path).rstrip(BLANK).split("\n")]
    if lines == [""]:
        raise UsageError(f"the prompt file {path} is empty", "write one prompt per line")
    return lines


def numbered_lines(path: Path) -> list[tuple[int, str]]:
    """The lines that are not blank, each with its number, from 1. Raises what `lines_of` raises."""
    return [(number, line) for number, line in enumerate(lines_of(path), start=1) if line]


def read(card: SuiteCard) -> list[str]:
    """The suite's prompts in order: prompt i stands on line i + 1 of the file. Where the card says `repeats`, each
    prompt once, in the order of their first lines.

    Raises what PromptFile.locate and lines_of raise, and UsageError for a blank line inside, or a prompt that does not
    stand there as often as the card says.
    """
    path = prompts_of(card).locate()
    lines = lines_of(path)
    if "" in lines:
        raise UsageError(f"{path}, line {lines.index('') + 1}, is blank", "write one prompt per line")
    if card.prompts.repeats is None:
        return lines
    counts = Counter(lines)
    for number, line in enumerate(lines, start=1):
        if counts[line] != card.prompts.repeats:
            raise UsageError(
                f"the prompt in {path}, line {number}, stands there {counts[line]} times and the card of suite "
                f"{card.name!r} says {card.prompts.repeats}",
                "correct the card's 'repeats'",
            )
    return list(counts)


def _users_folder(name: str) -> list[Path]:
    folder = os.environ.get(PROMPTS_VARIABLE)
    if not folder:
        return []
    if not Path(folder).is_dir():
        raise UsageError(f"{PROMPTS_VARIABLE} names {folder}, which is no folder", "correct or unset it")
    return [Path(folder) / name]
