"""A prompt's words as columns of captured attention: core content, or every token, in CLIP's and T5's part of the text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from star_bench.evaluators.base import Prompt
from star_bench.training.core_content import core_words
from star_bench.training.token_positions import Positions, TokenPositions

Part = Literal["clip", "t5", "both"]
EVERY = "every token"


@dataclass(frozen=True)
class Located:
    """Words of a prompt with their joint text positions; each has at least one. None where the model reads nothing of the
    prompt, whose map is ones.

    is_core: whether they are what the map was to start from, and not all that the model reads in its place.
    """

    words: tuple[str, ...]
    positions: tuple[tuple[int, ...], ...]
    is_core: bool = True


class CoreTokens:
    """Positions to capture for a batch of prompts, and which captured columns make which word."""

    def __init__(self, tokens: TokenPositions, *, part: Part, every_token: bool) -> None:
        self._tokens, self._part, self._every_token = tokens, part, every_token
        self._known: dict[str, Located] = {}

    def locate(self, prompt: Prompt) -> Located:
        """The prompt's words that its text encoders see. One that is cut off, since the prompt is too long for them, is
        left out; where none is left, all tokens that the model reads stand for them (chosen here).

        Raises what `core_words` raises.
        """
        if prompt.text not in self._known:
            found: dict[str, tuple[int, ...]] = {}
            every = {EVERY: self._chosen(self._tokens.content(prompt.text))}
            if not self._every_token:
                for word in core_words(prompt):
                    place = self._chosen(self._tokens.of(prompt.text, (word.start, word.end)))
                    found[word.text] = (*found.get(word.text, ()), *place)
            wanted = every if self._every_token else found
            core = {word: place for word, place in wanted.items() if place}
            seen = core or {word: place for word, place in every.items() if place}
            self._known[prompt.text] = Located(tuple(seen), tuple(seen.values()), is_core=bool(core))
        return self._known[prompt.text]

    def positions(self, prompts: Sequence[Prompt]) -> Tensor:
        """(B, S) joint text positions, word after word, -1 behind a prompt's last; S is at least 1."""
        rows = [[place for word in self.locate(prompt).positions for place in word] for prompt in prompts]
        out = torch.full((len(rows), max(1, *map(len, rows))), -1, dtype=torch.long)
        for i, row in enumerate(rows):
            out[i, : len(row)] = torch.tensor(row)
        return out

    def columns(self, prompt: Prompt) -> list[list[int]]:
        """For each word its columns of what `positions` asks to be captured."""
        out: list[list[int]] = []
        start = 0
        for word in self.locate(prompt).positions:
            out.append(list(range(start, start + len(word))))
            start += len(word)
        return out

    def _chosen(self, positions: Positions) -> tuple[int, ...]:
        match self._part:
            case "clip":
                return positions.clip
            case "t5":
                return positions.t5
        return (*positions.clip, *positions.t5)
