"""A word's positions are those of the tokens that the pipeline itself makes of its characters."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from tiny_sd3 import tiny_sd3
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import CLIPTokenizer, PreTrainedTokenizerFast

from star_bench.assets import model_files
from star_bench.catalogue.checkpoints import resolve
from star_bench.errors import UsageError
from star_bench.generation.pipeline import load
from star_bench.training.token_positions import Positions, TokenPositions

LENGTH, T5_LENGTH = 16, 20


@pytest.fixture(scope="module")
def miniature() -> Any:
    return load(model_files.locate(resolve("miniature")), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> CLIPTokenizer:
    """CLIP's class, slow in transformers 4 and fast in 5, with bytes and few merges: long words are several tokens."""
    folder = tmp_path_factory.mktemp("clip")
    merges = ["s t", "r a", "st ra", "b e", "be r", "r e", "re d</w>", "c a", "ca t</w>", "o f</w>", "r o", "ro b"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*letters, *(letter + "</w>" for letter in letters), *(pair.replace(" ", "") for pair in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": LENGTH}), encoding="utf-8")
    return CLIPTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module", params=["split at white space first", "metaspace alone"])
def t5(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    """T5's kind, in both forms that are in use: pieces of a unigram model, the first of a word with its space."""
    pieces = '▁a ▁red ▁cat ▁of ▁straw ber ries ▁ RO BOT s u fi n é x "'.split()
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    tokenizer = Tokenizer(models.Unigram([*special, *((piece, -2.0 - len(piece)) for piece in pieces)], unk_id=2))
    tokenizer.normalizer = normalizers.NFKC()
    metaspace = pre_tokenizers.Metaspace()
    first = request.param == "split at white space first"
    both = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), metaspace])
    tokenizer.pre_tokenizer = both if first else metaspace
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>", pad_token="<pad>", model_max_length=T5_LENGTH
    )


@pytest.fixture(scope="module")
def pipe(clip: CLIPTokenizer, t5: PreTrainedTokenizerFast) -> Any:
    """What TokenPositions reads of a pipeline; its encoders don't matter but for being there."""
    return SimpleNamespace(tokenizer=clip, tokenizer_max_length=LENGTH, tokenizer_3=t5, text_encoder_3=object())


def spelled(pipe: Any, text: str, found: Positions, t5_length: int = T5_LENGTH) -> tuple[list[str], list[str]]:
    """The tokens at these positions of the padded rows that the pipeline's encoders read."""
    rows: list[str] = []
    for tokenizer, length in ((pipe.tokenizer, pipe.tokenizer_max_length), (pipe.tokenizer_3, t5_length)):
        ids = tokenizer(text, padding="max_length", max_length=length, truncation=True)["input_ids"]
        assert len(ids) == length
        rows += tokenizer.convert_ids_to_tokens(ids)
    assert all(position < pipe.tokenizer_max_length for position in found.clip)
    return [rows[position] for position in found.clip], [rows[position] for position in found.t5]


def word(pipe: Any, text: str, what: str, length: int = T5_LENGTH) -> tuple[list[str], list[str]]:
    start = text.index(what)
    found = TokenPositions(pipe, length).of(text, (start, start + len(what)))
    return spelled(pipe, text, found, length)


def test_words_of_the_miniature_are_found_in_both_of_its_encoders(miniature: Any) -> None:
    positions = TokenPositions(miniature, 16)
    text = "a photo of a red car"
    assert miniature.tokenizer_max_length == 14
    assert positions.of(text, (13, 16)) == Positions((5,), (14 + 4,))  # CLIP's has a start token, T5's has none
    assert positions.content(text) == Positions((1, 2, 3, 4, 5, 6), tuple(range(14, 20)))
    assert spelled(miniature, text, positions.of(text, (13, 20)), 16) == (["red", "car"], ["Ġred", "Ġcar"])
    tokens, _, _, _ = miniature.encode_prompt(
        prompt=text, prompt_2=None, prompt_3=None, do_classifier_free_guidance=False, max_sequence_length=16
    )
    assert tokens.shape[1] == 14 + 16  # the row that these positions count along


def test_a_sign_is_one_unknown_word_for_clip_and_letters_for_t5(miniature: Any) -> None:
    text = 'a sign that says "MOON"'
    assert word(miniature, text, "MOON", 16) == (["<|unknown|>"], list("MOON"))


def test_without_t5_there_are_no_t5_positions(miniature: Any) -> None:
    parts = {name: getattr(miniature, name) for name in ("tokenizer", "tokenizer_max_length", "tokenizer_3")}
    for lost in ({"text_encoder_3": None}, {"text_encoder_3": object(), "tokenizer_3": None}):
        positions = TokenPositions(SimpleNamespace(**(parts | lost)), 16)
        assert positions.of("a red car", (2, 5)) == Positions((2,), ())
        assert positions.content("a red car") == Positions((1, 2, 3), ())


def test_words_of_several_tokens(pipe: Any) -> None:
    text = "a cat of strawberries"
    assert word(pipe, text, "strawberries") == (
        ["stra", "w", "ber", "r", "i", "e", "s</w>"],
        ["▁straw", "ber", "ries"],
    )
    assert word(pipe, text, "berries") == (["ber", "r", "i", "e", "s</w>"], ["ber", "ries"])
    assert word(pipe, text, "cat") == (["cat</w>"], ["▁cat"])
    assert word(pipe, text, "cat of") == (["cat</w>", "of</w>"], ["▁cat", "▁of"])


def test_a_token_that_is_shared_counts_but_a_shared_space_does_not(pipe: Any) -> None:
    text = "a cat of"
    assert word(pipe, text, "ca") == (["cat</w>"], ["▁cat"])
    assert word(pipe, text, "a ") == (["a</w>"], ["▁a"])
    assert TokenPositions(pipe, T5_LENGTH).of(text, (5, 6)) == Positions((), ())
    assert TokenPositions(pipe, T5_LENGTH).of(text, (3, 3)) == Positions((), ())


def test_quoted_capitals(pipe: Any) -> None:
    text = 'a cat "ROBOT" of'
    assert word(pipe, text, "ROBOT") == (["rob", "o", "t</w>"], ["RO", "BOT"])


@pytest.mark.parametrize(
    "before", ["  A\t\tRED \n ", "ÀÉÎ ", "A\u0301e\u0301 ", "🍓 🤖", "İ ", "\u3000a\u00a0", "red's 12 "]
)
def test_what_stands_before_a_word_does_not_shift_it(pipe: Any, before: str) -> None:
    """Spaces are joined, letters lower-cased and composed, and one that isn't in the vocabulary becomes its bytes."""
    clip, t5 = word(pipe, before + " CAT of ", "of")
    assert clip == ["of</w>"] and t5 == ["▁of"]
    clip, t5 = word(pipe, before + " cat", "cat")
    assert clip == ["cat</w>"] and t5 == ["▁cat"]


def test_a_text_that_a_slow_tokenizer_cleans_differently_has_right_positions_or_none(pipe: Any) -> None:
    clip, t5 = word(pipe, "ﬁn x\u00b2 cat of", "cat")
    assert t5 == ["▁cat"]
    assert clip == ["cat</w>"] or (not clip and not pipe.tokenizer.is_fast)


def test_a_character_of_several_tokens_has_them_all(pipe: Any) -> None:
    clip, _ = word(pipe, "a 🍓 cat", "🍓")
    assert len(clip) == 4  # its bytes
    _, t5 = word(pipe, "a x ﬁn cat", "ﬁ")
    assert "fi" in t5 and "n" not in t5


def test_words_beyond_the_encoders_are_not_there(pipe: Any) -> None:
    text = "cat " * 13 + "red of"  # CLIP takes 14 words between its ends, T5 here 10 before its end
    assert word(pipe, text, "red", 11) == (["red</w>"], [])
    assert word(pipe, text, "of", 11) == ([], [])
    content = TokenPositions(pipe, 11).content(text)
    assert content.clip == tuple(range(1, LENGTH - 1))
    assert "▁cat" in spelled(pipe, text, content, 11)[1] and max(content.t5) <= LENGTH + 9


def test_ends_and_padding_never_count_even_if_they_are_spelled_out(pipe: Any) -> None:
    for text in ("", "a cat", "<|startoftext|> a cat <|endoftext|>", "a cat </s> <pad>"):
        positions = TokenPositions(pipe, T5_LENGTH)
        for found in (positions.content(text), positions.of(text, (0, len(text)))):
            clip, t5 = spelled(pipe, text, found)
            assert not {"<|startoftext|>", "<|endoftext|>"} & set(clip)
            assert not {"</s>", "<pad>"} & set(t5)
    assert positions.content("") == Positions((), ())


def test_a_tokenizer_without_offsets_is_named() -> None:
    with pytest.raises(UsageError, match="a ByT5Tokenizer can't tell"):
        TokenPositions(tiny_sd3(), 20)
