"""An epoch's collection on the miniature: what is kept, what is dropped, and in what shape it is trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_training import tiny

from star_bench.runs.progress import Silent
from star_bench.training.collect import Collection
from star_bench.training.experience import batches
from star_bench.training.rollout import epoch_seed
from star_bench.training.trainer import Trainer


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    folder: Path = tmp_path_factory.mktemp("collect")
    return Trainer(tiny("rollout.prompts=4"), folder, device="cpu", bar=Silent())


def collected(trainer: Trainer, first: int = 0, count: int = 4) -> Collection:
    asked = trainer.rewards.prompts_of(seed=0, epoch=0, count=4)[first : first + count]
    return trainer.collector.collect(
        trainer.actor.schedule(0), asked, first_group=first, seed=epoch_seed(0, 0), note=pytest.fail
    )


def test_keeps_exactly_the_groups_that_can_teach(trainer: Trainer) -> None:
    found = collected(trainer)
    groups = found.rewards.view(4, 4)
    teaching = [g for g in range(4) if groups[g].unique().numel() > 1]
    assert teaching, "some group differs under this seed"
    assert len(teaching) < 4, "some group does not"
    assert sorted(one.number for one in found.kept) == [4 * g + k for g in teaching for k in range(4)]


def test_what_is_kept_has_the_latents_of_its_steps(trainer: Trainer) -> None:
    one = collected(trainer).kept[0]
    channels, height, width = trainer.actor.sampler.latent_shape
    assert one.latents.shape == (3, channels, height, width)  # two trained steps, and where they begin
    assert one.log_prob.shape == one.weights.shape == (2, height, width)
    torch.testing.assert_close(one.weights.mean((1, 2)), torch.ones(2))


def test_a_share_of_the_prompts_gives_the_same_rollouts(trainer: Trainer) -> None:
    """Whatever the process and the batch: noise belongs to the prompt and k."""
    whole, half = collected(trainer), collected(trainer, first=2, count=2)
    assert torch.equal(whole.rewards[8:], half.rewards)
    of_whole = {one.number: one for one in whole.kept}
    for one in half.kept:
        torch.testing.assert_close(one.latents, of_whole[one.number].latents, atol=1e-4, rtol=1e-4)


def test_batches_have_one_shape_and_every_transition_once(trainer: Trainer) -> None:
    kept = collected(trainer).kept
    advantages = torch.arange(len(kept), dtype=torch.float32)
    seen: list[tuple[float, int]] = []
    for batch in batches(kept, advantages, 5):
        assert batch.before.shape[0] == batch.after.shape[0] == len(batch.texts) == 5
        valid = batch.valid.bool()
        seen += list(zip(batch.advantage[valid].tolist(), batch.steps[valid].tolist(), strict=True))
    assert sorted(seen) == [(float(row), step) for row in range(len(kept)) for step in range(2)]


def test_a_window_moves_with_the_epoch_and_stays_within_its_bounds() -> None:
    asked = tiny("rollout.steps=10", "rollout.window=3", "rollout.window_from=0.2", "rollout.window_to=0.5")
    actor = Trainer(asked, Path("unused"), device="cpu", bar=Silent()).actor
    starts = [actor.schedule(epoch).trained.start for epoch in range(60)]
    assert set(starts) == {2, 3, 4, 5}
    assert starts == [actor.schedule(epoch).trained.start for epoch in range(60)]
    assert np.all([len(actor.schedule(epoch).trained) == 3 for epoch in range(5)])
