"""One denoising step of flow matching as a draw from a Gaussian, so that it has a log-probability.

Flow-GRPO (arXiv:2505.05470, section 4.1) gives the rectified flow's ODE the noise that keeps its marginals; Flow-CPS
(arXiv:2509.05952) adds noise while keeping the coefficients on the interpolation's circle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

Variant = Literal["sde", "cps"]
Level = float | Tensor
"""A noise level for the whole batch, or (B,) one for each of its samples."""


@dataclass(frozen=True)
class Step:
    """One step of B samples (B, C, H, W), float32 and on their device.

    std and diffusion are (B, 1, 1, 1), or (1, 1, 1, 1) where all samples stand at one noise level. std: the noise's
    standard deviation. diffusion: s, by which the KL is measured; std = s sqrt(-dt) for the SDE and s for CPS.
    log_prob: of next_sample under the step, element by element, before any mean; 0 where std is 0, since a step
    without noise has no density. For CPS without its constants, as in Flow-CPS.
    """

    next_sample: Tensor
    mean: Tensor
    std: Tensor
    diffusion: Tensor
    log_prob: Tensor


def sigmas(scheduler: Any, steps: int) -> Tensor:
    """(steps + 1,) float32 noise levels from 1 down to 0, from diffusers' FlowMatchEulerDiscreteScheduler, which
    keeps its state: no other loop may be using it."""
    scheduler.set_timesteps(steps)
    return scheduler.sigmas.detach().to("cpu", torch.float32).clone()


def flow_sde_step(
    x: Tensor,
    v: Tensor,
    sigma: Level,
    sigma_next: Level,
    *,
    sigma_max: float,
    noise_level: float = 0.7,  # Flow-GRPO
    noise: Tensor | None = None,
    next_sample: Tensor | None = None,
) -> Step:
    """From x at sigma to sigma_next, by Flow-GRPO's SDE; noise_level 0 is the Euler step of the ODE.

    x, v: (B, C, H, W), the latents and the (guided) velocity. sigma_max: what stands for sigma in the diffusion
    coefficient where sigma is 1, where it would be infinite: the schedule's second entry. Either noise (standard
    normal) is added, or next_sample is given and judged: exactly one of the two. next_sample is detached.
    """
    x, v = x.float(), v.float()
    now, after = _level(sigma, x), _level(sigma_next, x)
    dt = after - now
    below_one = torch.where(now >= 1, torch.full_like(now, sigma_max), now)
    s = noise_level * torch.sqrt(now / (1 - below_one))
    mean = x * (1 + s**2 / (2 * now) * dt) + v * (1 + s**2 * (1 - now) / (2 * now)) * dt
    std = s * torch.sqrt(-dt)
    drawn = _drawn(mean, std, noise, next_sample)
    if noise_level == 0:
        return Step(drawn, mean, std, s, torch.zeros_like(mean))
    log_prob = -((drawn - mean) ** 2) / (2 * std**2) - torch.log(std) - math.log(math.sqrt(2 * math.pi))
    return Step(drawn, mean, std, s, log_prob)


def flow_cps_step(
    x: Tensor,
    v: Tensor,
    sigma: Level,
    sigma_next: Level,
    *,
    noise_level: float = 0.7,  # Flow-GRPO's for its SDE; Flow-CPS states its own per experiment
    noise: Tensor | None = None,
    next_sample: Tensor | None = None,
) -> Step:
    """The same by Flow-CPS, whose step keeps as much noise in the sample as the schedule says."""
    x, v = x.float(), v.float()
    now, after = _level(sigma, x), _level(sigma_next, x)
    std = after * math.sin(noise_level * math.pi / 2)
    clean, pure = x - now * v, x + (1 - now) * v
    mean = (1 - after) * clean + torch.sqrt(after**2 - std**2) * pure
    drawn = _drawn(mean, std, noise, next_sample)
    log_prob = torch.zeros_like(mean) if noise_level == 0 else -((drawn - mean) ** 2)
    return Step(drawn, mean, std, std, log_prob)


def _level(level: Level, like: Tensor) -> Tensor:
    """(B, 1, 1, 1) or (1, 1, 1, 1), float32."""
    return torch.as_tensor(level, dtype=torch.float32, device=like.device).reshape(-1, 1, 1, 1)


def _drawn(mean: Tensor, std: Tensor, noise: Tensor | None, next_sample: Tensor | None) -> Tensor:
    if (noise is None) == (next_sample is None):
        raise ValueError("give either the noise to add or the next sample to judge")
    if next_sample is not None:
        return next_sample.detach().float()
    assert noise is not None
    return (mean + std * noise.to(mean)).detach()
