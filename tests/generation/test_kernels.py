"""Other kernels round otherwise, within what is stated; freed encoders change nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from star_bench.assets import model_files
from star_bench.catalogue import checkpoints
from star_bench.catalogue.protocol import Protocol
from star_bench.errors import UsageError
from star_bench.generation.kernels import check_kernels
from star_bench.generation.pipeline import load
from star_bench.generation.sampler import Sampler
from star_bench.runs.run import Options, prepare

ITEMS = [("00000", "a red circle", 0), ("00001", "two blue squares", 0), ("00000", "a red circle", 1)]


def sampler(kernels: str = "default") -> Sampler:
    local = model_files.locate(checkpoints.resolve("miniature"))
    pipe = load(local, dtype="float32", device="cpu")
    return Sampler(pipe, Protocol(4, 4.5, "", 64, 64, 32, 0, "float32", "cpu", kernels=kernels))


@pytest.fixture(scope="module")
def usual() -> np.ndarray:
    return np.stack(sampler().generate(ITEMS))


def test_attention_by_plain_sums_moves_a_pixel_by_one_at_most(usual: np.ndarray) -> None:
    other = np.stack(sampler("math").generate(ITEMS))
    assert np.abs(usual.astype(int) - other).max() <= 1


@pytest.mark.slow
def test_compiled_moves_a_pixel_by_one_at_most(usual: np.ndarray) -> None:
    other = np.stack(sampler("compiled").generate(ITEMS))
    assert np.abs(usual.astype(int) - other).max() <= 1


def test_kernels_that_a_device_lacks_are_refused_before_a_run_begins(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cpu has no cudnn attention for float32"):
        sampler("cudnn")
    options = Options(("geneval-miniature",), "miniature", kernels="cudnn", device="cpu", runs=tmp_path)
    with pytest.raises(UsageError, match="cpu has no cudnn attention for float32"):
        prepare(options)
    with pytest.raises(UsageError, match="there are no kernels 'quick'"):
        prepare(replace(options, kernels="quick"))


def test_what_another_machine_has_it_says_itself() -> None:
    check_kernels("cudnn", device=None, dtype="float16")


def test_without_text_encoders_the_pictures_are_the_same(usual: np.ndarray) -> None:
    freed = sampler()
    freed.free_text_encoders([text for _, text, _ in ITEMS])
    assert freed.pipe.text_encoder is freed.pipe.text_encoder_3 is None
    assert (np.stack(freed.generate(ITEMS)) == usual).all()
