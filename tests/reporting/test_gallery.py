"""What stands on a run's cards: thumbnails, aligned texts, ranks, the spread of scores, and what a detector saw."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from star_bench.evaluators.ocr.rule import normalise
from star_bench.reporting.gallery.alignment import Stretch, align
from star_bench.reporting.gallery.detections import detections_of
from star_bench.reporting.gallery.histogram import histogram
from star_bench.reporting.gallery.ranks import Rank, ranks
from star_bench.reporting.gallery.thumbnails import SMALL_SIDE, THUMBNAIL_SIDE
from star_bench.reporting.write import write_report
from star_bench.runs.finished import read_run

if TYPE_CHECKING:
    from conftest import Run


def enlarge(run: Run, number: int, size: tuple[int, int], name: str = "0.png") -> Path:
    """Another picture for an image of the run, smooth, so that a JPEG of it is nearly the same."""
    path = run.folder / "images" / f"{number:05d}" / name
    ramp = np.linspace(0, 255, size[0] * size[1] * 3).reshape(size[1], size[0], 3).astype(np.uint8)
    PIL.Image.fromarray(ramp).save(path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    run.samples[number].update(path=path.relative_to(run.folder).as_posix(), sha256=sha256)
    return path


def test_a_large_picture_gets_a_thumbnail_and_keeps_its_bytes(run: Run) -> None:
    source = enlarge(run, 0, (640, 480))
    report = write_report(run.write(), run.folder / "report").parent
    assert (report / "images/00000/0.png").read_bytes() == source.read_bytes()
    small = PIL.Image.open(report / "thumbnails/00000/0.jpg")
    assert small.size == (THUMBNAIL_SIDE, THUMBNAIL_SIDE * 3 // 4)
    large = PIL.Image.open(source).resize(small.size, PIL.Image.Resampling.BICUBIC)
    assert np.abs(np.asarray(small, int) - np.asarray(large, int)).mean() < 3
    assert 'src="thumbnails/00000/0.jpg" width="640" height="480"' in (report / "index.html").read_text()


def test_a_small_picture_is_its_own_thumbnail(run: Run) -> None:
    enlarge(run, 0, (SMALL_SIDE, SMALL_SIDE))
    report = write_report(run.write(), run.folder / "report").parent
    assert not (report / "thumbnails").exists()


def test_a_large_picture_that_breaks_off_is_not_shown(run: Run) -> None:
    path = enlarge(run, 0, (512, 512))
    path.write_bytes(path.read_bytes()[:2000])
    run.samples[0]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    html = write_report(run.write(), run.folder / "report").read_text()
    assert "picture not kept" in html


@given(st.text("abc DEF", min_size=1), st.lists(st.text("abc DEF"), max_size=3))
def test_an_alignment_holds_both_texts_and_the_rules_edits(target: str, read: list[str]) -> None:
    pieces = align(target, read)
    wanted, got = normalise(target), normalise("".join(read))
    assert "".join(piece.target for piece in pieces) == wanted
    assert "".join(piece.read for piece in pieces) == got
    edits = sum(max(len(piece.target), len(piece.read)) for piece in pieces if piece.kind != "equal")
    assert edits == Levenshtein.distance(wanted, got)
    assert all(len(piece.target) == len(piece.read) for piece in pieces if piece.kind in ("equal", "replaced"))


def test_a_target_that_was_read_stays_in_one_piece() -> None:
    assert align("OPEN", ["no", "pe", "OPENED"]) == (
        Stretch("extra", "", "nope"),
        Stretch("equal", "open", "open"),
        Stretch("extra", "", "ed"),
    )


def test_equal_scores_share_the_better_rank(run: Run) -> None:
    run.scores[1]["value"] = 0.5
    images = read_run(run.write()).images
    right = sum(row["value"] == 1 for row in run.scores)
    assert ranks(images)[:3] == [
        Rank(1, 1, 1, 14),
        Rank(1, 1, right + 1, 14),
        Rank(1, 1, right + 2, 14),
    ]
    assert [image.status for image, rank in zip(images, ranks(images), strict=True) if rank is None] == [
        "missing", "corrupt", "degenerate", "error",
    ]  # fmt: skip


@given(st.lists(st.floats(-30, 30), min_size=2, max_size=50), st.booleans())
def test_every_score_is_in_one_bar(values: list[float], bounded: bool) -> None:
    made = histogram(values, -30.0 if bounded else None, 30.0 if bounded else None)
    assert made is not None
    assert sum(bar.count for bar in made.bars) == len(values)
    room = 1e-6 * made.axis.step
    assert all(bar.low - room <= bar.least <= bar.greatest <= bar.high + room for bar in made.bars)
    assert all(0 < made.tall(bar) <= made.height for bar in made.bars)


def test_an_edge_belongs_to_the_bar_above_it_and_a_single_score_has_no_spread() -> None:
    made = histogram([0.15, 0.1 + 0.05, 0.6, 1.0, 0.95], 0.0, 1.0)
    assert made is not None
    assert [(round(bar.low, 2), bar.count) for bar in made.bars] == [(0.15, 2), (0.6, 1), (0.95, 2)]
    assert histogram([0.5], 0.0, 1.0) is None


@pytest.mark.parametrize(
    "broken",
    [
        {"box": [1, 2, 3]},
        {"box": [1, 2, 3, None]},
        {"box": [1, 2, 3, True]},
        {"box": [1, 2, 3, 4], "mask": {"size": [2, 2], "counts": "9"}},
        {"box": [1, 2, 3, 4], "votes": ["red"]},
        {"box": [1, 2, 3, 4], "votes": {"red": "much"}},
        "cup",
    ],
)
def test_detections_that_cannot_be_drawn_are_not_drawn_in_part(broken: Any) -> None:
    good = {"class": "cup", "box": [1, 2, 3, 4]}
    assert len(detections_of({"detections": [good]})) == 1
    assert detections_of({"detections": [good, broken]}) == ()
