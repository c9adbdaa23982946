"""The allocation map: how much of a rollout's advantage each latent position gets at each denoising step; and its
controls, every one of the same form.

STAR as reconstructed here (arXiv:2606.17979, of which only the abstract could be read): it says that the map comes from
text-image attention, starting from the prompt's core content, per step and per rollout. Normalisation, smoothing, cap
and controls are chosen here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch
import torch.nn.functional as F
from torch import Tensor

from star_bench.catalogue.cards import did_you_mean
from star_bench.errors import UsageError

if TYPE_CHECKING:
    from star_bench.training.recipe import AllocationSettings as Asked

TRUNCATE = 4.0  # standard deviations at which the Gaussian ends: scipy.ndimage's default
PER_STEP = (-2, -1)
OVER_STEPS = (0, -2, -1)
"""The axes of (T, B, H, W) that a map is normalised over."""


@dataclass(frozen=True)
class AllocationSettings:
    """Which map, and its shape. Raises UsageError for values that have no meaning."""

    kind: str = "star"
    """One of KINDS."""
    mix: float = 1.0
    """lambda in [0, 1]: the map's share; the rest is the same for all positions. 0 gives ones."""
    cap: float = 5.0
    """No weight is above it before the last normalisation, in multiples of the mean."""
    smoothing: float = 1.0
    """sigma of the Gaussian over the attention, in image tokens; 0 leaves it as it is."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"there is no allocation {self.kind!r}", did_you_mean(self.kind, KINDS))
        if not 0 <= self.mix <= 1:
            raise UsageError(f"an allocation's mix can't be {self.mix}", "give a number from 0 to 1")
        if not self.cap >= 1:
            raise UsageError(f"an allocation's cap can't be {self.cap}", "give at least 1, the mean weight")
        if not 0 <= self.smoothing < float("inf"):
            raise UsageError(f"an allocation's smoothing can't be {self.smoothing}", "give 0 or more image tokens")

    @classmethod
    def of(cls, asked: Asked) -> AllocationSettings:
        """As a recipe asks."""
        return cls(asked.kind, asked.mix, asked.cap, asked.smoothing)

    @property
    def needs_attention(self) -> bool:
        """Whether the rollouts' attention has to be captured."""
        return KINDS[self.kind].needs_attention

    @property
    def every_token(self) -> bool:
        """Whether it has to be captured for every token of the prompt but start, end and padding, not the core's alone."""
        return KINDS[self.kind].every_token

    @property
    def needs_masks(self) -> bool:
        """Whether the evaluator has to find regions in the finished pictures."""
        return KINDS[self.kind].needs_masks

    @property
    def needs_seeds(self) -> bool:
        """Whether a random number decides the map."""
        return KINDS[self.kind].needs_seeds

    @property
    def scalar_ratio(self) -> bool:
        """Whether it stands for Flow-GRPO, whose objective has one ratio per transition and no local ones."""
        return KINDS[self.kind].scalar_ratio


@dataclass(frozen=True)
class Evidence:
    """What is known of B rollouts when their maps are made. A kind reads only what it needs.

    shape: (T, B, H, W) of the maps, on the latent grid. patch_size: latents along one side of an image token.
    attention: (T, B, N, S) float32, the probability with which each of N = h w image tokens, row-major, attends to each
    of S text tokens, as a mean over blocks and heads. words: for each rollout its words, each a list of columns of S;
    with `every_token` any grouping will do; without a word a map is ones. masks: (B, height, width) bool, in pixels.
    seeds: one per rollout.
    device: of the maps, wherever the evidence lies.
    """

    shape: tuple[int, int, int, int]
    patch_size: int = 2
    attention: Tensor | None = None
    words: Sequence[Sequence[Sequence[int]]] = ()
    masks: Tensor | None = None
    seeds: Sequence[int] = ()
    device: torch.device | str = "cpu"


@dataclass(frozen=True)
class Allocation:
    """weights: (T, B, H, W) float32, never negative, with mean one over the positions of every step and rollout, and no
    gradient. Under "joint" the mean is one over positions and steps together.

    unlocated: the rollouts, by their place in the batch, in which the judge found nothing; their weights are ones.
    """

    weights: Tensor
    unlocated: tuple[int, ...] = ()


@torch.no_grad()
def allocate(settings: AllocationSettings, evidence: Evidence) -> Allocation:
    """The maps of B rollouts.

    The cap comes before the last normalisation, as in the reconstruction, so a weight may end above it: cap / the mean
    of the capped map. A map of one value in a small region and 0 outside comes out as if there were no cap.

    Raises ValueError where evidence that the kind needs is missing, of another shape, or impossible, and for a word
    whose attention is 0 everywhere: a softmax gives no such row, so the columns or the capture are wrong.
    """
    return KINDS[settings.kind].make(settings, evidence)


def _ones(settings: AllocationSettings, evidence: Evidence) -> Allocation:
    return Allocation(torch.ones(evidence.shape, device=evidence.device))


def _star(settings: AllocationSettings, evidence: Evidence) -> Allocation:
    return Allocation(_upsampled(_token_weights(settings, evidence, evidence.words), evidence.patch_size))


def _joint(settings: AllocationSettings, evidence: Evidence) -> Allocation:
    """A word's own mean is over the steps too: divided by each step's own, all steps would be equal again."""
    weights = _token_weights(settings, evidence, evidence.words, OVER_STEPS)
    return Allocation(_upsampled(weights, evidence.patch_size))


def _shuffled(settings: AllocationSettings, evidence: Evidence) -> Allocation:
    """STAR's weights at other places: tokens change theirs, the same way at every step, and keep their latents."""
    weights = _token_weights(settings, evidence, evidence.words)
    if len(evidence.seeds) != weights.shape[1]:
        raise ValueError(f"{weights.shape[1]} rollouts can't be shuffled by {len(evidence.seeds)} seeds")
    flat = weights.flatten(2)
    orders = [torch.randperm(flat.shape[2], generator=torch.Generator().manual_seed(s)) for s in evidence.seeds]
    index = torch.stack(orders).to(flat.device).expand(flat.shape)
    return Allocation(_upsampled(flat.gather(2, index).view_as(weights), evidence.patch_size))


def _all_tokens(settings: AllocationSettings, evidence: Evidence) -> Allocation:
    single = [[[column] for word in words for column in word] for words in evidence.words]
    return Allocation(_upsampled(_token_weights(settings, evidence, single), evidence.patch_size))


def _time_averaged(settings: AllocationSettings, evidence: Evidence) -> Allocation:
    """The mean of STAR's weights over the steps, at every step."""
    weights = _token_weights(settings, evidence, evidence.words)
    constant = weights.mean(0, keepdim=True).repeat(len(weights), 1, 1, 1)
    return Allocation(_upsampled(constant, evidence.patch_size))


def _oracle(settings: AllocationSettings, evidence: Evidence) -> Allocation:
    """Where the judge itself found, in the finished picture, what the prompt names; the same at every step.

    A picture without such a place says of no position that it matters more, so its weights are ones, and it is named
    in `unlocated`.
    """
    steps, rollouts, height, width = evidence.shape
    masks = evidence.masks
    if masks is None or masks.dtype != torch.bool or masks.ndim != 3 or len(masks) != rollouts:
        raise ValueError(f"the oracle needs bool masks ({rollouts}, height, width), not {_described(masks)}")
    covered = F.adaptive_avg_pool2d(masks.to(evidence.device, torch.float32), (height, width))
    empty = ~masks.flatten(1).any(1)
    covered[empty.to(covered.device)] = 1.0
    weights = _weights(covered[None], settings, PER_STEP).repeat(steps, 1, 1, 1)
    return Allocation(weights, tuple(empty.nonzero().flatten().tolist()))


@dataclass(frozen=True)
class Kind:
    """A way to make maps, and what it needs; the fields are described at AllocationSettings."""

    make: Callable[[AllocationSettings, Evidence], Allocation]
    needs_attention: bool = False
    every_token: bool = False
    needs_masks: bool = False
    needs_seeds: bool = False
    scalar_ratio: bool = False


KINDS: Final[dict[str, Kind]] = {
    "star": Kind(_star, needs_attention=True),
    "uniform": Kind(_ones, scalar_ratio=True),
    "all-ones": Kind(_ones),
    "shuffled": Kind(_shuffled, needs_attention=True, needs_seeds=True),
    "all-tokens": Kind(_all_tokens, needs_attention=True, every_token=True),
    "time-averaged": Kind(_time_averaged, needs_attention=True),
    "joint": Kind(_joint, needs_attention=True),
    "oracle": Kind(_oracle, needs_masks=True),
}
"""STAR and its controls. "uniform" is Flow-GRPO; "all-ones" differs from it by the local ratio alone, and every other
from that one by its map alone."""


def _token_weights(
    settings: AllocationSettings,
    evidence: Evidence,
    words: Sequence[Sequence[Sequence[int]]],
    over: tuple[int, ...] = PER_STEP,
) -> Tensor:
    """(T, B, h, w): the weights on the grid of image tokens."""
    steps, rollouts, height, width = evidence.shape
    grid = height // evidence.patch_size, width // evidence.patch_size
    attention = _checked(evidence, grid, words).to(evidence.device)
    maps = [_relevance(attention[:, i], columns, over) for i, columns in enumerate(words)]
    relevance = torch.stack(maps, 1).view(steps, rollouts, *grid)
    return _weights(_smoothed(relevance, settings.smoothing), settings, over)


def _checked(evidence: Evidence, grid: tuple[int, int], words: Sequence[Sequence[Sequence[int]]]) -> Tensor:
    """The attention. Raises ValueError where it does not fit the shape or the words."""
    steps, rollouts, height, width = evidence.shape
    patch, attention = evidence.patch_size, evidence.attention
    if (grid[0] * patch, grid[1] * patch) != (height, width):
        raise ValueError(f"{height} x {width} latents are no whole number of {patch} x {patch} image tokens")
    wanted = (steps, rollouts, grid[0] * grid[1])
    if attention is None or attention.dtype != torch.float32 or attention.ndim != 4 or attention.shape[:3] != wanted:
        raise ValueError(f"the map needs float32 attention {(*wanted, 'S')}, not {_described(attention)}")
    if len(words) != rollouts:
        raise ValueError(f"there are words of {len(words)} rollouts, not of {rollouts}")
    columns = attention.shape[3]
    for i, of_rollout in enumerate(words):
        if not all(of_rollout):
            raise ValueError(f"rollout {i} has a word without tokens")
        if not all(0 <= column < columns for word in of_rollout for column in word):
            raise ValueError(f"a word of rollout {i} names a token outside the {columns} of the attention")
    return attention


def _described(tensor: Tensor | None) -> str:
    return "none" if tensor is None else f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _relevance(attention: Tensor, words: Sequence[Sequence[int]], over: tuple[int, ...]) -> Tensor:
    """(T, N, S) to (T, N): each word's mean over its tokens in multiples of its own mean, then the words' mean.

    So a word counts as much as any other, whatever the probability that its tokens get, and one dominant token can't
    own the map. Without a word no place is relevant more than another.
    """
    if not words:
        return torch.ones(attention.shape[:2], device=attention.device)
    of_words = torch.stack([attention[..., list(word)].mean(-1) for word in words], -1)
    level = of_words.mean((0, 1) if over == OVER_STEPS else 1, keepdim=True)
    possible = (level > 0) & level.isfinite() & (of_words >= 0).all(1, keepdim=True)
    if not possible.all():
        step, _, word = (int(i) for i in (~possible).nonzero()[0])
        raise ValueError(
            f"the attention to word {word}, columns {list(words[word])}, at step {step} is 0 everywhere, "
            "negative or not finite"
        )
    return (of_words / level).mean(-1)


def _smoothed(maps: Tensor, sigma: float) -> Tensor:
    """(..., h, w) under a Gaussian that reflects at the borders: no map's mean changes, and none darkens there."""
    if sigma == 0:
        return maps
    rows, columns = (_gaussian(n, sigma).to(maps) for n in maps.shape[-2:])
    return rows @ maps @ columns.T


def _gaussian(n: int, sigma: float) -> Tensor:
    """(n, n): row i holds the shares of n values in the smoothed value i. Rows and columns add to one.

    Reflection is about the outer edge (d c b a | a b c d | d c b a), which torch's padding doesn't offer, and of which
    a matrix can have as many as a small grid needs.
    """
    radius = int(TRUNCATE * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1)
    kernel = torch.exp(-0.5 * (offsets.double() / sigma) ** 2)
    source = (torch.arange(n)[:, None] + offsets) % (2 * n)
    source = torch.minimum(source, 2 * n - 1 - source)
    shares = (kernel / kernel.sum()).expand(n, -1)
    return torch.zeros(n, n, dtype=torch.float64).scatter_add_(1, source, shares)


def _weights(relevance: Tensor, settings: AllocationSettings, over: tuple[int, ...]) -> Tensor:
    """(T, B, H, W) with positive means to weights with mean one over the axes `over`."""
    relative = relevance / relevance.mean(over, keepdim=True)
    mixed = (1 - settings.mix) + settings.mix * relative
    capped = mixed.clamp(max=settings.cap)
    return capped / capped.mean(over, keepdim=True)


def _upsampled(weights: Tensor, patch_size: int) -> Tensor:
    """(T, B, h, w) to the latent grid. The latents of a token share its weight, since attention knows no place finer than
    a token; so means and caps stay as they are, and a shuffled map keeps its blocks."""
    return weights.repeat_interleave(patch_size, -2).repeat_interleave(patch_size, -1)
