"""What a reader must know of a run beside its numbers. One list: in results.json, on every report, and on stderr.

It is kept in manifest.json from the run's beginning, so that shards bring it to the run that they are merged into.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from star_bench.evaluators.base import Cut, Evaluator, Prompt

SHOWN = 5  # chosen here: ids in a sentence; results.json has all


@dataclass(frozen=True)
class Notice:
    """kind: a word for programs, such as "judge_cut". text: for people, without a full stop; what stands before its first
    colon, in capitals, is its mark. prompts: the ids of those that it is about, where it is about some."""

    kind: str
    text: str
    prompts: tuple[str, ...] = ()


def plain(notices: Iterable[Notice]) -> list[dict[str, Any]]:
    """For JSON."""
    return [{**asdict(notice), "prompts": list(notice.prompts)} for notice in notices]


def named(ids: Sequence[str]) -> str:
    """The first few, and how many more."""
    more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    return ", ".join(ids[:SHOWN]) + more


def of_cuts(kind: str, mark: str, cuts: Iterable[Cut], of: int) -> list[Notice]:
    """One for each reader that cuts any. of: how many prompts there are."""
    return [
        Notice(
            kind,
            f"{mark}: {cut.reader} reads no more than {cut.tokens} tokens, and {len(cut.prompts)} of {of} prompts are "
            f"longer ({named(cut.prompts)})",
            tuple(cut.prompts),
        )
        for cut in cuts
        if cut.prompts
    ]


def of_canaries(canaries: int) -> list[Notice]:
    """What a run without any must say."""
    text = "NO CANARIES: no picture with known content shows that the judge judges rightly here; the card can name some"
    return [] if canaries else [Notice("no_canaries", text)]


def of_judge(evaluator: Evaluator, prompts: Sequence[Prompt]) -> list[Notice]:
    """What the judge does not read of the prompts. May load the judge's tokenizers."""
    cuts = evaluator.cuts(prompts)
    if cuts is None:
        return [Notice("judge_cut_unknown", "NOT KNOWN: whether the judge reads all of every prompt")]
    return of_cuts("judge_cut", "PROMPTS CUT BY THE JUDGE", cuts, len(prompts))


def of_model(folder: Path, max_sequence_length: int, prompts: Sequence[Prompt]) -> list[Notice]:
    """What the model in a pipeline's folder does not read of the prompts. Loads its tokenizers."""
    from star_bench.generation.cuts import cuts

    found = [
        Cut(f"the model's {name}", most, [prompt.id for prompt, is_cut in zip(prompts, cut, strict=True) if is_cut])
        for name, most, cut in cuts(folder, [prompt.text for prompt in prompts], max_sequence_length)
    ]
    return of_cuts("model_cut", "PROMPTS CUT BY THE MODEL", found, len(prompts))
