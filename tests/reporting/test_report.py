"""A report folder: whole, honest about failures, and inert whatever a prompt says."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.ExifTags
import PIL.Image
import pytest

from star_bench.errors import Refused, UsageError
from star_bench.reporting.write import report_name, write_report
from star_bench.runs.finished import parse_results

if TYPE_CHECKING:
    from conftest import Run


SCRIPTS = 2
"""Elements of that name: the page's own script, and the images' data, which run nothing."""


class Page(HTMLParser):
    """Every element with its attributes, the text of each card and style, the scripts that run, and the images' data."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.cards: list[str] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": [], "data": []}
        self.open = ""
        self.feed(path.read_text(encoding="utf-8"))
        (data,) = self.raw["data"]
        self.images: list[dict[str, Any]] = json.loads(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.open = "data" if dict(attrs).get("type") == "application/json" else tag
        if tag == "article":
            self.cards.append("")

    def handle_data(self, data: str) -> None:
        if self.open in self.raw:
            self.raw[self.open].append(data)
            self.open = ""
        elif self.cards:
            self.cards[-1] += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag]


def report(run: Run) -> Page:
    return Page(write_report(run.write(), run.folder / "report"))


def test_the_folder_holds_every_file_and_nothing_half_written(run: Run) -> None:
    index = write_report(run.folder, run.folder / "report")
    names = {path.relative_to(index.parent).as_posix() for path in index.parent.rglob("*") if path.is_file()}
    pictures = {f"images/{i:05d}/0.png" for i in {*range(18)} - {run.failed["missing"], run.failed["corrupt"]}}
    assert names == pictures | {"index.html", "report.md", "results.csv", "results.json", "results.tex"}
    source, copy = run.folder / "images/00000/0.png", index.parent / "images/00000/0.png"
    assert copy.read_bytes() == source.read_bytes()


def test_writing_again_replaces_the_report(run: Run) -> None:
    index = write_report(run.folder, run.folder / "report")
    first = index.read_text()
    run.results["model"]["name"] = "another"
    assert write_report(run.write(), run.folder / "report").read_text() != first


def test_hostile_prompts_are_shown_as_text_and_add_no_element_or_handler(run: Run) -> None:
    page = report(run)
    for text, shown in zip(run.hostile, page.cards, strict=False):
        assert text in shown
    assert len(page.of("script")) == SCRIPTS
    assert len(page.of("img")) == 16
    assert not [key for _, attrs in page.elements for key in attrs if key.startswith("on") or key == "style"]
    assert {attrs["href"] for attrs in page.of("a") if "javascript" in (attrs["href"] or "")} == set()


@pytest.mark.parametrize("place", ["text", "tag", "id"])
def test_hostile_rows_stay_data(run: Run, place: str) -> None:
    run.prompts[0][place] = hostile = '../"><script>alert(1)</script>\ud800'
    if place == "id":
        for row in (run.samples[0], run.scores[0]):
            row["prompt_id"] = hostile
    page = report(run)
    assert len(page.of("script")) == SCRIPTS
    assert all(re.fullmatch(r"images/[\w-]+/0\.png", attrs["src"] or "") for attrs in page.of("img"))


def test_the_policy_lets_through_exactly_our_style_and_script(run: Run) -> None:
    page = report(run)
    (policy,) = [attrs["content"] or "" for attrs in page.of("meta") if "http-equiv" in attrs]
    for tag in ("script", "style"):
        (text,) = page.raw[tag]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy


def test_the_page_asks_nothing_of_a_network(run: Run) -> None:
    page = report(run)
    loaded = [attrs.get("src") or "" for _, attrs in page.elements if "src" in attrs]
    assert loaded
    assert all(name.startswith("images/") for name in loaded)
    assert page.of("link") == []
    assert "url(" not in page.raw["style"][0]
    assert all(attrs["loading"] == "lazy" for attrs in page.of("img"))


@pytest.mark.parametrize("status", ["missing", "corrupt", "degenerate", "error"])
def test_a_failure_shows_its_status_and_why_and_never_a_number(run: Run, status: str) -> None:
    shown = report(run).cards[run.failed[status]]
    assert f"the image is {status}" in shown
    assert "no score" in shown
    assert "0.0000" not in shown


def test_verdicts_reasons_and_boxes(run: Run) -> None:
    page = report(run)
    assert "passed" in page.cards[0]
    assert "1.0000" in page.cards[0]
    assert "failed" in page.cards[2]
    assert "expected no" in page.cards[2]
    for row, image in zip(run.scores, page.images, strict=True):
        seen = row["detail"].get("detections", [])
        assert [each["box"] for each in image.get("detections", [])] == [each["box"] for each in seen]


def test_a_graded_metric_scores_and_its_details_are_listed(run: Run) -> None:
    run.results["metric"]["range"] = [None, None]
    run.scores[0].update(value=21.53, detail={"cosine": 0.21534, "read": ["HELO", "<b>"], "nested": {"a": [1]}})
    run.scores[1]["detail"] = {"detections": [{"class": "cup", "box": [1, 2]}], "reason": None}
    page = report(run)
    assert "scored" in page.cards[0] and "21.5300" in page.cards[0]
    assert page.images[0]["facts"] == [["cosine", "0.2153"], ["read", "HELO, <b>"], ["nested", '{"a": [1]}']]
    assert '"box": [1, 2]' in dict(page.images[1]["facts"])["detections"]


def test_a_subset_of_foreign_images_says_so_on_the_page(run: Run) -> None:
    run.results.update(subset={"limit": 18, "of": 553}, generation="foreign", protocol=None)
    html = write_report(run.write(), run.folder / "report").read_text()
    for text in ("INCOMPLETE: 14 of 18", "SUBSET (18 of 553 prompts)", "FOREIGN IMAGES"):
        assert html.count(text) == 2  # above the headline, and in the table's caption


def test_a_foreign_jpeg_becomes_a_png_of_the_same_pixels(run: Run) -> None:
    path = run.folder / "images/00000/0.jpg"
    PIL.Image.open(run.folder / "images/00000/0.png").crop((0, 0, 64, 40)).save(path, "JPEG")
    run.samples[0].update(path="images/00000/0.jpg", sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    report(run)
    shown = PIL.Image.open(run.folder / "report/images/00000/0.png")
    assert shown.format == "PNG"
    assert np.array_equal(np.asarray(shown), np.asarray(PIL.Image.open(path)))


def test_a_turned_png_is_shown_the_way_it_was_judged(run: Run) -> None:
    path, exif = run.folder / "images/00000/0.png", PIL.Image.Exif()
    exif[PIL.ExifTags.Base.Orientation] = 6
    PIL.Image.new("RGB", (64, 40)).save(path, exif=exif)
    run.samples[0]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    report(run)
    assert PIL.Image.open(run.folder / "report/images/00000/0.png").size == (40, 64)


def test_a_picture_that_is_gone_leaves_its_score(run: Run) -> None:
    (run.folder / "images/00000/0.png").unlink()
    shown = report(run).cards[0]
    assert "picture not kept" in shown
    assert "1.0000" in shown


def test_a_picture_that_changed_after_scoring_is_refused(run: Run) -> None:
    PIL.Image.new("RGB", (64, 64)).save(run.folder / "images/00000/0.png")
    with pytest.raises(Refused, match="has changed since it was scored"):
        report(run)


def test_a_picture_outside_the_run_is_refused(run: Run) -> None:
    run.samples[0]["path"] = "../secret.png"
    with pytest.raises(Refused, match="outside itself"):
        report(run)


def test_a_run_that_did_not_finish_has_no_report(run: Run) -> None:
    (run.folder / "results.json").unlink()
    with pytest.raises(UsageError, match="finish this run"):
        write_report(run.folder, run.folder / "report")


def test_versions_come_from_the_manifest(run: Run) -> None:
    report(run)
    assert "- torch: 2.9.0\n" in (run.folder / "report/report.md").read_text()


def test_results_of_other_scores_are_refused(run: Run) -> None:
    run.scores.pop()
    with pytest.raises(Refused, match=r"holds 13 scores and its results\.json speaks of 14"):
        report(run)


def test_broken_rows_are_refused_by_line(run: Run) -> None:
    rows = run.folder / "scores.jsonl"
    lines = rows.read_text().splitlines()
    rows.write_text("\n".join([lines[0], lines[1][:20], *lines[2:]]))
    with pytest.raises(Refused, match=r"line 2 of .*scores\.jsonl"):
        write_report(run.folder, run.folder / "report")
    rows.write_text(json.dumps({"prompt_id": "00000", "k": 0, "status": "missing", "value": 0.0}) + "\n")
    with pytest.raises(Refused, match="exactly when its status is ok"):
        write_report(run.folder, run.folder / "report")


def test_the_folder_name_is_a_plain_file_name(run: Run) -> None:
    run.results["model"]["name"] = "../org/model v1"
    assert report_name(parse_results(run.results)) == "org-model-v1-geneval-miniature-01234567"


def test_reporting_never_imports_torch() -> None:
    code = "import sys, star_bench.reporting.write; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
