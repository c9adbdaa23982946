"""Flow-GRPO as a plain loop, without the trainer's levers, to be timed against it.

As the public implementation works (github.com/yifan123/flow_grpo, 2025-11; its behaviour, none of its code): the
transformer's weights are float32 and autocast casts them at every forward, the text encoders run on every batch, what
the rollouts leave is kept until all are judged, and a forward of an update takes one step of a micro-batch. The
mathematics, the judge and the noise are the trainer's own, so that both train on the same pictures but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from star_bench.generation.sampler import to_uint8
from star_bench.training.advantage import group_advantages, varies
from star_bench.training.objective import policy_terms
from star_bench.training.rewards import Judgement
from star_bench.training.rollout import Rollout, Schedule, epoch_seed, roll_out
from star_bench.training.trainer import Trainer
from star_bench.training.velocity import Conditioning


@dataclass(frozen=True)
class Manner:
    """autocast: to which precision, None for none. drops: the updates leave out rollouts whose group's rewards are all
    equal. beside: pictures are judged in a thread while the next are drawn, else when all are. Both as in the public
    implementation."""

    autocast: torch.dtype | None
    drops: bool = True
    beside: bool = True


@dataclass(frozen=True)
class Sample:
    """One rollout: its embedding, the latents before and after its trained steps (T + 1, C, H, W), and log_prob
    (T, H, W)."""

    tokens: Tensor
    pooled: Tensor
    latents: Tensor
    log_prob: Tensor


class PlainLoop:
    """Epochs with the weights, the judge and the recipe of a trainer with one reward."""

    def __init__(self, trainer: Trainer, manner: Manner) -> None:
        """The trainer's frozen base must be float32."""
        assert trainer.actor.dtype == "float32"
        self.trainer, self.manner = trainer, manner
        self.scaler = torch.amp.GradScaler(trainer.actor.device, enabled=manner.autocast == torch.float16)

    def _autocast(self) -> AbstractContextManager[object]:
        if self.manner.autocast is None:
            return nullcontext()
        return torch.autocast(self.trainer.actor.device.split(":")[0], self.manner.autocast)

    def collect(self, epoch: int) -> tuple[list[Sample], Tensor]:
        """All rollouts of an epoch and their rewards (N,)."""
        trainer, rollout = self.trainer, self.trainer.recipe.rollout
        seed = epoch_seed(trainer.recipe.seed, epoch)
        asked = trainer.rewards.prompts_of(seed=trainer.recipe.seed, epoch=epoch, count=rollout.prompts)
        rollouts = [Rollout(one.prompt, g, k) for g, one in enumerate(asked) for k in range(rollout.group_size)]
        samples: list[Sample] = []
        judged: list[Callable[[], list[Judgement]]] = []
        to_judge: list[tuple[list[np.ndarray | None], list[Rollout]]] = []

        def judge(images: list[np.ndarray | None], batch: list[Rollout]) -> None:
            judged.append(trainer.rewards.start(images, [asked[one.group] for one in batch], trainer.bar.note))

        for start in range(0, len(rollouts), rollout.batch_size):
            batch = rollouts[start : start + rollout.batch_size]
            condition = self._encode([one.prompt.text for one in batch])
            with self._autocast():
                path = roll_out(
                    trainer.actor.policy,
                    trainer.actor.schedule(epoch),
                    condition,
                    batch,
                    trainer.actor.sampler.latent_shape,
                    seed=seed,
                    shared_start=rollout.shared_start,
                )
            images = [to_uint8(image) for image in trainer.actor.sampler.decode(path.final)]
            if self.manner.beside:
                judge(images, batch)
            else:
                to_judge.append((images, batch))
            for i in range(len(batch)):
                kept = Sample(condition.tokens[i], condition.pooled[i], path.latents[:, i], path.log_prob[:, i])
                samples.append(kept)
        for images, batch in to_judge:
            judge(images, batch)
        rewards = [judgement.reward for wait in judged for judgement in wait()]
        return samples, torch.tensor([torch.nan if reward is None else reward for reward in rewards])

    @torch.no_grad()
    def _encode(self, texts: Sequence[str]) -> Conditioning:
        tokens, _, pooled, _ = self.trainer.actor.pipe.encode_prompt(
            prompt=list(texts),
            prompt_2=None,
            prompt_3=None,
            do_classifier_free_guidance=False,
            max_sequence_length=self.trainer.actor.protocol.max_sequence_length,
        )
        return Conditioning(tokens, pooled)

    def update(self, epoch: int, samples: Sequence[Sample], rewards: Tensor) -> float:
        """The epoch's optimiser steps. Returns the share of its rollouts that were trained on."""
        trainer, recipe = self.trainer, self.trainer.recipe
        schedule = trainer.actor.schedule(epoch)
        groups = torch.arange(len(rewards)) // recipe.rollout.group_size
        judged = rewards.isfinite().nonzero().flatten()
        advantages = torch.zeros(len(rewards))
        advantages[judged] = group_advantages(
            rewards[judged], groups[judged], std=recipe.advantage.std, clamp=recipe.advantage.clamp
        )
        chosen = judged[varies(rewards[judged], groups[judged])] if self.manner.drops else judged
        order = np.random.default_rng([recipe.seed, epoch]).permutation(chosen.numpy())
        for share in np.array_split(order, recipe.optimiser.updates_per_epoch):
            if not len(share):
                continue
            for start in range(0, len(share), recipe.rollout.batch_size):
                numbers = share[start : start + recipe.rollout.batch_size].tolist()
                rows = [samples[number] for number in numbers]
                for step in range(len(schedule.trained)):
                    loss = self._loss(schedule, step, rows, advantages[numbers])
                    self.scaler.scale(loss / (len(share) * len(schedule.trained))).backward()
            self.scaler.unscale_(trainer.learner.optimiser)
            torch.nn.utils.clip_grad_norm_(trainer.actor.policy.parameters, recipe.optimiser.max_grad_norm)
            self.scaler.step(trainer.learner.optimiser)
            self.scaler.update()
            trainer.learner.optimiser.zero_grad()
            trainer.learner.ema.update()
        return len(order) / len(samples)

    def _loss(self, schedule: Schedule, step: int, rows: Sequence[Sample], advantages: Tensor) -> Tensor:
        """Summed over the rows, each at the same step."""
        policy, objective = self.trainer.actor.policy, self.trainer.recipe.objective
        index = schedule.trained.start + step
        before, after = (torch.stack([row.latents[at] for row in rows]) for at in (step, step + 1))
        condition = Conditioning(torch.stack([row.tokens for row in rows]), torch.stack([row.pooled for row in rows]))
        sigma = schedule.sigmas[index].expand(len(rows)).to(before.device)
        with self._autocast():
            velocity = policy.velocity(before, sigma, condition)
        now = schedule.step(before, velocity, index, next_sample=after)
        reference = None
        if objective.kl > 0:
            with policy.reference(), self._autocast():
                velocity = policy.velocity(before, sigma, condition)
            reference = schedule.step(before, velocity, index, next_sample=after).mean
        old = torch.stack([row.log_prob[step] for row in rows])
        terms = policy_terms(
            now,
            old,
            advantages.to(before.device),
            torch.ones_like(old),
            ratio="scalar",
            clip_range=objective.clip_range,
            reference_mean=reference,
        )
        return (terms.policy + objective.kl * terms.kl).sum()
