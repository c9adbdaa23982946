"""What a run will do: which images, under which protocol, and the digest that names all of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from star_bench.catalogue.licences import Licensed
from star_bench.catalogue.protocol import GenerationSettings, Protocol
from star_bench.catalogue.suites import SuiteCard
from star_bench.errors import UsageError
from star_bench.evaluators.base import Metric, Prompt
from star_bench.files.digests import digest_of
from star_bench.runs.pictures import PICTURES


@dataclass(frozen=True)
class Item:
    """Image k of a prompt."""

    prompt: Prompt
    k: int

    @property
    def key(self) -> tuple[str, int]:
        return self.prompt.id, self.k


@dataclass(frozen=True)
class Subject:
    """What is measured: a checkpoint by name and content digest, or a folder of pictures made elsewhere."""

    name: str
    digest: str
    licence: str
    foreign: bool = False
    licences: tuple[Licensed, ...] = ()
    """Of all its parts; none for pictures made elsewhere, about which nothing is known."""


@dataclass(frozen=True)
class PicturePlan:
    """Which pictures of which texts. protocol is None for pictures made elsewhere. texts: (prompt id, text)."""

    subject: Subject
    protocol: Protocol | None
    texts: tuple[tuple[str, str], ...]

    def identity(self) -> dict[str, Any]:
        """All that can change a picture, as plain data: nothing of a judge, a licence or a card's words."""
        return {
            "model": self.subject.digest,
            "protocol": self.protocol.as_dict() if self.protocol else None,
            "prompts": [list(text) for text in self.texts],
        }

    def digest(self) -> str:
        return digest_of(self.identity())

    def folder(self, runs: Path) -> Path:
        """runs/<model>/pictures/<first 16 digits of the digest>; org/name of a hub becomes org--name."""
        return runs / self.subject.name.replace("/", "--") / PICTURES / self.digest()[:16]


@dataclass(frozen=True)
class Plan:
    """What a suite's judge makes of pictures. `prompts` are the selected ones, `of` all that the suite has, samples: how
    many images of each."""

    subject: Subject
    card: SuiteCard
    metric: Metric
    judges: dict[str, str]
    prompts: tuple[Prompt, ...]
    of: int
    samples: int
    protocol: Protocol | None

    @property
    def pictures(self) -> PicturePlan:
        return PicturePlan(self.subject, self.protocol, tuple((p.id, p.text) for p in self.prompts))

    @property
    def items(self) -> list[Item]:
        return [Item(prompt, k) for prompt in self.prompts for k in range(self.samples)]

    def identity(self) -> dict[str, Any]:
        """All that can change a score, as plain data: the pictures by their digest."""
        return {
            "pictures": self.pictures.digest(),
            "judging": self.card.judging,
            "metric": self.metric.identity,
            "judges": self.judges,
            "samples": self.samples,
            "prompts": [[p.id, p.text, p.metadata] for p in self.prompts],
        }

    def digest(self) -> str:
        return digest_of(self.identity())

    def folder(self, runs: Path) -> Path:
        """runs/<model>/<suite>/<first 16 digits of the digest>; org/name of a hub becomes org--name."""
        return runs / self.subject.name.replace("/", "--") / self.card.name / self.digest()[:16]

    def batches(self, size: int) -> list[list[Item]]:
        """Items cut at fixed places: a batch that is redone after a kill has the members it had before. First image 0 of all
        prompts, then image 1, and no batch has both, so that a set of pictures grows by whole batches."""
        layers = ([Item(prompt, k) for prompt in self.prompts] for k in range(self.samples))
        return [layer[i : i + size] for layer in layers for i in range(0, len(layer), size)]


def select(prompts: Sequence[Prompt], limit: int | None) -> tuple[Prompt, ...]:
    """The first `limit` prompts, taken in turn from each tag so that a subset has every tag it can.

    Raises UsageError where a suite has no prompts, or twice the same id.
    """
    if not prompts:
        raise UsageError("the suite has no prompts", "check its prompt file")
    if len({p.id for p in prompts}) != len(prompts):
        raise UsageError("two prompts of the suite have the same id", "give each prompt an id of its own")
    if limit is None or limit >= len(prompts):
        return tuple(prompts)
    seen: dict[str, int] = {}
    ranked = []
    for position, prompt in enumerate(prompts):
        seen[prompt.tag] = seen.get(prompt.tag, 0) + 1
        ranked.append((seen[prompt.tag], position))
    return tuple(prompts[position] for position in sorted(position for _, position in sorted(ranked)[:limit]))


def merge_protocol(
    *layers: GenerationSettings, seed: int, dtype: str, device: str, where: str, kernels: str = "default"
) -> Protocol:
    """The first layer that names a setting decides: command line, then the named protocol, then the checkpoint.

    Raises UsageError naming a setting that no layer gives.
    """
    settings: dict[str, Any] = {}
    for name in GenerationSettings.model_fields:
        given = [value for layer in layers if (value := getattr(layer, name)) is not None]
        if not given:
            raise UsageError(
                f"nothing says what {name} {where} is generated with",
                f"give a --protocol or option that does, or add {name} to its generation settings in checkpoints.yaml, or "
                "in star-bench.yaml in its folder",
            )
        settings[name] = given[0]
    return Protocol(**settings, seed=seed, dtype=dtype, device=device, kernels=kernels)
