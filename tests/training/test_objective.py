"""STAR's objective is Flow-GRPO's where the map says nothing, and clips as it should where it says something."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from star_bench.training.objective import Terms, local_clip_range, policy_terms
from star_bench.training.sde import Step, flow_sde_step

B, C, H, W = 3, 4, 6, 8


def some(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape or (B, C, H, W), generator=torch.Generator().manual_seed(seed))


ADVANTAGE = torch.tensor([1.3, -0.7, 0.2])


def step_of(velocity: Tensor, after: Tensor | None = None) -> Step:
    drawn = {"next_sample": after} if after is not None else {"noise": some(2)}
    return flow_sde_step(some(0), velocity, 0.9, 0.8, sigma_max=0.96, **drawn)


def behaviour() -> Step:
    return step_of(some(1))


def terms(velocity: Tensor, weights: Tensor | None = None, **options: object) -> Terms:
    old = behaviour()
    settings: dict[str, object] = {"ratio": "local", "clip_range": 1e-4, **options}
    ones = torch.ones(B, H, W)
    return policy_terms(
        step_of(velocity, old.next_sample),
        old.log_prob.mean(1),
        ADVANTAGE,
        ones if weights is None else weights,
        **settings,  # type: ignore[arg-type]
    )


def gradient(**options: object) -> Tensor:
    velocity = some(1).requires_grad_()
    terms(velocity, **options).policy.sum().backward()  # type: ignore[arg-type]
    assert velocity.grad is not None
    return velocity.grad


def test_first_update_has_ratio_exactly_one() -> None:
    for ratio in ("scalar", "local", "weighted-scalar"):
        got = terms(some(1), ratio=ratio)
        assert not got.log_ratio.any()
        assert not got.clipped.any()


@pytest.mark.parametrize("ratio", ["local", "weighted-scalar"])
def test_with_even_weights_the_first_gradient_is_flow_grpos(ratio: str) -> None:
    torch.testing.assert_close(gradient(ratio=ratio), gradient(ratio="scalar"), atol=1e-9, rtol=1e-4)


def test_scalar_is_flow_grpos_objective() -> None:
    """Restated from the formula, at a policy that has moved enough for some ratios to be clipped."""
    old, velocity = behaviour(), some(1) + 0.01 * some(5)
    got = terms(velocity, ratio="scalar", clip_range=1e-3)
    moved = step_of(velocity, old.next_sample)
    rho = (moved.log_prob.mean((1, 2, 3)) - old.log_prob.mean((1, 2, 3))).exp()
    expected = torch.maximum(-ADVANTAGE * rho, -ADVANTAGE * rho.clamp(1 - 1e-3, 1 + 1e-3))
    torch.testing.assert_close(got.policy, expected)


def test_weights_move_the_gradient_and_keep_its_sum() -> None:
    weights = torch.zeros(B, H, W)
    weights[:, 2:4, 1:5] = H * W / 8
    local = gradient(weights=weights)
    even = gradient()
    inside = weights.bool()[:, None].expand_as(local)
    assert not local[~inside].any()
    torch.testing.assert_close(local[inside], even[inside] * H * W / 8)


def test_weights_are_never_differentiated() -> None:
    weights = torch.ones(B, H, W, requires_grad=True)
    loss = terms(some(1).requires_grad_(), weights).policy.sum()
    loss.backward()
    assert weights.grad is None


def test_local_range_is_as_much_wider_as_the_local_ratio_varies() -> None:
    assert local_clip_range(1e-4, 64, 64) == pytest.approx(6.4e-3)
    old, shares = behaviour(), []
    for scale in (0.002, 0.01, 0.05):
        moved = some(1) + scale * some(6)
        for ratio in ("scalar", "local"):
            found = policy_terms(
                step_of(moved, old.next_sample),
                old.log_prob.mean(1),
                ADVANTAGE,
                torch.ones(B, H, W),
                ratio=ratio,  # type: ignore[arg-type]
                clip_range=1e-2 * scale,
            )
            shares.append(float(found.clipped.mean()))
    assert all(0 < share < 1 for share in shares[1::2])


def test_a_ratio_outside_the_range_on_the_wrong_side_still_pulls_back() -> None:
    """PPO's pessimism: only what would be gained by going further is cut off."""
    velocity = (some(1) + 0.3 * some(5)).requires_grad_()
    got = terms(velocity, ratio="scalar", clip_range=1e-4)
    got.policy.sum().backward()
    assert velocity.grad is not None
    rho_up = step_of(velocity.detach(), behaviour().next_sample).log_prob.mean((1, 2, 3)) > behaviour().log_prob.mean(
        (1, 2, 3)
    )
    stopped = ~velocity.grad.flatten(1).any(1)
    assert torch.equal(stopped, rho_up == (ADVANTAGE > 0))


def test_kl_leaves_out_dt() -> None:
    old = behaviour()
    reference = old.mean + 0.1
    got = terms(some(1), reference_mean=reference)
    s = 0.7 * math.sqrt(0.9 / 0.1)
    assert got.kl.tolist() == pytest.approx([0.1**2 / (2 * s * s)] * B, rel=1e-4)


def test_without_a_reference_there_is_no_kl() -> None:
    assert not terms(some(1)).kl.any()


def test_guard_centres_and_scales_the_ratio() -> None:
    """GRPO-Guard: at the behaviour policy the loss is the plain one over |dt|; away from it the ratio's mean is removed."""
    old = behaviour()
    dt = torch.full((B,), -0.1)
    at_old = terms(some(1), old_mean=old.mean, dt=dt, ratio="scalar")
    plain = terms(some(1), ratio="scalar")
    torch.testing.assert_close(at_old.policy, plain.policy / 0.1)
    moved = some(1) + 0.05 * some(7)
    step = step_of(moved, old.next_sample)
    distance = ((step.mean - old.mean) ** 2).mean((1, 2, 3)) / (2 * step.std.flatten() ** 2)
    log_ratio = (step.log_prob - old.log_prob).mean((1, 2, 3))
    expected = ((log_ratio + distance) * step.std.flatten()).abs()
    torch.testing.assert_close(
        terms(moved, old_mean=old.mean, dt=dt, ratio="scalar").log_ratio, expected, atol=1e-5, rtol=1e-3
    )
