"""Rollouts: pictures drawn step by step from the behaviour policy, with what an update needs of each step.

Every random number of a rollout comes from (seed, epoch, prompt id, k) alone, so that neither batch, order, process
nor a resumption can change it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from star_bench.evaluators.base import Prompt
from star_bench.generation.noise import image_generator, latent_noise
from star_bench.training.attention import AttentionCapture
from star_bench.training.recipe import RolloutSettings
from star_bench.training.sde import Step, Variant, flow_cps_step, flow_sde_step
from star_bench.training.velocity import Conditioning, GuidedVelocity

START = -1
"""In the place of k: the noise that all rollouts of a prompt begin from."""


@dataclass(frozen=True)
class Rollout:
    """Rollout k of a prompt's group. group: its place among the epoch's prompts."""

    prompt: Prompt
    group: int
    k: int


@dataclass(frozen=True)
class Schedule:
    """sigmas: (steps + 1,), falling from 1 to 0. trained: the steps that have noise and are trained on, from 0.

    Outside them a step is one of the ODE where `ode_elsewhere` (Flow-GRPO-Fast), else it has noise too, as the last one
    without a window. Made by `schedule_of` and `untrained` alone.
    """

    sigmas: Tensor
    trained: range
    noise_level: float
    variant: Variant
    ode_elsewhere: bool

    @property
    def steps(self) -> int:
        return len(self.sigmas) - 1

    def step(
        self,
        x: Tensor,
        v: Tensor,
        index: int | Tensor,
        *,
        noise: Tensor | None = None,
        next_sample: Tensor | None = None,
    ) -> Step:
        """Step `index` of x; with a (B,) index each sample has its own, all of them trained ones."""
        ode = self.ode_elsewhere and isinstance(index, int) and index not in self.trained
        level = 0.0 if ode else self.noise_level
        at = torch.as_tensor(index, device="cpu")
        now, after = self.sigmas[at], self.sigmas[at + 1]
        if self.variant == "cps":
            return flow_cps_step(x, v, now, after, noise_level=level, noise=noise, next_sample=next_sample)
        largest = float(self.sigmas[1])
        return flow_sde_step(
            x, v, now, after, sigma_max=largest, noise_level=level, noise=noise, next_sample=next_sample
        )


def schedule_of(rollout: RolloutSettings, sigmas: Tensor, rng: np.random.Generator | None = None) -> Schedule:
    """The steps that these settings train. rng: says where a window stands that is drawn; None: at its first place."""
    places = rollout.first_steps
    first = places[0] if rng is None else int(rng.integers(places.start, places.stop))
    trained = range(first, first + rollout.trained_steps)
    return Schedule(sigmas, trained, rollout.noise_level, rollout.variant, ode_elsewhere=rollout.window is not None)


def untrained(sigmas: Tensor) -> Schedule:
    """The ODE's steps, as a run draws its pictures."""
    return Schedule(sigmas, range(0), 0.0, "sde", ode_elsewhere=True)


@dataclass(frozen=True)
class Trajectory:
    """What B rollouts left behind, T recorded steps of each.

    latents: (T + 1, B, C, H, W) float32, before each step and after the last. log_prob: (T, B, H, W), the behaviour
    policy's channel mean. mean: (T, B, C, H, W), its step means, where GRPO-Guard needs them. attention: (T, B, N, S),
    each of N image tokens' probability of attending to the selected text tokens, mean over blocks and heads; None where
    not asked for. final: (B, C, H, W), the finished latents.
    """

    latents: Tensor
    log_prob: Tensor
    mean: Tensor | None
    attention: Tensor | None
    final: Tensor


def epoch_seed(seed: int, epoch: int) -> int:
    """The seed of an epoch's rollouts. Evaluation seeds are small numbers; these lie far above."""
    return (seed + 1) * 2**32 + epoch


def roll_out(
    policy: GuidedVelocity,
    schedule: Schedule,
    asked: Conditioning,
    rollouts: Sequence[Rollout],
    latent_shape: tuple[int, int, int],
    *,
    seed: int,
    capture: AttentionCapture | None = None,
    positions: Tensor | None = None,
    keep_means: bool = False,
    shared_start: bool = False,
    record_all: bool = False,
) -> Trajectory:
    """Draws the rollouts in one batch. seed: of the epoch. capture and positions (B, S): record the attention to these
    text tokens, -1 for none, at the recorded steps: the trained ones, or with record_all every one. shared_start: all
    rollouts of a prompt begin from one noise, so that only the steps' noise tells them apart."""
    device = asked.tokens.device
    generators = [image_generator(seed, r.prompt.id, r.k) for r in rollouts]

    def draw() -> Tensor:
        return torch.stack([torch.randn(latent_shape, generator=g) for g in generators]).to(device)

    latents: list[Tensor] = []
    log_prob, means, attention = [], [], []
    x = draw()
    if shared_start:
        x = torch.stack([latent_noise(seed, r.prompt.id, START, latent_shape) for r in rollouts]).to(device)
    with torch.no_grad():
        for index in range(schedule.steps):
            sigma = schedule.sigmas[index].expand(len(x)).to(device)
            is_recorded = record_all or index in schedule.trained
            if is_recorded and capture is not None and positions is not None:
                with capture.recording(
                    positions, policy.image_tokens(latent_shape), policy.conditional_rows(len(x))
                ) as seen:
                    v = policy.velocity(x, sigma, asked)
                attention.append(seen.mean(0))
            else:
                v = policy.velocity(x, sigma, asked)
            step = schedule.step(x, v, index, noise=draw())
            if is_recorded:
                latents += [step.next_sample] if latents else [x, step.next_sample]
                log_prob.append(step.log_prob.mean(1))
                if keep_means:
                    means.append(step.mean)
            x = step.next_sample
    return Trajectory(
        latents=torch.stack(latents),
        log_prob=torch.stack(log_prob),
        mean=torch.stack(means) if means else None,
        attention=torch.stack(attention) if attention else None,
        final=x,
    )
