"""One optimiser step on a share of an epoch's experience, the same in one process and in many."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor

from star_bench.training.experience import Batch, Kept, batches
from star_bench.training.guards import check_model, check_update
from star_bench.training.objective import Ratio, Terms, policy_terms
from star_bench.training.policy import Policy
from star_bench.training.recipe import GuardSettings, ObjectiveSettings
from star_bench.training.rollout import Schedule
from star_bench.training.sharding import whole
from star_bench.training.velocity import Conditioning


@dataclass(frozen=True)
class UpdateReport:
    """Over all transitions of the update, of all processes; means but for log_ratio, the largest absolute value of the
    log ratios that were clipped, and grad_norm, before clipping: None where it overflowed float16, the step was left out and
    the loss's scale halved."""

    policy_loss: float
    kl: float | None
    """None where the objective has no KL term: then no reference is asked, and the distance is not known."""
    log_ratio: float
    clipped: float
    grad_norm: float | None
    transitions: int
    """How many it learned from: rollouts times trained steps."""


class Updater:
    """Holds what every update shares. Gradients are summed over processes by hand, once per update, so that processes
    may have different numbers of batches, which DistributedDataParallel does not allow."""

    def __init__(
        self,
        policy: Policy,
        optimiser: torch.optim.Optimizer,
        accelerator: Accelerator,
        *,
        objective: ObjectiveSettings,
        ratio: Ratio,
        guards: GuardSettings,
        max_grad_norm: float,
        batch_size: int,
        encode: Callable[[Sequence[str]], Conditioning],
        latent_shape: tuple[int, int, int],
    ) -> None:
        self.policy, self.optimiser, self.accelerator = policy, optimiser, accelerator
        self.objective, self.ratio, self.guards = objective, ratio, guards
        self.max_grad_norm, self.batch_size, self.encode = max_grad_norm, batch_size, encode
        self.latent_shape = latent_shape
        # The objective's gradient per latent element lies below float16's smallest number.
        self.scaler = torch.amp.GradScaler(accelerator.device.type, enabled=policy.transformer.dtype == torch.float16)

    def step(self, schedule: Schedule, kept: Sequence[Kept], advantages: Tensor, *, total: int) -> UpdateReport:
        """kept: this process's rollouts of the update, with their (len(kept),) advantages. total: those of all processes.

        Raises Diverged, in every process alike, before the parameters are touched.
        """
        transitions = total * len(schedule.trained)
        # Sharding takes the mean of the processes' gradients, and what is wanted is their sum.
        share = self.accelerator.num_processes if self.policy.is_sharded else 1
        device = self.accelerator.device
        # Kept on the device: reading them after every batch would make it wait.
        sums = torch.zeros(4, dtype=torch.float64, device=device)
        largest = torch.zeros(1, dtype=torch.float64, device=device)
        lacking = self._lacking(len(kept) * len(schedule.trained))
        for batch in batches(kept, advantages, self.batch_size):
            terms = self._terms(schedule, batch)
            loss = ((terms.policy + self.objective.kl * terms.kl) * batch.valid).sum() * (share / transitions)
            self.scaler.scale(loss).backward()
            valid = batch.valid.double()
            watched = torch.stack([terms.policy, terms.kl, terms.clipped, torch.ones_like(terms.kl)]).detach().double()
            sums += (watched * valid).sum(1)
            largest = torch.maximum(largest, (terms.log_ratio.double() * valid).max())
        self._run_empty(schedule, lacking)
        self._sum_gradients()
        policy_loss, kl, clipped, seen = (self._reduced(sums, "sum") / transitions).tolist()
        log_ratio = float(self._reduced(largest, "max"))
        self.scaler.unscale_(self.optimiser)
        norm = float(whole(torch.nn.utils.clip_grad_norm_(self.policy.parameters, self.max_grad_norm)))
        overflowed = self.scaler.is_enabled() and not math.isfinite(norm)
        check_update(self.guards, loss=policy_loss, grad_norm=0.0 if overflowed else norm, log_ratio=log_ratio)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.optimiser.zero_grad(set_to_none=True)
        measured = kl if self.objective.kl > 0 else None
        learned_from = round(seen * transitions)
        return UpdateReport(policy_loss, measured, log_ratio, clipped, None if overflowed else norm, learned_from)

    @torch.no_grad()
    def check_alive(self) -> None:
        """One forward of noise: finite weights may be so large that nothing finite comes out. Raises Diverged, in every
        process alike."""
        rows, against = self.batch_size, self.policy.against
        device = self.accelerator.device
        noise = torch.randn(rows, *self.latent_shape, generator=torch.Generator().manual_seed(0)).to(device)
        asked = Conditioning(against.tokens.expand(rows, -1, -1), against.pooled.expand(rows, -1))
        velocity = self.policy.velocity(noise, torch.ones(rows, device=device), asked)
        dead = (~velocity.isfinite()).any().double()[None]
        check_model(broken=int(self._reduced(dead, "max")))

    def _terms(self, schedule: Schedule, batch: Batch) -> Terms:
        asked, index = self.encode(batch.texts), batch.steps + schedule.trained.start
        sigma = schedule.sigmas[index]
        step = schedule.step(
            batch.before, self.policy.velocity(batch.before, sigma, asked), index, next_sample=batch.after
        )
        reference = None
        if self.objective.kl > 0:
            with self.policy.reference():
                velocity = self.policy.velocity(batch.before, sigma, asked)
            reference = schedule.step(batch.before, velocity, index, next_sample=batch.after).mean
        dt = (schedule.sigmas[index + 1] - sigma).to(batch.before.device)
        return policy_terms(
            step,
            batch.log_prob,
            batch.advantage,
            batch.weights,
            ratio=self.ratio,
            clip_range=self.objective.clip_range,
            reference_mean=reference,
            old_mean=batch.mean,
            dt=dt if self.objective.guard else None,
        )

    def _lacking(self, transitions: int) -> int:
        """By how many batches this process has fewer than another. Sharded parameters need every process at a forward."""
        if not self.policy.is_sharded:
            return 0
        mine = math.ceil(transitions / self.batch_size)
        return int(self._reduced(torch.tensor([mine], device=self.accelerator.device), "max")) - mine

    def _run_empty(self, schedule: Schedule, count: int) -> None:
        """Forwards and backwards that other processes wait for, and that teach nothing."""
        rows, against = self.batch_size, self.policy.against
        nothing = torch.zeros(rows, *self.latent_shape, device=self.accelerator.device)
        asked = Conditioning(against.tokens.expand(rows, -1, -1), against.pooled.expand(rows, -1))
        for _ in range(count):
            velocity = self.policy.velocity(nothing, schedule.sigmas[:1].expand(rows), asked)
            (0 * velocity.sum()).backward()

    def _sum_gradients(self) -> None:
        """Over processes, as one flat tensor. A process without a batch adds zeros. Sharded ones are summed already."""
        if self.policy.is_sharded:
            return
        for parameter in self.policy.parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        if self.accelerator.num_processes == 1:
            return
        gradients = [p.grad for p in self.policy.parameters if p.grad is not None]
        flat = self.accelerator.reduce(torch.cat([g.flatten() for g in gradients]), "sum")
        for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def _reduced(self, values: Tensor, how: str) -> Tensor:
        """Over processes: sum or max."""
        gathered = self.accelerator.gather(values[None])
        return (gathered.sum(0) if how == "sum" else gathered.amax(0)).cpu()
