"""Rows of GenEval's metadata that come from a file: what the verdict needs of them, checked.

Format: djghosh13/geneval at af4902f (evaluation_metadata.jsonl), restated: one JSON object per line with tag, include,
sometimes exclude, and prompt. A position is a relation and the index of the clause that it is to.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from star_bench.catalogue.cards import wrong
from star_bench.errors import UsageError
from star_bench.evaluators.geneval.prompts import RELATIONS, TAGS, Vocabulary
from star_bench.files.json import read_objects

Model = TypeVar("Model", bound=BaseModel)


class Clause(BaseModel):
    """Objects of a class: as many as must not be there."""

    model_config = ConfigDict(strict=True)

    name: str = Field(alias="class")
    count: PositiveInt


class Include(Clause):
    """Objects that must be there. The defaults stand for a key that is left out, and can't be written down."""

    color: str = ""
    position: tuple[str, int] = ("", 0)


class Metadata(BaseModel):
    """What the verdict reads of a row; any other key is free."""

    model_config = ConfigDict(strict=True)

    tag: str | None = None
    prompt: str | None = None
    include: list[Include] = []
    exclude: list[Clause] = []

    @model_validator(mode="after")
    def _targets_come_first(self) -> Metadata:
        for i, clause in enumerate(self.include):
            if "position" in clause.model_fields_set and not 0 <= clause.position[1] < i:
                raise ValueError(f"include.{i}.position must refer to an earlier clause")
        return self

    def asked(self) -> str:
        """All that a picture is judged by; rows that are equal here are one scene, whatever words and free keys they
        have."""
        clauses = ([clause.model_dump(exclude_unset=True) for clause in each] for each in (self.include, self.exclude))
        return json.dumps([self.tag, *clauses], sort_keys=True)


class PromptRow(Metadata):
    """A row that a picture can be made of and judged by."""

    tag: str
    prompt: str = Field(min_length=1)
    include: list[Include] = Field(min_length=1)


def parse(model: type[Model], text: str, where: str, remedy: str) -> Model:
    """Checks JSON against a model. Raises UsageError with the place of the first problem, in one sentence."""
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        raise UsageError(": ".join(filter(None, (where, *wrong(error)))), remedy) from None


def prompt_rows(path: Path) -> Iterator[tuple[int, PromptRow, dict[str, Any]]]:
    """Of each object in the file its number, the row, and the same as it was written.

    Raises UsageError, with the line's number, for one that is no such row, and what `read_objects` raises.
    """
    remedy = "give a file of GenEval's metadata, each line with 'tag', 'include' and 'prompt'"
    for written in read_objects(path, remedy):
        yield written.number, parse(PromptRow, written.text, written.where, remedy), written.value


def judged_rows(path: Path, vocabulary: Vocabulary) -> list[tuple[int, dict[str, Any]]]:
    """The rows as they were written, each with its line's number.

    Raises what `prompt_rows` raises, and UsageError for a word that the judges don't know, and for a prompt that asks
    for one thing on one line and for another on the next: its pictures would be judged by two rules in one group.
    """
    rows: list[tuple[int, dict[str, Any]]] = []
    first: dict[str, tuple[int, str]] = {}
    for number, row, written in prompt_rows(path):
        if unknown := _unknown(row, vocabulary):
            raise UsageError(
                f"{path}, line {number}, has the {unknown}, which the suite's judges don't know",
                "leave that line out, or give the suite a vocabulary and judges that know it",
            )
        earlier, asked = first.setdefault(row.prompt, (number, row.asked()))
        if asked != row.asked():
            raise UsageError(
                f"{path}, line {number}, has the prompt of line {earlier} and asks for something else",
                "leave one of them out",
            )
        rows.append((number, written))
    return rows


def _unknown(row: PromptRow, vocabulary: Vocabulary) -> str | None:
    """The first word that can't be judged, and what kind of word it is."""
    used = [("tag", row.tag, TAGS)]
    for clause in row.include:
        said = clause.model_fields_set
        used.append(("class", clause.name, vocabulary.classes))
        used += [("colour", clause.color, vocabulary.colors)] if "color" in said else []
        used += [("relation", clause.position[0], RELATIONS)] if "position" in said else []
    used += [("class", clause.name, vocabulary.classes) for clause in row.exclude]
    return next((f"{kind} {word!r}" for kind, word, known in used if word not in known), None)


def scene_of(include: Sequence[Include]) -> Hashable:
    """Everything that is asked for, in any order: equal for two prompts that name the same scene."""
    return frozenset(
        (c.name, c.count, c.color, c.position[0] and (c.position[0], include[c.position[1]].name)) for c in include
    )
