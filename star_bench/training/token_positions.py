"""Characters of a prompt -> positions among the text tokens that SD3's transformer sees.

Stable Diffusion 3 joins two readings of one prompt: as many positions as CLIP's tokenizer pads to (77), then
`max_sequence_length` positions of T5, which are zeros where T5 was left out (diffusers' StableDiffusion3Pipeline).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import convert_slow_tokenizer

from star_bench.errors import UsageError


@dataclass(frozen=True)
class Positions:
    """Ascending positions among the joint text tokens: CLIP's token u is u, T5's is u plus CLIP's padded length."""

    clip: tuple[int, ...]
    t5: tuple[int, ...]


class TokenPositions:
    """Where the words of a prompt lie among the text tokens of one StableDiffusion3Pipeline.

    Never start, end or padding tokens. A word that was cut off, as the prompt is longer than the encoder takes, has no
    positions there, and without T5 there are none of T5. The two CLIP encoders share their positions: they are taken
    to cut words alike, as those of SD3 do. Where a slow CLIP tokenizer (transformers < 5) cleans a text in a way that
    its fast form doesn't, such as a ligature, the text has no CLIP positions rather than wrong ones.
    """

    def __init__(self, pipe: Any, max_sequence_length: int) -> None:
        """Raises UsageError for a tokenizer that can't tell which characters a token was made from."""
        clip_length = pipe.tokenizer_max_length
        self._clip = _Reader(pipe.tokenizer, first=0, length=clip_length)
        self._t5 = None
        if pipe.tokenizer_3 is not None and pipe.text_encoder_3 is not None:
            self._t5 = _Reader(pipe.tokenizer_3, first=clip_length, length=max_sequence_length)

    def of(self, text: str, span: tuple[int, int]) -> Positions:
        """The tokens that share a character, white space aside, with text[start:end]; span: (start, end), from 0."""

        def shared(start: int, end: int) -> bool:
            start, end = max(start, span[0]), min(end, span[1])
            return start < end and not text[start:end].isspace()

        return self._positions(text, shared)

    def content(self, text: str) -> Positions:
        """All tokens that are neither start, end nor padding."""
        return self._positions(text, lambda _start, _end: True)

    def _positions(self, text: str, wanted: Callable[[int, int], bool]) -> Positions:
        clip, t5 = (
            tuple(position for position, start, end in reader.tokens(text) if wanted(start, end)) if reader else ()
            for reader in (self._clip, self._t5)
        )
        return Positions(clip, t5)


class _Reader:
    """One of the pipeline's tokenizers, with offsets."""

    def __init__(self, tokenizer: Any, *, first: int, length: int) -> None:
        """first: the joint position of its first token. length: how many tokens the pipeline takes, ends included."""
        self._tokenizer = tokenizer
        self._fast = tokenizer if tokenizer.is_fast else _converted(tokenizer)
        self._first = first
        self._length = length
        # A prompt may spell them out, and then the encoder reads them as such.
        names = tokenizer.special_tokens_map
        ends = [names[name] for name in ("bos_token", "eos_token", "pad_token") if name in names]
        self._ends = set(tokenizer.convert_tokens_to_ids(ends))

    def tokens(self, text: str) -> list[tuple[int, int, int]]:
        """(joint position, start, end) of each token that was made from text[start:end], normalisation undone."""
        cut = {"truncation": True, "max_length": self._length}
        encoded = self._fast(text, **cut, return_offsets_mapping=True, return_special_tokens_mask=True)
        ids, added = encoded["input_ids"], encoded["special_tokens_mask"]
        if self._fast is not self._tokenizer and self._tokenizer(text, **cut)["input_ids"] != ids:
            return []
        return [
            (self._first + index, start, end)
            for index, (start, end) in enumerate(encoded["offset_mapping"])
            if not added[index] and ids[index] not in self._ends
        ]


def _converted(tokenizer: Any) -> Any:
    """A slow tokenizer's fast form, since only that has offsets."""
    try:
        backend = convert_slow_tokenizer(tokenizer)
    except (AttributeError, ImportError, ValueError) as error:
        raise UsageError(
            f"a {type(tokenizer).__name__} can't tell where a token lies in its text",
            "save the pipeline with a fast tokenizer",
        ) from error
    return PreTrainedTokenizerFast(tokenizer_object=backend, **tokenizer.special_tokens_map)
