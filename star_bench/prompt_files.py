"""A suite's prompt file: found on this machine, checked by its sha256, one prompt per line.

Looked for, in this order: beside the card; in the folder that STAR_BENCH_PROMPTS_DIR names; in the cache. Nothing
is fetched here.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path, PurePosixPath

from star_bench.cache import cache_folder
from star_bench.errors import MissingWeights, Refused, UsageError
from star_bench.suites import SuiteCard

PROMPTS_VARIABLE = "STAR_BENCH_PROMPTS_DIR"


def local_name(path: str) -> str:
    """A repository's prompt file outside it: dataset/pickscore_sfw/test.txt -> pickscore-sfw-test.txt."""
    return "-".join(PurePosixPath(path.removeprefix("dataset/")).parts).replace("_", "-")


def locate(card: SuiteCard) -> Path:
    """The suite's prompt file, its sha256 checked where the card gives one.

    Raises UsageError where the card names no file or a folder that is not there, MissingWeights where the file is not
    on this machine, Refused where its content is not what the card asks for.
    """
    source = card.prompts
    if source.path is None:
        raise UsageError(
            f"the card of suite {card.name!r} names no prompt file",
            "give its prompts a 'path'",
        )
    places = [card.folder / source.path]
    if source.repository:
        places += _elsewhere(local_name(source.path))
    found = next((place for place in places if place.is_file()), None)
    if found is None and source.repository:
        raise MissingWeights(*_missing(card, places[-1]))
    if found is None:
        raise UsageError(
            f"the prompt file {places[0]} of suite {card.name!r} is not there",
            "check the card's 'path'",
        )
    if source.sha256:
        _check(found, source.sha256)
    return found


def read(card: SuiteCard) -> list[str]:
    """The suite's prompts in order, surrounding blanks removed; prompt i stands on line i + 1 of the file.

    Raises what `locate` raises, and UsageError for a file that is empty, not UTF-8, or has a blank line inside.
    """
    path = locate(card)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} can't be read ({error})", "check that it is a readable UTF-8 file") from None
    # Not splitlines(): it would also break a prompt at a form feed or U+2028, which Flow-GRPO's reader does not.
    lines = [line.strip() for line in text.rstrip().split("\n")]
    if lines == [""]:
        raise UsageError(f"the prompt file {path} is empty", "write one prompt per line")
    if "" in lines:
        raise UsageError(f"{path}, line {lines.index('') + 1}, is blank", "write one prompt per line")
    return lines


def _elsewhere(name: str) -> list[Path]:
    places = [cache_folder() / "prompts" / name]
    if folder := os.environ.get(PROMPTS_VARIABLE):
        if not Path(folder).is_dir():
            raise UsageError(
                f"{PROMPTS_VARIABLE} names {folder}, which is no folder",
                "correct or unset it",
            )
        places.insert(0, Path(folder) / name)
    return places


def _missing(card: SuiteCard, cached: Path) -> tuple[str, str]:
    source = card.prompts
    revision = f" at {source.revision}" if source.revision else ""
    digest = f", sha256 {source.sha256}" if source.sha256 else ""
    file = f"{source.path} of {source.repository}{revision}{digest}"
    return (
        f"the prompts of suite {card.name!r} are not on this machine ({file})",
        f"download that file and save it as {cached.name} in a folder that {PROMPTS_VARIABLE} names, or as {cached}",
    )


def _check(path: Path, wanted: str) -> None:
    got = hashlib.sha256(path.read_bytes()).hexdigest()
    if got != wanted:
        raise Refused(
            f"the prompt file {path} has sha256 {got} and the card asks for {wanted}",
            "put the card's file there, or give the card of your own suite the new sha256",
        )
