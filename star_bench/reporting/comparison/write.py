"""Writes a comparison's report: a folder that can be opened, mailed or served as it is."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from star_bench.analysis.compare import Comparison
from star_bench.analysis.runs import SuiteComparison
from star_bench.files.atomic import write_atomically
from star_bench.reporting import tables
from star_bench.reporting.comparison.page import render_comparison, render_overview
from star_bench.reporting.comparison.pair_cards import PairCard, pair_cards
from star_bench.reporting.comparison.tables import as_data, each, flips_frame, tidy_frame, to_report
from star_bench.reporting.gallery.cards import Card

LONGEST_NAME = 100
"""Characters of the models' names in a folder's name (chosen here)."""


def folder_name(found: Sequence[SuiteComparison]) -> str:
    """compare-<models>-<first 8 of a digest of all runs>, without characters that a path can't hold."""
    models = dict.fromkeys(run.results.model.name for suite in found for run in suite.runs)
    digests = "".join(run.results.digest for suite in found for run in suite.runs)
    return f"compare-{_plain('-'.join(models))}-{hashlib.sha256(digests.encode()).hexdigest()[:8]}"


def _plain(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text)[:LONGEST_NAME].strip(".-")


def _bytes(text: str) -> bytes:
    """A lone surrogate is valid JSON and no valid UTF-8; it is shown as "?"."""
    return text.encode("utf-8", "replace")


def write_comparison(found: Sequence[SuiteComparison], out: Path) -> Path:
    """Writes pictures/, the tables and the pages into `out`; returns the path of its index.html.

    Pages come after their pictures. Raises Refused for pictures that can't be trusted, and DiskError for a file that
    can't be written.
    """
    listed = list(each(found))
    # Of several comparisons each has its page beside the overview, index.html.
    addresses = [f"{i}-{_plain(f'{s.results.suite}-{a}')}.html" for i, (s, _, _, a) in enumerate(listed, start=1)]
    overview = "index.html" if len(listed) > 1 else ""
    for (_, comparison, before, after), address in zip(listed, addresses, strict=True):
        cards = _write_pictures(comparison, out)
        text = render_comparison(comparison, before, after, cards, overview)
        write_atomically(out / (address if overview else "index.html"), _bytes(text))
    write_atomically(out / "compare.csv", _bytes(tables.to_csv(tidy_frame(found))))
    write_atomically(out / "flips.csv", _bytes(tables.to_csv(flips_frame(found))))
    write_atomically(out / "compare.json", _bytes(json.dumps(as_data(found), indent=2, allow_nan=False) + "\n"))
    write_atomically(out / "compare.md", _bytes(to_report(found)))
    if overview:
        write_atomically(out / "index.html", _bytes(render_overview(found, addresses)))
    return out / "index.html"


def _write_pictures(comparison: Comparison, out: Path) -> list[PairCard]:
    """The cards that the page needs, without the pictures' bytes: these are written one pair at a time."""
    return [
        replace(card, before=_written(card.before, out), after=_written(card.after, out))
        for card in pair_cards(comparison)
    ]


def _written(card: Card, out: Path) -> Card:
    if card.picture is None:
        return card
    for name, content in card.picture.files.items():
        write_atomically(out / name, content, synced=False)
    return replace(card, picture=replace(card.picture, png=b"", thumbnail=b""))
