"""Tokenizers of judges, and which texts they cut.

A tokenizer.json is read by the tokenizers library itself: which class transformers would wrap around it depends on its
version and on files beside it, and the tokens must not.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star_bench.errors import Refused
from star_bench.evaluators.base import Cut, Prompt

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def read_tokenizer(path: Path, most: int) -> Tokenizer:
    """Of a tokenizer.json, cutting at `most` tokens, its own marks counted, and padding nothing. Raises Refused."""
    from tokenizers import Tokenizer

    try:
        tokenizer: Tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001 - the library raises plain Exception for a file that it can't read
        raise Refused(f"{path} is no tokenizer ({error})", "fetch it again") from None
    tokenizer.no_padding()
    tokenizer.enable_truncation(most)
    return tokenizer


def cut_by(reader: str, tokenizer: Tokenizer, prompts: Sequence[Prompt]) -> Cut:
    """What a tokenizer that `read_tokenizer` made cuts."""
    most: int = tokenizer.truncation["max_length"]  # type: ignore[index] # what read_tokenizer has set
    return Cut(reader, most, [prompt.id for prompt in prompts if tokenizer.encode(prompt.text).overflowing])


def cut_by_open_clip(reader: str, tokenizer: Any, prompts: Sequence[Prompt]) -> Cut:
    """What one of open_clip's tokenizers cuts. They say no counts: a text is cut where one more place changes what stands
    in the others, which an end mark moves, or is filled."""
    most: int = tokenizer.context_length
    texts = [prompt.text for prompt in prompts]
    short, longer = tokenizer(texts, most), tokenizer([*texts, ""], most + 1)
    cut = (short != longer[:-1, :-1]).any(1) | (longer[:-1, -1] != longer[-1, -1])
    return Cut(reader, most, [prompt.id for prompt, is_cut in zip(prompts, cut.tolist(), strict=True) if is_cut])
