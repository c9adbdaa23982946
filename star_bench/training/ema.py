"""An exponential moving average of what is trained: what is evaluated and saved."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from star_bench.training.policy import replaced


class Ema:
    """Averages float32 parameters every so many updates, with a decay that rises from 0.1 to its limit.

    decay at averaging t: min((1 + t) / (10 + t), decay), t counted in updates. Flow-GRPO's, as diffusers' EMAModel has it;
    how often Flow-GRPO averages differs, see `EmaSettings.every`.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], *, decay: float, every: int) -> None:
        self.decay = decay
        self.every = every
        self.updates = 0
        self._parameters = dict(parameters)
        self.average: dict[str, Tensor] = {name: p.detach().clone() for name, p in self._parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """To be called after every optimiser step."""
        self.updates += 1
        if self.updates % self.every:
            return
        decay = min((1 + self.updates) / (10 + self.updates), self.decay)
        for name, parameter in self._parameters.items():
            self.average[name].lerp_(parameter, 1 - decay)

    def applied(self) -> AbstractContextManager[None]:
        """Within, the parameters are their average."""
        return replaced(self._parameters, self.average)
