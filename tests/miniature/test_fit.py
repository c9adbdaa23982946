"""Training that was stopped goes on as if it had not been."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from star_bench.miniature.fit import Recipe, fit

RECIPE = Recipe(steps=12, batch=4, muon_lr=0.01, warmup=2)


class Stopped(Exception):
    pass


def train(folder: Path, *, stop_at: int | None = None) -> dict[str, Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))
    calls = 0

    def loss(rng: np.random.Generator, batch: int) -> Tensor:
        nonlocal calls
        calls += 1
        if stop_at is not None and calls > stop_at:
            raise Stopped
        x = torch.from_numpy(rng.normal(size=(batch, 3))).float() + torch.randn(batch, 3)
        return (model(x) - x.sum(-1, keepdim=True)).square().mean()

    fit("part", model, loss, RECIPE, folder, seed=3, device=torch.device("cpu"))
    return model.state_dict()


def test_resumed_training_ends_in_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train(tmp_path / "whole")
    with monkeypatch.context() as patched:
        patched.setattr("star_bench.miniature.fit.CHECKPOINT_EVERY_S", 0.0)  # a checkpoint after every step
        with pytest.raises(Stopped):
            train(tmp_path / "stopped", stop_at=5)
    resumed = train(tmp_path / "stopped")
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    whole = train(tmp_path)
    again = train(tmp_path, stop_at=0)
    assert all(torch.equal(whole[key], again[key]) for key in whole)


def test_a_training_can_be_stopped_on_purpose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "RECIPE", dataclasses.replace(RECIPE, stop=5))
    first = train(tmp_path)
    assert torch.load(tmp_path / "part.pt", weights_only=True)["step"] == 5
    again = train(tmp_path, stop_at=0)
    assert all(torch.equal(first[key], again[key]) for key in first)


def test_the_rate_warms_up_and_decays_to_nothing() -> None:
    recipe = dataclasses.replace(RECIPE, steps=100, warmup=10, decay=0.4)
    factors = [recipe.factor(step) for step in range(100)]
    assert factors[0] == 0.1 and max(factors) == 1.0 and factors[50] == 1.0 and 0 < factors[99] < 0.05
