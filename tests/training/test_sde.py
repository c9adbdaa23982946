"""Flow-GRPO's step against its closed form, and the properties that make it a policy."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from star_bench.training.sde import flow_cps_step, flow_sde_step, sigmas

TEN_STEPS = [1, 0.96013, 0.91335, 0.85769, 0.79037, 0.70728, 0.60215, 0.46488, 0.27805, 0.00893, 0]
NOISE = [0.700, 0.743, 0.536, 0.446, 0.392, 0.353, 0.319, 0.282, 0.225, 0.0063]
"""Flow-GRPO's noise per step at noise level 0.7."""


def table() -> torch.Tensor:
    return sigmas(FlowMatchEulerDiscreteScheduler(shift=3.0), 10)


def some(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape or (3, 4, 6, 5), generator=torch.Generator().manual_seed(seed))


def test_sigmas_are_diffusers_schedule() -> None:
    assert table().tolist() == pytest.approx(TEN_STEPS, abs=1e-5)


def test_noise_of_ten_steps() -> None:
    steps = [
        flow_sde_step(some(0), some(1), a, b, sigma_max=TEN_STEPS[1], noise=some(2))
        for a, b in itertools.pairwise(TEN_STEPS)
    ]
    assert [float(step.std) for step in steps] == pytest.approx(NOISE, abs=6e-4)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 9), st.floats(0.05, 1.5), st.integers(0, 1000))
def test_step_is_the_closed_form(index: int, level: float, seed: int) -> None:
    """In float64, from the formulas as the paper and its code state them."""
    now, after = table()[index].item(), table()[index + 1].item()
    x, v, eps = (some(seed + i) for i in range(3))
    step = flow_sde_step(x, v, now, after, sigma_max=float(table()[1]), noise_level=level, noise=eps)
    dt = after - now
    s = level * math.sqrt(now / (1 - (float(table()[1]) if now == 1 else now)))
    mean = x.double() * (1 + s * s * dt / (2 * now)) + v.double() * (1 + s * s * (1 - now) / (2 * now)) * dt
    std = s * math.sqrt(-dt)
    torch.testing.assert_close(step.mean, mean.float(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(step.next_sample, (mean + std * eps.double()).float(), atol=1e-5, rtol=1e-5)
    density = torch.distributions.Normal(mean, std).log_prob(mean + std * eps.double())
    torch.testing.assert_close(step.log_prob, density.float(), atol=2e-4, rtol=1e-4)


def test_judging_a_drawn_sample_gives_its_own_log_probability() -> None:
    drawn = flow_sde_step(some(0), some(1), 0.9, 0.8, sigma_max=0.96, noise=some(2))
    judged = flow_sde_step(some(0), some(1), 0.9, 0.8, sigma_max=0.96, next_sample=drawn.next_sample)
    assert torch.equal(drawn.log_prob, judged.log_prob)


def test_samples_of_one_batch_may_stand_at_different_levels() -> None:
    now, after = torch.tensor([1.0, 0.9, 0.3]), torch.tensor([0.96, 0.8, 0.1])
    together = flow_sde_step(some(0), some(1), now, after, sigma_max=0.96, noise=some(2))
    for i in range(3):
        alone = flow_sde_step(
            some(0)[i : i + 1],
            some(1)[i : i + 1],
            float(now[i]),
            float(after[i]),
            sigma_max=0.96,
            noise=some(2)[i : i + 1],
        )
        torch.testing.assert_close(together.next_sample[i : i + 1], alone.next_sample)
        torch.testing.assert_close(together.log_prob[i : i + 1], alone.log_prob)


@pytest.mark.parametrize("variant", ["sde", "cps"])
def test_without_noise_it_is_the_schedulers_ode(variant: str) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(10)
    x = some(0)
    for i in range(10):
        v = some(i + 1)
        now, after = scheduler.sigmas[i].item(), scheduler.sigmas[i + 1].item()
        noise = torch.zeros_like(x)
        if variant == "sde":
            ours = flow_sde_step(x, v, now, after, sigma_max=TEN_STEPS[1], noise_level=0.0, noise=noise)
        else:
            ours = flow_cps_step(x, v, now, after, noise_level=0.0, noise=noise)
        x = scheduler.step(v, scheduler.timesteps[i], x, return_dict=False)[0]
        torch.testing.assert_close(ours.next_sample, x, atol=1e-5, rtol=1e-5)
        assert not ours.log_prob.any()
        x = ours.next_sample


def test_the_last_step_of_sd3_is_finite() -> None:
    step = flow_sde_step(some(0), some(1), TEN_STEPS[9], 0.0, sigma_max=TEN_STEPS[1], noise=some(2))
    assert step.log_prob.isfinite().all()


def test_cps_keeps_the_schedules_share_of_noise() -> None:
    """Of pure noise and pure picture, the mixture has weight sigma' on noise, old and new together."""
    now, after, level = 0.8, 0.6, 0.7
    clean, pure, eps = some(0, 4, 8, 32, 32), some(1, 4, 8, 32, 32), some(2, 4, 8, 32, 32)
    x, v = (1 - now) * clean + now * pure, pure - clean
    step = flow_cps_step(x, v, now, after, noise_level=level, noise=eps)
    noise = step.next_sample - (1 - after) * clean
    assert float(noise.std()) == pytest.approx(after, rel=0.01)
    assert float(step.std) == pytest.approx(after * math.sin(level * math.pi / 2))
    torch.testing.assert_close(step.log_prob, -((step.next_sample - step.mean) ** 2))


def test_the_next_sample_is_never_differentiated() -> None:
    v = some(1).requires_grad_()
    step = flow_sde_step(some(0), v, 0.9, 0.8, sigma_max=0.96, noise=some(2))
    assert not step.next_sample.requires_grad
    assert step.log_prob.requires_grad


def test_noise_and_next_sample_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="either"):
        flow_sde_step(some(0), some(1), 0.9, 0.8, sigma_max=0.96)
