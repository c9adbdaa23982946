"""An epoch's collection: rollouts drawn batch by batch, judged in the background, turned into experience."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from star_bench.generation.noise import noise_seed
from star_bench.generation.sampler import to_uint8
from star_bench.training.actor import Actor
from star_bench.training.advantage import varies
from star_bench.training.allocation import Allocation, Evidence, allocate
from star_bench.training.experience import Kept
from star_bench.training.rewards import Asked, Judgement, Rewards
from star_bench.training.rollout import Rollout, Schedule, Trajectory, roll_out

SHUFFLE = "shuffle"
"""Salts a prompt's id, so that the order of a shuffled map has another stream than the noise."""


@dataclass
class Collection:
    """rewards: (N,) float64 of this process's rollouts in their order, NaN where there is none. kept: by group, those that
    can teach something. unlocated: rollouts in whose pictures the judge found nothing for an oracle map. broken: rollouts
    whose latents are not finite: the model is dead."""

    rewards: Tensor
    kept: list[Kept] = field(default_factory=list)
    unlocated: int = 0
    broken: int = 0
    largest_weight: float = 1.0


class Collector:
    """Draws and judges an epoch's rollouts with the policy as it stands."""

    def __init__(self, actor: Actor, rewards: Rewards) -> None:
        self.actor, self.rewards = actor, rewards
        self.rollout = actor.recipe.rollout
        self.keep_means = actor.recipe.objective.guard  # what GRPO-Guard's ratio needs

    def collect(
        self,
        schedule: Schedule,
        asked: Sequence[Asked],
        *,
        first_group: int,
        seed: int,
        note: Callable[[str], None],
    ) -> Collection:
        """asked: this process's prompts, each a whole group; first_group: the place of the first among all processes'.

        seed: of the epoch. Batches have one shape: the last is filled up by repeating its first rollout.
        """
        suite_of = {first_group + i: one for i, one in enumerate(asked)}
        rollouts = [Rollout(one.prompt, g, k) for g, one in suite_of.items() for k in range(self.rollout.group_size)]
        offset = first_group * self.rollout.group_size
        out = Collection(torch.full((len(rollouts),), torch.nan, dtype=torch.float64))
        waiting: list[tuple[int, list[Rollout], Trajectory, Callable[[], list[Judgement]]]] = []
        open_groups: dict[int, list[Kept]] = defaultdict(list)

        def settle() -> None:
            start, batch, trajectory, wait = waiting.pop(0)
            judged = wait()
            fresh = self._kept(schedule, batch, trajectory, judged, offset + start, seed, out)
            for i, (rollout, judgement) in enumerate(zip(batch, judged, strict=True)):
                if judgement.reward is not None:
                    out.rewards[start + i] = judgement.reward
                    open_groups[rollout.group].append(fresh[i])
            # Whole groups leave here, and those that can't teach leave nothing behind.
            whole = first_group + (start + len(batch)) // self.rollout.group_size
            for group in [group for group in open_groups if group < whole]:
                kept = open_groups.pop(group)
                mine = out.rewards[[one.number - offset for one in kept]]
                if bool(varies(mine, torch.zeros(len(mine), dtype=torch.long)).any()):
                    out.kept += kept

        for start in range(0, len(rollouts), self.rollout.batch_size):
            batch = rollouts[start : start + self.rollout.batch_size]
            trajectory = self._draw(schedule, batch, seed)
            out.broken += int((~trajectory.final[: len(batch)].isfinite().flatten(1).all(1)).sum())
            images = [to_uint8(image) for image in self.actor.sampler.decode(trajectory.final[: len(batch)])]
            questions = [suite_of[rollout.group] for rollout in batch]
            waiting.append((start, batch, trajectory, self.rewards.start(images, questions, note)))
            if len(waiting) > self.rewards.ahead:
                settle()
        while waiting:
            settle()
        return out

    def _draw(self, schedule: Schedule, batch: list[Rollout], seed: int) -> Trajectory:
        filled = batch + [batch[0]] * (self.rollout.batch_size - len(batch))
        positions = None
        if self.actor.core is not None:
            positions = self.actor.core.positions([rollout.prompt for rollout in filled])
        return roll_out(
            self.actor.policy,
            schedule,
            self.actor.encode([rollout.prompt.text for rollout in filled]),
            filled,
            self.actor.sampler.latent_shape,
            seed=seed,
            capture=self.actor.capture,
            positions=positions,
            keep_means=self.keep_means,
            shared_start=self.rollout.shared_start,
        )

    def _kept(
        self,
        schedule: Schedule,
        batch: list[Rollout],
        trajectory: Trajectory,
        judged: list[Judgement],
        first: int,
        seed: int,
        out: Collection,
    ) -> list[Kept]:
        maps = self._allocate(batch, trajectory, judged, seed)
        out.unlocated += len(maps.unlocated)
        out.largest_weight = max(out.largest_weight, float(maps.weights.max()))
        return [
            Kept(
                rollout,
                first + i,
                trajectory.latents[:, i].clone(),
                trajectory.log_prob[:, i].clone(),
                maps.weights[:, i].clone(),
                None if trajectory.mean is None else trajectory.mean[:, i].clone(),
            )
            for i, rollout in enumerate(batch)
        ]

    def _allocate(self, batch: list[Rollout], trajectory: Trajectory, judged: list[Judgement], seed: int) -> Allocation:
        count = len(batch)
        steps, _, height, width = trajectory.log_prob.shape
        evidence = Evidence(
            shape=(steps, count, height, width),
            patch_size=self.actor.policy.transformer.config.patch_size,
            attention=None if trajectory.attention is None else trajectory.attention[:, :count],
            words=[] if self.actor.core is None else [self.actor.core.columns(rollout.prompt) for rollout in batch],
            masks=_masks(judged) if self.actor.allocation.needs_masks else None,
            seeds=[noise_seed(seed, f"{SHUFFLE} {rollout.prompt.id}", rollout.k) for rollout in batch],
            device=trajectory.log_prob.device,
        )
        return allocate(self.actor.allocation, evidence)


def _masks(judged: Sequence[Judgement]) -> Tensor:
    """(B, height, width) bool; a picture that was not judged has an empty one, and is dropped later."""
    found = [judgement.regions for judgement in judged]
    shape = next((mask.shape for mask in found if mask is not None), (1, 1))
    return torch.from_numpy(np.stack([np.zeros(shape, bool) if mask is None else mask for mask in found]))
