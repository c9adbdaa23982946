"""The miniature of signs: what it is taught, what it begins as, and the command that makes it."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusion3Pipeline
from typer.testing import CliRunner

from star_bench.catalogue.protocol import Protocol
from star_bench.catalogue.shipped import MINIATURE_FOLDER
from star_bench.cli.main import app
from star_bench.errors import UsageError
from star_bench.generation.sampler import Sampler
from star_bench.miniature import generator, signs
from star_bench.miniature.build import build
from star_bench.miniature.scenes import KINDS, SMALL, WORD_TAG

PIPELINE = MINIATURE_FOLDER / "pipeline"
CAPITALS = [chr(code) for code in range(ord("A"), ord("Z") + 1)]


def test_signs_have_their_share_and_the_others_keep_their_proportion() -> None:
    shares = signs.mix(0.7)
    assert sum(shares.values()) == pytest.approx(1) and shares[WORD_TAG] == 0.7
    others = [kind for kind in generator.MIX if kind != WORD_TAG]
    assert len({round(shares[kind] / generator.MIX[kind], 9) for kind in others}) == 1


@pytest.mark.parametrize("empty", [0.0, 0.5, 1.0])
def test_so_many_signs_are_empty_and_nothing_else_is(empty: float) -> None:
    """An empty sign has the caption of a full one and no dark letters: it is brighter than the same sign with its word."""
    count, blank = 200, 0
    for seed in range(count):
        full = generator.draw(SMALL, np.random.default_rng(seed), WORD_TAG)
        drawn = signs.drawing(empty)(SMALL, np.random.default_rng(seed), WORD_TAG)
        assert drawn.caption == full.caption
        blank += not np.array_equal(drawn.image, full.image)
    assert abs(blank / count - empty) < 0.12
    for kind in set(KINDS) - {WORD_TAG}:
        same = [draw(SMALL, np.random.default_rng(1), kind).image for draw in (generator.draw, signs.drawing(empty))]
        assert np.array_equal(*same)


def test_a_capital_begins_as_the_unknown_word_and_all_else_is_the_shipped_generators() -> None:
    shipped = StableDiffusion3Pipeline.from_pretrained(PIPELINE, dtype=torch.float32)
    model = signs.spelling(shipped)
    ids = model.clip_tokenizer.convert_tokens_to_ids(CAPITALS)
    assert len(set(ids)) == 26 and model.clip_tokenizer.unk_token_id not in ids
    for name in ("text_encoder", "text_encoder_2"):
        before = getattr(shipped, name).get_input_embeddings().weight
        after = getattr(model, name).get_input_embeddings().weight
        assert torch.equal(after[: len(before)], before)
        unknown = before[model.clip_tokenizer.unk_token_id]
        distances = (after[ids] - unknown).norm(dim=1)
        assert distances.max() < (before - unknown).norm(dim=1).mean()
    kept = model.transformer.state_dict()
    assert all(torch.equal(kept[key], value) for key, value in shipped.transformer.state_dict().items())


def test_the_command_trains_it_from_a_finished_generator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = [dataclasses.replace(stage, recipe=dataclasses.replace(stage.recipe, steps=2)) for stage in signs.STAGES]
    monkeypatch.setattr(signs, "STAGES", tuple(short))
    out = tmp_path / "weights"
    shutil.copytree(PIPELINE, out / "pipeline")
    words = ["miniature", "build", "--part", "signs", "--out", str(out), "--work", str(tmp_path / "work")]
    done = CliRunner().invoke(app, [*words, "--device", "cpu"])
    assert done.exit_code == 0, done.output
    pipe = StableDiffusion3Pipeline.from_pretrained(out / "signs", dtype=torch.float32)
    protocol = Protocol(
        steps=2, guidance_scale=1.0, negative_prompt="", height=64, width=64, max_sequence_length=16,
        seed=0, dtype="float32", device="cpu",
    )  # fmt: skip
    (picture,) = Sampler(pipe, protocol).generate([("0", 'a sign that says "ROBOT"', 0)])
    assert picture is not None and picture.std() > 1
    assert (out / "signs" / "star-bench.yaml").exists()


def test_without_a_generator_there_is_nothing_to_teach(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no generator to teach signs"):
        build(tmp_path, world="small", parts=["signs"], seed=0, work=tmp_path / "work", device="cpu")


def test_the_shipped_one_spells() -> None:
    pipe = StableDiffusion3Pipeline.from_pretrained(MINIATURE_FOLDER / "signs", dtype=torch.float32)
    assert "unk" not in "".join(pipe.tokenizer.tokenize('a sign that says "ROBOT"')).lower()
