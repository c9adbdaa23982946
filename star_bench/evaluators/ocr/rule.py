"""Flow-GRPO's OCR reward, which is also its metric (arXiv:2505.05470): a prompt and strings in, a score out."""

from __future__ import annotations

from collections.abc import Sequence

from rapidfuzz.distance import Levenshtein


def target_of(prompt: str) -> str:
    """The text between the prompt's first pair of straight double quotes.

    Raises ValueError unless the prompt holds exactly one pair, with something other than spaces in it.
    """
    parts = prompt.split('"')
    if len(parts) != 3:
        raise ValueError(f"holds {len(parts) - 1} straight double quotes and not 2")
    if not normalise(parts[1]):
        raise ValueError("holds an empty quotation")
    return parts[1]


def normalise(text: str) -> str:
    """Without spaces (other white space stays, as in the reference) and in lower case."""
    return text.replace(" ", "").lower()


def distance(target: str, read: Sequence[str]) -> int:
    """0 where the target occurs in what was read, otherwise the edit distance to all of it, at most len(target)."""
    wanted, got = normalise(target), normalise("".join(read))
    if wanted in got:
        return 0
    return min(Levenshtein.distance(got, wanted), len(wanted))


def accuracy(target: str, read: Sequence[str]) -> float:
    """1 - distance / length of the normalised target, in [0, 1]."""
    return 1.0 - distance(target, read) / len(normalise(target))
