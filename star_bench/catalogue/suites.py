"""A suite is a card: evaluator, prompts, judges, images per prompt, canaries, licence, published numbers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from star_bench.catalogue import plugins
from star_bench.catalogue.cards import Strict, did_you_mean, load_yaml, parse
from star_bench.catalogue.protocol import GenerationSettings
from star_bench.catalogue.shipped import SUITES_FOLDER
from star_bench.errors import UsageError
from star_bench.files.digests import Digest

Commercial = Annotated[
    Literal["yes", "no", "unknown"],
    BeforeValidator(lambda said: "yes" if said is True else "no" if said is False else said),
]
"""Whether commercial use is allowed: in YAML true, false or unknown, which is what nobody stated plainly."""
NOT_STATED = "not stated"


class Published(Strict):
    """A number somebody else printed, with enough to know what it is."""

    value: float
    metric: str = ""
    source: str
    protocol: str = "not stated"
    """The name of a protocol, whose settings can be held against a run's; or what the source says, in words."""
    tags: dict[str, float] = Field(default_factory=dict)


class PublishedNumber(Published):
    """A number that somebody else printed for this suite."""

    model: str


class TrainingSource(Strict):
    """The prompts that models for this suite are trained on: a file as in PromptSource. No run of the suite reads it;
    the trainer and the leakage report do."""

    path: str
    repository: str | None = None
    revision: str | None = None
    digest: Annotated[Digest, BeforeValidator(Digest.parse)] | None = None
    licence: str = NOT_STATED
    commercial: Commercial = "unknown"
    licence_url: str | None = None


class PromptSource(Strict):
    """generator: made by the evaluator's own code with `options`; or a file (`path`, relative to the card, or a file in
    a GitHub repository) with its sha256, which pins the content whatever the revision is called.

    None of it enters a digest: those hold the prompts themselves.
    """

    generator: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    path: str | None = None
    repository: str | None = None
    revision: str | None = None
    sha256: str | None = None
    repeats: int | None = Field(default=None, ge=2)
    """The file says every prompt so many times, and the suite once; without it, every line is a prompt of its own."""
    training: TrainingSource | None = None
    licence: str = NOT_STATED
    commercial: Commercial = "unknown"
    licence_url: str | None = None


class JudgeWeights(Strict):
    """Weights that a suite judges with, and what may be done with them."""

    name: str
    licence: str = NOT_STATED
    commercial: Commercial = "unknown"
    licence_url: str | None = None


class SuiteProtocol(Strict):
    """What a suite fixes of a run: how many images of each prompt. Size, steps and guidance are the protocol's."""

    samples: int | None = Field(default=None, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _samples_only(cls, said: Any) -> Any:
        if isinstance(said, dict) and (other := said.keys() & GenerationSettings.model_fields.keys()):
            raise ValueError(
                f"a suite fixes samples only, and this one also {', '.join(sorted(other))}: write these into a file, and "
                "give it as --protocol FILE"
            )
        return said


class CanaryCard(Strict):
    """A picture beside the card, and the range that its score must lie in."""

    image: str
    prompt: str
    metadata: dict[str, Any] = Field(default_factory=dict)
    low: float
    high: float

    @model_validator(mode="after")
    def _is_a_range(self) -> CanaryCard:
        if self.low > self.high:
            raise ValueError(f"no score lies between {self.low:g} and {self.high:g}")
        return self


class RelativeCanaryCard(Strict):
    """A picture beside the card that must score higher with its prompt than with another, `above`, by so much: for a judge
    whose scores have no known range."""

    image: str
    prompt: str
    above: str
    by: float = Field(gt=0)
    measure: str | None = None
    """The name of the aggregate that must say so; None: the first, the score itself."""


def _suite_name(name: str) -> str:
    if name == "pictures":
        raise ValueError("'pictures' is the folder of what is drawn: give the suite another name")
    return name


class SuiteCard(Strict):
    """benchmarks/suites/<name>/card.yaml"""

    name: Annotated[str, AfterValidator(_suite_name)]
    title: str
    summary: str
    evaluator: str
    prompts: PromptSource
    judges: dict[str, Any] = Field(default_factory=dict)
    judge_weights: list[JudgeWeights] = Field(default_factory=list)
    """Their licences."""
    protocol: SuiteProtocol = SuiteProtocol()
    canaries: list[CanaryCard | RelativeCanaryCard] = Field(default_factory=list)
    licence: str
    papers: list[str] = Field(default_factory=list)
    published: list[PublishedNumber] = Field(default_factory=list)
    folder: Path = Field(default=Path(), exclude=True)
    """Where the card lies; set at load, not part of its content."""

    @property
    def asked(self) -> str:
        """What a user types to mean this suite: its name, or the folder of a card of their own."""
        if self.folder == _folders().get(self.name):
            return self.name
        return f"./{self.folder}" if str(self.folder) in names() else str(self.folder)

    @property
    def content(self) -> dict[str, Any]:
        """What the card says of its judge, without words about it: for a run's manifest, so that another machine can judge
        the run again."""
        return {"name": self.name, **self.judging, "judges": _without(self.judges, WORDS)}

    @property
    def judging(self) -> dict[str, Any]:
        """What of the card can change a score, and so enters the digest of scores. Not where weights lie: what they are is
        said by their own digests."""
        return judging_of(self.model_dump(mode="json", include={"evaluator", "judges"}))


WORDS = ("what", "source", "fetch")
"""Keys of a card's `weights` that are for people."""


def judging_of(card: Mapping[str, Any]) -> dict[str, Any]:
    """`SuiteCard.judging` of a card as plain data, such as a manifest has it."""
    return {"evaluator": card.get("evaluator"), "judges": _without(card.get("judges"), None)}


def _without(value: Any, words: Collection[str] | None) -> Any:
    """Settings without these keys of each mapping under "weights"; None: without these mappings."""
    if isinstance(value, list):
        return [_without(each, words) for each in value]
    if not isinstance(value, dict):
        return value
    out = {}
    for key, inner in value.items():
        if key != "weights" or not isinstance(inner, dict):
            out[key] = _without(inner, words)
        elif words is not None:
            out[key] = {name: said for name, said in inner.items() if name not in words}
    return out


def names() -> list[str]:
    """All suites that come with this package, and those that installed ones declare under `star_bench.suites`."""
    return sorted(_folders())


def _folders() -> dict[str, Path]:
    """Name -> the folder of its card. A shipped name is the shipped suite, whatever else has it."""
    shipped = {path.parent.name: path.parent for path in SUITES_FOLDER.glob("*/card.yaml")}
    return {**plugins.folders(plugins.SUITES), **shipped}


def is_suite(name: str) -> bool:
    """Whether a word means a suite, and no model: a shipped name, a card, or a folder that holds one."""
    return name in names() or name.endswith(".yaml") or (Path(name) / "card.yaml").is_file()


def load(name: str) -> SuiteCard:
    """The card of a suite by name, or by the path of a card.yaml or of its folder. A shipped name means the shipped suite,
    whatever lies in the working folder: `./name` is the folder.

    Raises UsageError for an unknown name or a broken card.
    """
    path = Path(name)
    if folder := _folders().get(name):
        path = folder / "card.yaml"
    elif path.is_dir():
        path = path / "card.yaml"
    elif path.suffix != ".yaml":
        raise UsageError(f"there is no suite named {name!r}", did_you_mean(name, names()))
    return parse(SuiteCard, {**load_yaml(path), "folder": path.parent}, str(path))
