"""Writes a run's report: a folder that can be opened, mailed or served as it is."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from star_bench.files.atomic import write_atomically
from star_bench.reporting import latex, tables
from star_bench.reporting.gallery.cards import Card, cards
from star_bench.reporting.masks.steps import read_step_maps
from star_bench.reporting.page import render
from star_bench.runs.finished import Results, read_run


def folder_name(model: str, what: str, digest: str) -> str:
    """<model>-<what>-<first 8 of the digest>, without characters that a path can't hold."""
    return re.sub(r"[^\w.-]+", "-", f"{model}-{what}-{digest[:8]}").lstrip(".-")


def report_name(results: Results) -> str:
    """Of a run's report: <model>-<suite>-<first 8 of the digest>."""
    return folder_name(results.model.name, results.suite, results.digest)


def _bytes(text: str) -> bytes:
    """A lone surrogate is valid JSON and no valid UTF-8; it is shown as "?"."""
    return text.encode("utf-8", "replace")


def write_report(run_dir: Path, out: Path) -> Path:
    """Writes a run's report into `out`: images/, thumbnails/, tables and index.html, whose path it returns.

    The page comes last, so that it never names a picture that is not there. Raises UsageError for a run that
    did not finish, Refused for one that can't be trusted, and DiskError for a file that can't be written.
    """
    run = read_run(run_dir)
    shown: list[Card] = []
    for card in cards(run):
        if card.picture:
            for name, content in card.picture.files.items():
                # A report can be made again at will, so thousands of pictures need not wait for the disk.
                write_atomically(out / name, content, synced=False)
        if card.strip:
            write_atomically(out / card.strip.name, card.strip.png, synced=False)
        # The page needs a picture's name and size; thousands of pictures need not stay in memory.
        picture = card.picture and replace(card.picture, png=b"", thumbnail=b"")
        shown.append(replace(card, picture=picture, strip=card.strip and replace(card.strip, png=b"")))
    tidy = tables.tidy_frame(run.results)
    write_atomically(out / "results.csv", _bytes(tables.to_csv(tidy)))
    write_atomically(out / "results.json", _bytes(tables.to_json(tidy)))
    write_atomically(out / "results.tex", _bytes(latex.run_table(run.results)))
    write_atomically(out / "report.md", _bytes(tables.report_markdown(run.results)))
    write_atomically(out / "index.html", _bytes(render(run.results, shown, read_step_maps(run))))
    return out / "index.html"
