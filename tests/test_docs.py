"""The documentation's links lead somewhere, and its lists are whole."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from star_bench.assets.asset import Download
from star_bench.assets.weights import WeightsReference
from star_bench.catalogue import plugins, suites
from star_bench.evaluators.base import Evaluator

ROOT = Path(__file__).parents[1]
PAGES = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").rglob("*.md"),
    *(ROOT / "benchmarks").rglob("*.md"),
    *(ROOT / "reports").glob("*.md"),
    *(ROOT / "reports").glob("*/README.md"),
]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as they are made of their text where Markdown is shown."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_to_files_and_headings_exist(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        assert target.exists(), f"{page}: {link}"
        assert not anchor or target.suffix != ".md" or anchor in anchors(target), f"{page}: {link}"


def test_the_page_on_suites_lists_every_key() -> None:
    page = (ROOT / "docs" / "suite.md").read_text(encoding="utf-8")
    models = (
        suites.SuiteCard,
        suites.PromptSource,
        suites.TrainingSource,
        suites.JudgeWeights,
        suites.SuiteProtocol,
        suites.CanaryCard,
        suites.RelativeCanaryCard,
        suites.PublishedNumber,
        WeightsReference,
        Download,
    )
    keys = {key for model in models for key in model.model_fields} - {"folder"}
    assert [key for key in sorted(keys) if f"`{key}`" not in page] == []


def test_the_page_on_plugins_lists_every_group_and_method() -> None:
    page = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
    groups = [value for name, value in vars(plugins).items() if name.isupper() and isinstance(value, str)]
    assert len(groups) == 6 and [group for group in groups if group not in page] == []
    own = [name for name in vars(Evaluator) if not name.startswith("_") and name not in ("reward",)]
    assert [name for name in own if f"`{name}" not in page] == []
