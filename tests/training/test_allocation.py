"""Maps of weights: what holds for every kind, and what each kind is for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from torch import Tensor

from star_bench.errors import UsageError
from star_bench.training.allocation import KINDS, Allocation, AllocationSettings, Evidence, allocate

WORDS = [[[0], [1, 2]], [[3, 1, 4]]]
FROM_ATTENTION = [name for name, kind in KINDS.items() if kind.needs_attention]


def attention_of(seed: int, shape: tuple[int, ...], spread: float = 3.0) -> Tensor:
    """Probabilities over many orders of magnitude, as softmax gives them."""
    generator = torch.Generator().manual_seed(seed)
    return torch.exp(spread * torch.randn(shape, generator=generator) - 6)


def evidence_of(
    seed: int = 0,
    *,
    steps: int = 3,
    grid: tuple[int, int] = (4, 6),
    patch: int = 2,
    words: Sequence[Sequence[Sequence[int]]] = WORDS,
    attention: Tensor | None = None,
) -> Evidence:
    """Of two rollouts, all that any kind needs."""
    height, width = grid[0] * patch, grid[1] * patch
    masks = torch.zeros(2, 8 * height, 8 * width, dtype=torch.bool)
    masks[0, 5:40, 10:30] = True
    masks[1, 0:3, 7] = True
    return Evidence(
        shape=(steps, len(words), height, width),
        patch_size=patch,
        attention=attention_of(seed, (steps, 2, grid[0] * grid[1], 5)) if attention is None else attention,
        words=words,
        masks=masks,
        seeds=(seed, seed + 1),
    )


def weights_of(kind: str, evidence: Evidence, **options: float) -> Tensor:
    return allocate(AllocationSettings(kind, **options), evidence).weights


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    seed=st.integers(0, 2**31),
    mix=st.floats(0, 1),
    cap=st.floats(1, 20),
    smoothing=st.sampled_from([0.0, 0.5, 1.0, 3.0]),
    steps=st.integers(1, 4),
    grid=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    patch=st.integers(1, 3),
)
def test_weights_are_never_negative_with_mean_one(
    kind: str, seed: int, mix: float, cap: float, smoothing: float, steps: int, grid: tuple[int, int], patch: int
) -> None:
    evidence = evidence_of(seed, steps=steps, grid=grid, patch=patch)
    weights = weights_of(kind, evidence, mix=mix, cap=cap, smoothing=smoothing)
    assert weights.shape == evidence.shape and weights.dtype == torch.float32
    assert (weights >= 0).all()
    means = weights.mean((0, 2, 3) if kind == "joint" else (2, 3))
    torch.testing.assert_close(means, torch.ones_like(means), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", FROM_ATTENTION)
@given(seed=st.integers(0, 2**31))
@settings(max_examples=8, deadline=None)
def test_neither_order_nor_how_much_attention_a_word_gets_matters(kind: str, seed: int) -> None:
    evidence = evidence_of(seed)
    assert evidence.attention is not None
    turned = [[word[::-1] for word in words[::-1]] for words in WORDS]
    torch.testing.assert_close(weights_of(kind, evidence), weights_of(kind, evidence_of(seed, words=turned)))
    factors = torch.tensor([[100.0, 0.01, 0.01, 1, 1], [1, 7, 1, 7, 7]])[:, None]  # per rollout, one for each word
    scaled = evidence_of(seed, attention=evidence.attention * factors)
    torch.testing.assert_close(weights_of(kind, evidence), weights_of(kind, scaled))


@pytest.mark.parametrize("kind", FROM_ATTENTION)
def test_weights_carry_no_gradient(kind: str) -> None:
    evidence = evidence_of(attention=attention_of(0, (3, 2, 24, 5)).requires_grad_())
    weights = weights_of(kind, evidence)
    assert not weights.requires_grad and weights.grad_fn is None


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_no_share_of_the_map_gives_ones(kind: str) -> None:
    weights = weights_of(kind, evidence_of(), mix=0.0)
    assert torch.equal(weights, torch.ones_like(weights))


def test_star_by_hand() -> None:
    """Two tokens wide, one word twice as present on the right and one of two tokens wholly on the left."""
    attention = torch.tensor([[0.1, 0.4, 0.0], [0.2, 0.0, 0.0]])[None, None]
    evidence = Evidence((1, 1, 1, 2), patch_size=1, attention=attention, words=[[[0], [1, 2]]])
    expected = (torch.tensor([2 / 3, 4 / 3]) + torch.tensor([2.0, 0.0])) / 2
    torch.testing.assert_close(weights_of("star", evidence, smoothing=0)[0, 0, 0], expected)
    half = weights_of("star", evidence, smoothing=0, mix=0.5)[0, 0, 0]
    torch.testing.assert_close(half, (1 + expected) / 2)


def test_one_dominant_token_does_not_own_the_map() -> None:
    attention = torch.full((1, 1, 16, 2), 1e-6)
    attention[0, 0, 0, 0] = 0.9  # a token that gets nearly all of the probability, in one corner
    attention[0, 0, 8:, 1] = 1e-4
    evidence = Evidence((1, 1, 4, 4), patch_size=1, attention=attention, words=[[[0], [1]]])
    weights = weights_of("star", evidence, smoothing=0, cap=100)[0, 0]
    assert weights[0, 0] / 16 == pytest.approx(0.5, abs=0.01)
    assert weights[2:].sum() / 16 == pytest.approx(0.5, abs=0.01)
    capped = weights_of("star", evidence, smoothing=0)[0, 0]
    assert capped[0, 0] < weights[0, 0]


def test_the_cap_comes_before_the_last_normalisation() -> None:
    attention = torch.ones(1, 1, 100, 1)
    attention[0, 0, 0] = 100.0
    evidence = Evidence((1, 1, 10, 10), patch_size=1, attention=attention, words=[[[0]]])
    weights = weights_of("star", evidence, smoothing=0, cap=5)[0, 0]
    rest = 1 / 1.99
    torch.testing.assert_close(weights[0, 0] / weights[0, 1], torch.tensor(5 / rest))
    assert weights.max() > 5


@pytest.mark.parametrize("grid", [(32, 32), (3, 5), (1, 2)])
@pytest.mark.parametrize("sigma", [0.7, 1.0])
def test_smoothing_is_scipys_and_keeps_borders_as_bright(grid: tuple[int, int], sigma: float) -> None:
    attention = attention_of(1, (1, 1, grid[0] * grid[1], 1), spread=1.0)
    evidence = Evidence((1, 1, *grid), patch_size=1, attention=attention, words=[[[0]]])
    expected = gaussian_filter(attention.view(grid).double().numpy(), sigma, mode="reflect")
    got = weights_of("star", evidence, smoothing=sigma, cap=1e6)[0, 0].numpy()
    np.testing.assert_allclose(got, expected / expected.mean(), rtol=1e-4)


def test_even_attention_gives_ones_up_to_the_borders() -> None:
    evidence = evidence_of(attention=torch.full((3, 2, 24, 5), 0.01))
    for kind in FROM_ATTENTION:
        torch.testing.assert_close(weights_of(kind, evidence), torch.ones(evidence.shape))


@pytest.mark.parametrize("kind", FROM_ATTENTION)
def test_the_latents_of_a_token_share_its_weight(kind: str) -> None:
    weights = weights_of(kind, evidence_of())
    blocks = weights.unfold(2, 2, 2).unfold(3, 2, 2).flatten(-2)
    assert (blocks == blocks[..., :1]).all()
    assert weights.std((2, 3)).min() > 0


def test_a_map_lies_where_the_attention_is_row_by_row() -> None:
    attention = torch.full((1, 1, 24, 1), 1e-4)
    attention[0, 0, 1 * 6 + 4] = 0.1
    weights = weights_of("star", Evidence((1, 1, 8, 12), attention=attention, words=[[[0]]]), smoothing=0)
    assert (weights[0, 0] == weights.max()).nonzero().tolist() == [[2, 8], [2, 9], [3, 8], [3, 9]]


def test_shuffling_moves_whole_tokens_the_same_way_at_every_step() -> None:
    evidence = evidence_of()
    star, shuffled = (weights_of(kind, evidence)[:, :, ::2, ::2].flatten(2) for kind in ("star", "shuffled"))
    orders = []
    for i in range(2):
        order = [int((star[0, i] == value).nonzero()) for value in shuffled[0, i]]
        assert torch.equal(star[:, i, order], shuffled[:, i])
        assert sorted(order) == list(range(24)) != order
        orders.append(order)
    assert orders[0] != orders[1]
    assert torch.equal(weights_of("shuffled", evidence), weights_of("shuffled", evidence))


def test_all_tokens_counts_every_token_once_however_they_are_grouped() -> None:
    grouped, single = evidence_of(), evidence_of(words=[[[0], [1], [2]], [[1], [3], [4]]])
    torch.testing.assert_close(weights_of("all-tokens", grouped), weights_of("star", single))
    assert not torch.allclose(weights_of("all-tokens", grouped), weights_of("star", grouped))
    assert AllocationSettings("all-tokens").every_token and not AllocationSettings("star").every_token


def test_time_averaged_is_the_mean_of_star_at_every_step() -> None:
    evidence = evidence_of()
    star, averaged = weights_of("star", evidence), weights_of("time-averaged", evidence)
    for step in averaged:
        torch.testing.assert_close(step, star.mean(0))


def test_joint_gives_steps_with_more_attention_more_weight() -> None:
    attention = attention_of(0, (1, 2, 24, 5), spread=0.3) * torch.tensor([1.0, 2, 3]).view(3, 1, 1, 1)
    evidence = evidence_of(attention=attention)
    factors = torch.tensor([0.5, 1.0, 1.5]).view(3, 1, 1, 1)
    torch.testing.assert_close(weights_of("joint", evidence), weights_of("star", evidence) * factors)


def test_the_oracle_lies_on_the_mask() -> None:
    masks = torch.zeros(1, 32, 32, dtype=torch.bool)
    masks[0, 8:24, 8:28] = True  # of the last column of latents half of the 8 px
    weights = weights_of("oracle", Evidence((2, 1, 4, 4), masks=masks))
    expected = torch.tensor([[0, 0, 0, 0], [0, 2, 2, 1], [0, 2, 2, 1], [0, 0, 0, 0]]) * 16 / 10
    torch.testing.assert_close(weights, expected.expand(2, 1, 4, 4))


def test_where_the_judge_found_nothing_the_oracle_gives_ones_and_says_so() -> None:
    masks = torch.zeros(3, 64, 64, dtype=torch.bool)
    masks[1, :20, :20] = True
    found = allocate(AllocationSettings("oracle"), Evidence((2, 3, 8, 8), masks=masks))
    assert found.unlocated == (0, 2)
    assert torch.equal(found.weights[:, [0, 2]], torch.ones(2, 2, 8, 8))
    assert found.weights[:, 1].std() > 0


@pytest.mark.parametrize("kind", ["uniform", "all-ones"])
def test_ones_need_no_evidence(kind: str) -> None:
    chosen = AllocationSettings(kind)
    needs = (chosen.needs_attention, chosen.needs_masks, chosen.needs_seeds)
    assert not any(needs)
    assert torch.equal(allocate(chosen, Evidence((2, 3, 4, 6))).weights, torch.ones(2, 3, 4, 6))


def test_only_flow_grpo_has_the_scalar_ratio() -> None:
    assert [kind for kind in KINDS if AllocationSettings(kind).scalar_ratio] == ["uniform"]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_kind_refuses_to_go_without_what_it_says_it_needs(kind: str) -> None:
    chosen, whole = AllocationSettings(kind), evidence_of()
    assert isinstance(allocate(chosen, whole), Allocation)
    for needed, field, nothing in (
        (chosen.needs_attention, "attention", None),
        (chosen.needs_attention, "words", ()),
        (chosen.needs_masks, "masks", None),
        (chosen.needs_seeds, "seeds", ()),
    ):
        without = Evidence(**{**vars(whole), field: nothing})
        if needed:
            with pytest.raises(ValueError, match=r"need|words|seeds"):
                allocate(chosen, without)
        else:
            allocate(chosen, without)


@pytest.mark.parametrize("kind", ["star", "shuffled", "all-tokens", "time-averaged", "joint"])
def test_without_a_word_a_map_is_ones(kind: str) -> None:
    whole = evidence_of()
    found = allocate(AllocationSettings(kind), Evidence(**{**vars(whole), "words": [[], whole.words[1]]})).weights
    assert torch.allclose(found[:, 0], torch.ones(()), atol=1e-6)
    assert not torch.allclose(found[:, 1], torch.ones(()), atol=1e-2)


def with_value(value: float, columns: list[int]) -> Tensor:
    attention = attention_of(0, (3, 2, 24, 5))
    attention[1, 1, :, columns] = value
    return attention


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"words": [[[0], []], [[1]]]}, "rollout 0 has a word without tokens"),
        ({"words": [[[0]], [[5]]]}, "rollout 1 names a token outside"),
        ({"words": [[[0]], [[-1]]]}, "rollout 1 names a token outside"),
        ({"words": [[[0]]]}, "words of 1 rollouts, not of 2"),
        ({"shape": (3, 2, 8, 13)}, "no whole number"),
        ({"shape": (3, 2, 12, 12)}, r"needs float32 attention \(3, 2, 36, 'S'\), not float32 \(3, 2, 24, 5\)"),
        ({"attention": torch.ones(3, 2, 24, 5, dtype=torch.bfloat16)}, "not bfloat16"),
        ({"attention": with_value(0.0, [1, 3, 4])}, r"word 0, columns \[3, 1, 4\], at step 1 is 0 everywhere"),
        ({"attention": with_value(float("nan"), [3])}, "not finite"),
        ({"attention": with_value(-0.1, [3])}, "negative"),
    ],
)
def test_impossible_evidence_is_named(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        allocate(AllocationSettings(), Evidence(**{**vars(evidence_of()), **changes}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "shufled"}, "did you mean 'shuffled'"),
        ({"mix": 1.5}, "mix"),
        ({"mix": float("nan")}, "mix"),
        ({"cap": 0.9}, "cap"),
        ({"smoothing": -1}, "smoothing"),
        ({"smoothing": float("inf")}, "smoothing"),
    ],
)
def test_settings_without_meaning_are_refused(options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        AllocationSettings(**options)
