"""Which of a suite's test prompts were also trained on, by several meanings of "the same prompt".

    python -m benchmarks.leakage [SUITE]... [--training FILE] [--prompts-dir DIR] [--json]

It is a report: whatever it finds, the exit code is 0.

Flow-GRPO's author says that GenEval's training set was cleared of every test prompt, object order apart (flow_grpo
issue 4); "same scene" checks that. For OCR a new sentence round a word that was trained on is no new task: "same
target".
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from star_bench.assets import prompt_files
from star_bench.assets.prompt_files import numbered_lines, read, training_of
from star_bench.catalogue import suites
from star_bench.catalogue.suites import SuiteCard
from star_bench.cli.output import print_result
from star_bench.errors import StarBenchError, UsageError
from star_bench.evaluators.geneval.evaluator import GenEval
from star_bench.evaluators.geneval.metadata import Include, PromptRow, prompt_rows, scene_of
from star_bench.evaluators.ocr.rule import normalise, target_of

EXAMPLES = 20  # chosen here


@dataclass(frozen=True)
class Row:
    """A prompt. Only GenEval's have clauses."""

    prompt: str
    include: Sequence[Include] = ()


@dataclass(frozen=True)
class Sameness:
    """Two prompts are the same where their keys are; one whose key is None is the same as no other."""

    name: str
    key: Callable[[Row], Hashable]


def folded(row: Row) -> str:
    """The prompt without differences of case and of spacing."""
    return " ".join(row.prompt.casefold().split())


def target(row: Row) -> str | None:
    """The word to be written, as the OCR rule compares it; None where the rule finds none."""
    try:
        return normalise(target_of(row.prompt))
    except ValueError:
        return None


def scene(row: Row) -> Hashable:
    """Everything that is asked for, in any order."""
    return scene_of(row.include)


def objects(row: Row) -> Hashable:
    """The classes and the relations; not how many, in what colour, and which stands where."""
    return frozenset(c.name for c in row.include), frozenset(c.position[0] for c in row.include if c.position[0])


ALWAYS = (Sameness("line", lambda row: row.prompt), Sameness("line, case and spaces apart", folded))
BY_EVALUATOR = {
    "ocr": (Sameness("target", target),),
    "geneval": (Sameness("scene", scene), Sameness("classes and relations", objects)),
}


@dataclass(frozen=True)
class Overlap:
    """shared: pairs of a test prompt and the first training prompt that is the same; repeated: of a test prompt and an
    earlier one. without: how many of the test's and of the training's prompts have no key."""

    same: str
    shared: list[tuple[str, str]]
    repeated: list[tuple[str, str]]
    without: tuple[int, int]


def compare(test: Sequence[Row], training: Sequence[Row], sameness: Sameness) -> Overlap:
    """Test prompts are counted, not pairs: one that is the same as many training prompts counts once."""
    wanted = [(sameness.key(row), row.prompt) for row in test]
    known = [(sameness.key(row), row.prompt) for row in training]
    trained = dict(reversed(known))  # reversed: of several with one key, the first stays
    earlier: dict[Hashable, str] = {}
    shared, repeated = [], []
    for key, prompt in wanted:
        if key is None:
            continue
        if key in trained:
            shared.append((prompt, trained[key]))
        if key in earlier:
            repeated.append((prompt, earlier[key]))
        earlier.setdefault(key, prompt)
    without = sum(key is None for key, _ in wanted), sum(key is None for key, _ in known)
    return Overlap(sameness.name, shared, repeated, without)


def report(names: Sequence[str], training: Path | None = None) -> list[dict[str, Any]]:
    """The rows of the named suites, or of all that name a training set. Raises what `report_suite` raises, and
    UsageError for an unknown suite, and where `training` is compared with none that is named."""
    if training and not names:
        raise UsageError("--training needs the suites that it is compared with", "name them, as in 'leakage ocr'")
    cards = [suites.load(name) for name in names or suites.names()]
    return [row for card in cards if names or card.prompts.training for row in report_suite(card, training)]


def readable(row: dict[str, Any]) -> dict[str, Any]:
    """A row for a table."""
    shown = ("suite", "same", "test", "training", "in_training", "share", "repeated_in_test")
    return {name.replace("_", " "): row[name] for name in shown} | {"share": f"{row['share']:.2%}"}


def warnings(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What the counts leave out."""
    return [
        f"{count:,} {which} prompts of {row['suite']} have no {row['same']} and are in no count of it"
        for row in rows
        for which, count in row["without"].items()
        if count
    ]


def report_suite(card: SuiteCard, training: Path | None = None) -> list[dict[str, Any]]:
    """One row of plain data per meaning of "the same prompt"; `training` instead of the set that the card names.

    Raises UsageError for a suite without a training set or a file that holds no prompts, and what PromptFile.locate and
    prompt_files.read raise.
    """
    if training is None:
        named = training_of(card)
        if named is None:
            raise UsageError(f"the card of suite {card.name!r} names no training set", "give one with --training FILE")
        training = named.locate()
    test, trained = _test_rows(card), _training_rows(card, training)
    overlaps = (compare(test, trained, each) for each in (*ALWAYS, *BY_EVALUATOR.get(card.evaluator, ())))
    return [
        {
            "suite": card.name,
            "same": overlap.same,
            "test": len(test),
            "training": len(trained),
            "in_training": len(overlap.shared),
            "share": round(len(overlap.shared) / len(test), 6),
            "repeated_in_test": len(overlap.repeated),
            "training_file": str(training),
            "without": dict(zip(("test", "training"), overlap.without, strict=True)),
            "examples": {
                "in_training": [{"test": a, "training": b} for a, b in overlap.shared[:EXAMPLES]],
                "repeated_in_test": [{"test": a, "earlier": b} for a, b in overlap.repeated[:EXAMPLES]],
            },
        }
        for overlap in overlaps
    ]


def _test_rows(card: SuiteCard) -> list[Row]:
    if card.evaluator != "geneval":
        return [Row(line) for line in read(card)]
    rows = (PromptRow.model_validate(prompt.metadata, strict=False) for prompt in GenEval(card).prompts())
    return [Row(row.prompt, row.include) for row in rows]


def _training_rows(card: SuiteCard, path: Path) -> list[Row]:
    if card.evaluator != "geneval":
        return [Row(line) for _, line in numbered_lines(path)]
    return [Row(row.prompt, row.include) for _, row, _ in prompt_rows(path)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.leakage", description=__doc__.splitlines()[0])
    parser.add_argument("suite", nargs="*", help="by default all whose card names a training set")
    parser.add_argument("--training", type=Path, help="a training set of your own instead of the card's")
    parser.add_argument("--prompts-dir", type=Path, help="prompt files that you have")
    parser.add_argument("--json", action="store_true", help="with examples")
    asked = parser.parse_args()
    prompt_files.use_folder(asked.prompts_dir)
    try:
        rows = report(asked.suite, asked.training)
    except StarBenchError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(error.exit_code) from None
    print_result(rows if asked.json else [readable(row) for row in rows], asked.json)
    for warning in warnings(rows):
        sys.stderr.write(f"{warning}\n")


if __name__ == "__main__":
    main()
