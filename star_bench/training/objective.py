"""The clipped policy objective, scalar as in Flow-GRPO or resolved over the latent's positions as in STAR.

STAR as reconstructed here: the paper's abstract (arXiv:2606.17979) says that one advantage is allocated to regions by
a spatially resolved objective; the local ratio, the clip range scaled to it and the channel mean are chosen here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from star_bench.training.sde import Step

Ratio = Literal["scalar", "local", "weighted-scalar"]


@dataclass(frozen=True)
class Terms:
    """Of each of B transitions, (B,): the policy loss, the KL to the reference, and what is watched.

    log_ratio is its largest absolute value over the ratios that were clipped, clipped the share of them that lay
    outside the clip range.
    """

    policy: Tensor
    kl: Tensor
    log_ratio: Tensor
    clipped: Tensor


def policy_terms(
    step: Step,
    old_log_prob: Tensor,
    advantage: Tensor,
    weights: Tensor,
    *,
    ratio: Ratio,
    clip_range: float,
    reference_mean: Tensor | None = None,
    old_mean: Tensor | None = None,
    dt: Tensor | None = None,
) -> Terms:
    """step: the current policy's, of B transitions. old_log_prob: (B, H, W), the behaviour policy's channel mean.
    advantage: (B,). weights: (B, H, W), mean one over the positions, never differentiated.

    clip_range: eps of the ratio of the mean over all elements. The local ratio, a mean over channels only, varies
    sqrt(H W) times as much, and its range is as much wider. reference_mean: the reference policy's step mean
    (B, C, H, W), without which the KL is 0. old_mean and dt (B,): with both, GRPO-Guard's ratio and weighting
    (arXiv:2510.22319): the ratio is centred by the means' distance and brought to one scale for all steps.
    """
    weights = weights.detach()
    log_ratio = step.log_prob.mean(1) - old_log_prob  # (B, H, W)
    scale = torch.ones_like(advantage)
    if old_mean is not None and dt is not None:
        std = step.std.reshape(-1, 1, 1)
        distance = ((step.mean - old_mean) ** 2).mean(1) / (2 * std**2)
        log_ratio = (log_ratio + distance) * std
        scale = 1 / -dt
    match ratio:
        case "scalar":
            log_ratio, weights = log_ratio.mean((1, 2), keepdim=True), torch.ones_like(weights[:, :1, :1])
        case "weighted-scalar":
            log_ratio, weights = (weights * log_ratio).mean((1, 2), keepdim=True), torch.ones_like(weights[:, :1, :1])
        case "local":
            clip_range = local_clip_range(clip_range, *log_ratio.shape[1:])
    rho = log_ratio.exp()
    gain = weights * advantage.reshape(-1, 1, 1)
    loss = torch.maximum(-gain * rho, -gain * rho.clamp(1 - clip_range, 1 + clip_range))
    return Terms(
        policy=loss.mean((1, 2)) * scale,
        kl=kl_to(reference_mean, step),
        log_ratio=log_ratio.detach().abs().amax((1, 2)),
        clipped=((rho.detach() - 1).abs() > clip_range).float().mean((1, 2)),
    )


def local_clip_range(clip_range: float, height: int, width: int) -> float:
    """The scalar ratio's range for a ratio at one position of a height x width latent: 64 times as wide at 64 x 64."""
    return clip_range * math.sqrt(height * width)


def kl_to(reference_mean: Tensor | None, step: Step) -> Tensor:
    """(B,) mean over all elements of (mean - reference)^2 / (2 s^2): Flow-GRPO's code, which leaves out the |dt| of its
    paper's formula."""
    if reference_mean is None:
        return torch.zeros(step.mean.shape[0], device=step.mean.device)
    return ((step.mean - reference_mean) ** 2).mean((1, 2, 3)) / (2 * step.diffusion.reshape(-1) ** 2)
