"""Reads what a leaderboard needs of each run below a folder, and no more: a thousand runs within a second or two.

Scores and pictures stay where they are. Of manifest.json only the suite's card is read, and of prompts.jsonl its sha256.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from star_bench.catalogue.cards import did_you_mean
from star_bench.errors import Refused, UsageError
from star_bench.files.digests import sha256_of
from star_bench.files.json import parse_json, read_json
from star_bench.runs.finished import Results, check_record
from star_bench.runs.pictures import PICTURES

PROMPTS = b'\n  "prompts": ['
"""In a manifest as star-bench writes it, by far the longest entry, of which nothing is needed here. Two spaces make it a
key of the outermost object: inside a string a line can't break."""
HEAD = 1 << 16
"""Bytes of a manifest within which it should begin (chosen here; a card has some 5 kB)."""


@dataclass(frozen=True)
class Entry:
    """A run with results. suite: the content of its suite's card. prompts_sha256: of its prompts.jsonl."""

    folder: Path
    results: Results
    suite: Mapping[str, Any]
    prompts_sha256: str


@dataclass(frozen=True)
class LeftOut:
    """A run of the suite that has no place in any table, and why."""

    folder: Path
    reason: str


def read_entries(runs: Path, suite: str) -> tuple[list[Entry], list[LeftOut]]:
    """All runs of `suite` below `runs`, by path; one that is unfinished or broken doesn't hide the others.

    Raises UsageError where there is none.
    """
    entries, left_out = [], []
    for manifest in sorted(runs.glob(f"*/{_plain(suite)}/*/manifest.json")):
        folder = manifest.parent
        try:
            entries.append(_read(folder))
        except FileNotFoundError as error:
            left_out.append(LeftOut(folder, f"unfinished: it has no {Path(error.filename).name}"))
        except Refused as error:
            left_out.append(LeftOut(folder, f"broken: {error.problem}"))
    if not entries and not left_out:
        there = {path.name for path in runs.glob("*/*") if path.is_dir()} - {PICTURES}
        remedy = did_you_mean(suite, there) if there else "name the folder of your runs with --runs"
        raise UsageError(f"there is no run of {suite!r} below {runs}", remedy)
    return entries, left_out


def _plain(suite: str) -> str:
    """A suite's name and no pattern, nor a way to another folder. Raises UsageError."""
    if not suite or set(suite) & set("*?[]/\\") or suite in (".", "..", PICTURES):
        raise UsageError(f"{suite!r} is no suite's name", "see 'star-bench ls runs' for the suites that were run")
    return suite


def _read(folder: Path) -> Entry:
    """Raises FileNotFoundError for a run without results, Refused for a broken one."""
    path = folder / "results.json"
    results = check_record(Results, read_json(path), str(path))
    try:
        return Entry(folder, results, _card_in(folder / "manifest.json"), sha256_of(folder / "prompts.jsonl"))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Refused(f"{error.filename} can't be read ({error.strerror})", "run the suite again") from None


def _card_in(manifest: Path) -> Mapping[str, Any]:
    """The card's content, from what stands before the prompts; from the whole file where it is written otherwise."""
    with manifest.open("rb") as file:
        head, found, _ = file.read(HEAD).partition(PROMPTS)
    try:
        data = parse_json(head.rstrip().rstrip(b",") + b"\n}") if found else read_json(manifest)
    except ValueError as error:
        raise Refused(f"{manifest} can't be read ({error})", "run the suite again") from None
    card = data.get("suite") if isinstance(data, dict) else None
    if not isinstance(card, dict):
        raise Refused(f"{manifest} does not hold its suite's card", "run the suite again")
    return card
