"""The average of the LoRA that is evaluated and saved."""

from __future__ import annotations

import pytest
import torch

from star_bench.training.ema import Ema


def test_decay_rises_to_its_limit_and_counts_updates() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    ema = Ema({"p": parameter}, decay=0.9, every=8)
    parameter.data.fill_(1.0)
    expected = 0.0
    for update in range(1, 201):
        ema.update()
        if update % 8 == 0:
            decay = min((1 + update) / (10 + update), 0.9)
            expected = decay * expected + (1 - decay)
        assert float(ema.average["p"]) == pytest.approx(expected, abs=1e-6)


def test_is_applied_only_within() -> None:
    parameter = torch.nn.Parameter(torch.zeros(2))
    ema = Ema({"p": parameter}, decay=0.5, every=1)
    parameter.data.fill_(4.0)
    ema.update()
    with ema.applied():
        assert torch.equal(parameter.data, ema.average["p"])
    assert parameter.tolist() == [4.0, 4.0]
