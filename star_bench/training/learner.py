"""The learner: an epoch's updates, the average of the weights, and all of its state as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from star_bench.training import state as states
from star_bench.training.actor import Actor
from star_bench.training.ema import Ema
from star_bench.training.experience import Kept
from star_bench.training.recipe import Recipe
from star_bench.training.rollout import Schedule
from star_bench.training.sharding import spread, whole
from star_bench.training.update import Updater, UpdateReport


class Learner:
    """AdamW on what the policy trains, and its moving average."""

    def __init__(self, recipe: Recipe, actor: Actor, accelerator: Accelerator) -> None:
        settings = recipe.optimiser
        self.recipe, self.policy = recipe, actor.policy
        self.optimiser = torch.optim.AdamW(
            self.policy.parameters,
            lr=settings.learning_rate,
            betas=settings.betas,
            eps=settings.epsilon,
            weight_decay=settings.weight_decay,
        )
        self.ema = Ema(self.policy.named_parameters, decay=recipe.ema.decay, every=recipe.ema.every)
        self._names = list(self.policy.named_parameters)
        self._updater = Updater(
            self.policy,
            self.optimiser,
            accelerator,
            objective=recipe.objective,
            ratio="scalar" if actor.allocation.scalar_ratio else recipe.objective.ratio,
            guards=recipe.guards,
            max_grad_norm=settings.max_grad_norm,
            batch_size=recipe.rollout.batch_size,
            encode=actor.encode,
            latent_shape=actor.sampler.latent_shape,
        )

    def learn(
        self, schedule: Schedule, kept: Sequence[Kept], advantages: Tensor, teaches: Tensor, *, epoch: int
    ) -> list[UpdateReport]:
        """An epoch's updates on equal shares of its experience, drawn by seed and epoch; the first is on-policy.

        kept: this process's rollouts. advantages, teaches: (N,) of all processes', by number. Raises Diverged.
        """
        numbers = teaches.nonzero().flatten().numpy()
        order = np.random.default_rng([self.recipe.seed, epoch, 2]).permutation(numbers)
        by_number = {one.number: one for one in kept}
        reports = []
        for chosen in np.array_split(order, self.recipe.optimiser.updates_per_epoch):
            if not len(chosen):
                continue
            mine = [by_number[number] for number in chosen.tolist() if number in by_number]
            of_mine = advantages[[one.number for one in mine]]
            reports.append(self._updater.step(schedule, mine, of_mine, total=len(chosen)))
            self.ema.update()
        if reports:
            self._updater.check_alive()
        return reports

    def tensors(self) -> dict[str, Tensor]:
        """Weights, average and moments, whole and on the CPU. To be called by every process."""
        trained = self.policy.trained
        out = {f"{trained}/{name}": whole(p.detach()).cpu().clone() for name, p in self.policy.named_parameters.items()}
        out |= {f"ema/{name}": tensor for name, tensor in self.average().items()}
        moments = states.optimiser_tensors(self.optimiser, self._names)
        return out | {f"optimiser/{name}": tensor for name, tensor in moments.items()}

    def average(self) -> dict[str, Tensor]:
        """The averaged weights, whole and on the CPU. To be called by every process."""
        return {name: whole(tensor).cpu().clone() for name, tensor in self.ema.average.items()}

    def numbers(self) -> dict[str, Any]:
        """The rest of the state, as plain data."""
        return {"ema_updates": self.ema.updates, "scaler": self._updater.scaler.state_dict()}

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        """The inverse of `tensors` and `numbers`."""

        def part(name: str) -> dict[str, Tensor]:
            prefix = f"{name}/"
            return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}

        parameters = self.policy.named_parameters
        for name, tensor in part(self.policy.trained).items():
            parameters[name].copy_(spread(tensor, parameters[name]))
        for name, tensor in part("ema").items():
            self.ema.average[name].copy_(spread(tensor, parameters[name]))
        states.restore_optimiser(self.optimiser, parameters, part("optimiser"))
        self.ema.updates = numbers["ema_updates"]
        self._updater.scaler.load_state_dict(numbers["scaler"])
