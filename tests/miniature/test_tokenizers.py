"""Every caption word is one token; quoted words are spelled."""

import numpy as np
from transformers import PreTrainedTokenizerFast

from star_bench.catalogue.shipped import MINIATURE_FOLDER
from star_bench.miniature.scenes import KINDS, WORDS, WORLDS, random_scene
from star_bench.miniature.tokenizers import CLIP_LENGTH, T5_LENGTH, clip_tokenizer, t5_tokenizer
from star_bench.miniature.tokenizers import WORDS as CAPTION_WORDS


def test_words_are_whole_and_captions_fit() -> None:
    clip, t5 = clip_tokenizer(), t5_tokenizer()
    for word in CAPTION_WORDS:
        assert clip.unk_token_id not in clip(word)["input_ids"] and len(clip(word)["input_ids"]) == 3
        assert len(t5(word)["input_ids"]) == 2, t5.tokenize(word)
    rng = np.random.default_rng(0)
    for kind in KINDS:
        for _ in range(50):
            caption = random_scene(WORLDS["large"], rng, kind, name_colors=1.0).caption
            assert len(clip(caption)["input_ids"]) <= CLIP_LENGTH and len(t5(caption)["input_ids"]) <= T5_LENGTH


def test_signs_are_spelled_for_t5_and_unknown_to_clip() -> None:
    clip, t5 = clip_tokenizer(), t5_tokenizer()
    for word in WORDS:
        prompt = f'a sign that says "{word}"'
        assert t5.tokenize(prompt)[-len(word) - 1 : -1] == list(word)
        assert t5.decode(t5(prompt)["input_ids"], skip_special_tokens=True).strip() == prompt
    assert clip.unk_token in clip.tokenize('a sign that says "ROBOT"')


def test_the_shipped_tokenizers_are_these() -> None:
    for folder, built in (("tokenizer", clip_tokenizer()), ("tokenizer_3", t5_tokenizer())):
        shipped = PreTrainedTokenizerFast.from_pretrained(MINIATURE_FOLDER / "pipeline" / folder)
        assert shipped.get_vocab() == built.get_vocab()
