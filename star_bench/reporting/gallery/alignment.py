"""Read text beside the text that was asked for, as the OCR rule compares them: where they are equal and where not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rapidfuzz.distance import Levenshtein

from star_bench.evaluators.ocr.rule import normalise

Kind = Literal["equal", "replaced", "missing", "extra"]
KINDS: dict[str, Kind] = {"equal": "equal", "replace": "replaced", "delete": "missing", "insert": "extra"}


@dataclass(frozen=True)
class Stretch:
    """Characters that share one fate. replaced: as many were asked for as were read; missing: none was read; extra: none
    was asked for."""

    kind: Kind
    target: str
    read: str


def align(target: str, read: Sequence[str]) -> tuple[Stretch, ...]:
    """The two normalised texts from left to right, by fewest edits.

    Where the target occurs in what was read the rule counts no edit, so it stays in one piece, with the rest beside it.
    """
    wanted, got = normalise(target), normalise("".join(read))
    if (start := got.find(wanted)) >= 0:
        end = start + len(wanted)
        pieces: list[Stretch] = [
            Stretch("extra", "", got[:start]),
            Stretch("equal", wanted, wanted),
            Stretch("extra", "", got[end:]),
        ]
        return tuple(piece for piece in pieces if piece.target or piece.read)
    return tuple(
        Stretch(KINDS[op.tag], wanted[op.src_start : op.src_end], got[op.dest_start : op.dest_end])
        for op in Levenshtein.opcodes(wanted, got)
    )


def alignment_of(detail: dict[str, Any]) -> tuple[Stretch, ...]:
    """Of an OCR score's detail; empty for any other."""
    target, read = detail.get("target"), detail.get("read")
    if not isinstance(target, str) or not isinstance(read, list) or not all(isinstance(each, str) for each in read):
        return ()
    return align(target, read)
