"""Which precision a training runs in: what the device multiplies, and written down."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from star_bench.catalogue import checkpoints
from star_bench.training import precision, recipe


def _cpu_that_has(monkeypatch: pytest.MonkeyPatch, **instructions: bool) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions, raising=False)


@pytest.mark.parametrize("instruction", ["avx512_bf16", "amx_bf16", "bf16", "sve_bf16"])
def test_auto_is_bfloat16_where_the_cpu_multiplies_it(monkeypatch: pytest.MonkeyPatch, instruction: str) -> None:
    _cpu_that_has(monkeypatch, **{instruction: True})
    assert precision.choose_precision("auto", checkpoints.resolve("miniature"), "cpu") == "bfloat16"


def test_auto_is_float32_where_the_cpu_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    _cpu_that_has(monkeypatch, avx2=True, avx512_bf16=False)
    assert precision.choose_precision("auto", checkpoints.resolve("miniature"), "cpu") == "float32"


def test_auto_is_float32_where_torch_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert precision.choose_precision("auto", checkpoints.resolve("miniature"), "cpu") == "float32"


def test_what_was_used_is_in_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    _cpu_that_has(monkeypatch, avx2=True)
    mini, model = recipe.load("flow-grpo-geneval-mini"), checkpoints.resolve("miniature")
    assert mini.compute.precision == "auto"
    assert precision.with_precision(mini, model, "cpu").compute.precision == "float32"
    assert precision.with_precision(mini, model, "cuda").compute.precision == "bfloat16"


def test_mini_recipes_ask_the_device() -> None:
    minis = [path.stem for path in Path(recipe.FOLDER).glob("*-mini.yaml")]
    assert len(minis) == 6
    assert {recipe.load(name).compute.precision for name in minis} == {"auto"}
