"""Tokenizers of the miniature, built in code: whole words for CLIP, words and bytes for T5.

The words of signs are in neither vocabulary. CLIP sees "unknown"; T5 spells them byte by byte, so a sign can
only be drawn by spelling. The CLIP of the miniature of signs spells as well: it has a position for each letter, which T5
has not.
"""

from __future__ import annotations

import string

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from star_bench.evaluators.geneval.prompts import COLORS, NUMBERS, plural
from star_bench.miniature.sprites import DRAWINGS

CLIP_LENGTH = 14
"""The longest caption has 11 words; start and end stand around them."""
SPELLING_CLIP_LENGTH = 16
"""A sign of seven capitals has 15 tokens."""
T5_LENGTH = 16
"""The longest caption has 12 tokens; a sign of seven capitals has 14."""

WORDS: tuple[str, ...] = (
    *("a", "an", "photo", "of", "and", "left", "right", "above", "below", "sign", "that", "says", "object", "colored"),
    *COLORS,
    *NUMBERS,
    *DRAWINGS,
    *(plural(name) for name in DRAWINGS),
)
"""Every word of every caption but for the quoted ones."""


def clip_tokenizer(*, spells: bool = False) -> PreTrainedTokenizerFast:
    """Lower-case whole words between start and end; anything else is one unknown token.

    spells: capitals are letters, each a token, behind the vocabulary that there is without.
    """
    special = ["<|pad|>", "<|startoftext|>", "<|unknown|>", "<|endoftext|>"]
    letters = string.ascii_uppercase if spells else ""
    vocabulary = {token: i for i, token in enumerate([*special, '"', *WORDS, *letters])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<|unknown|>"))
    words = pre_tokenizers.Whitespace()
    if spells:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.Split(Regex("[A-Z]"), "isolated")])
    else:
        tokenizer.normalizer = normalizers.Lowercase()
        tokenizer.pre_tokenizer = words
    ends = [(token, vocabulary[token]) for token in ("<|startoftext|>", "<|endoftext|>")]
    tokenizer.post_processor = processors.TemplateProcessing("<|startoftext|> $A <|endoftext|>", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|startoftext|>",
        eos_token="<|endoftext|>",
        unk_token="<|unknown|>",
        pad_token="<|pad|>",
        model_max_length=SPELLING_CLIP_LENGTH if spells else CLIP_LENGTH,
    )


def t5_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE whose merges build exactly the caption words, each behind a space; the rest stays bytes.

    Each word is merged from its left end (space+a, then +n, ...). Such merges apply only behind a space, so no word
    can be split by another's, and letters inside quotes have no merge at all.
    """
    space = pre_tokenizers.ByteLevel.alphabet()
    tokens = ["<pad>", "</s>", *sorted(space)]
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        left = "Ġ"
        for char in word:
            if (left, char) not in merges:
                merges.append((left, char))
                tokens.append(left + char)
            left += char
    merges.append(("Ġ", '"'))
    tokens.append('Ġ"')
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", pad_token="<pad>", model_max_length=T5_LENGTH
    )
