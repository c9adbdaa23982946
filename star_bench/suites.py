"""A suite is a card: evaluator, prompts, judges, protocol defaults, canaries, licence, published numbers."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import Field

from star_bench.cards import Strict, did_you_mean, load_yaml, parse
from star_bench.errors import UsageError
from star_bench.shipped import SUITES_FOLDER


class Published(Strict):
    """A number somebody else printed, with enough to know what it is."""

    value: float
    metric: str = ""
    source: str
    protocol: str = "not stated"
    tags: dict[str, float] = Field(default_factory=dict)


class PublishedNumber(Published):
    """A number that somebody else printed for this suite."""

    model: str


class PromptSource(Strict):
    """generator: made by the evaluator's own code with `options`; or a file (`path`, relative to the card, or a file in
    a Hugging Face/GitHub repository at a pinned revision) with its sha256."""

    generator: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    path: str | None = None
    repository: str | None = None
    revision: str | None = None
    sha256: str | None = None
    licence: str = "not stated"


class GenerationDefaults(Strict):
    """What a suite's protocol asks of a generation; a checkpoint's own defaults fill what is left open."""

    samples: int | None = Field(default=None, ge=1)
    steps: int | None = Field(default=None, ge=1)
    guidance_scale: float | None = Field(default=None, ge=0)
    negative_prompt: str | None = None
    height: int | None = Field(default=None, ge=8)
    width: int | None = Field(default=None, ge=8)
    max_sequence_length: int | None = Field(default=None, ge=1)


class CanaryCard(Strict):
    """A picture beside the card, and the range that its score must lie in."""

    image: str
    prompt: str
    metadata: dict[str, Any] = Field(default_factory=dict)
    low: float
    high: float


class SuiteCard(Strict):
    """benchmarks/suites/<name>/card.yaml"""

    name: str
    title: str
    summary: str
    evaluator: str
    prompts: PromptSource
    judges: dict[str, Any] = Field(default_factory=dict)
    protocol: GenerationDefaults = GenerationDefaults()
    canaries: list[CanaryCard] = Field(default_factory=list)
    licence: str
    papers: list[str] = Field(default_factory=list)
    published: list[PublishedNumber] = Field(default_factory=list)
    folder: Path = Field(default=Path(), exclude=True)
    """Where the card lies; set at load, not part of its content."""

    @cached_property
    def content(self) -> dict[str, Any]:
        """What the card says, without where it lies: enters the run's digest."""
        return self.model_dump(mode="json", exclude={"folder", "published", "title", "summary", "papers"})


def names() -> list[str]:
    """All suites that come with the package."""
    return sorted(path.parent.name for path in SUITES_FOLDER.glob("*/card.yaml"))


def load(name: str) -> SuiteCard:
    """The card of a suite by name, or by the path of a card.yaml or of its folder.

    Raises UsageError for an unknown name or a broken card.
    """
    path = Path(name)
    if path.is_dir():
        path = path / "card.yaml"
    if path.suffix != ".yaml":
        if name not in names():
            raise UsageError(f"there is no suite named {name!r}", did_you_mean(name, names()))
        path = SUITES_FOLDER / name / "card.yaml"
    return parse(SuiteCard, {**load_yaml(path), "folder": path.parent}, str(path))
