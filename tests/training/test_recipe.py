"""The recipes that ship, and what a recipe's file and changes may say."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from star_bench.catalogue import suites
from star_bench.catalogue.shipped import MINIATURE_FOLDER
from star_bench.errors import UsageError
from star_bench.training import recipe as recipes
from star_bench.training.allocation import KINDS
from star_bench.training.blocks import READS_ATTENTION, check_blocks, check_blocks_in
from star_bench.training.dry_run import dry_run
from star_bench.training.estimate import GB, estimate
from star_bench.training.rollout import schedule_of
from star_bench.training.sde import sigmas

TASKS = ("geneval", "ocr", "pickscore")
SIZES = ("", "-24gb", "-48gb", "-80gb")


@pytest.mark.parametrize("name", recipes.names())
def test_every_shipped_recipe_loads_and_names_suites_that_can_be_trained_on(name: str) -> None:
    recipe = recipes.load(name)
    assert recipe.name == name
    for reward in recipe.rewards:
        assert suites.load(reward.suite).prompts.training
    for suite in recipe.evaluation.suites:
        suites.load(suite)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("task", TASKS)
def test_star_differs_from_flow_grpo_in_the_allocation_alone(task: str, size: str) -> None:
    star, flow = (recipes.load(f"{method}-{task}{size}") for method in ("star", "flow-grpo"))
    names = {"name", "title", "note", "allocation"}
    assert star.model_dump(exclude=names) == flow.model_dump(exclude=names)
    assert (flow.allocation.kind, star.allocation.kind, star.allocation.blocks) == ("uniform", "star", (9,))
    read = {"kind", "blocks", "tokens", "smoothing"}  # which uniform does not read
    assert flow.allocation.model_dump(exclude=read) == star.allocation.model_dump(exclude=read)
    assert star.objective.ratio == "local"


READ = {
    "sd3.5-medium": ((9,), "both", 1.0),
    **dict.fromkeys(("miniature", "miniature-signs"), ((0, 4), "clip", 0.5)),
}
"""Of each model's card: blocks, tokens, smoothing."""


@pytest.mark.parametrize("kind", get_args(recipes.AllocationKind))
@pytest.mark.parametrize("name", recipes.names())
def test_every_control_is_switched_on_in_every_recipe_by_its_kind_alone(name: str, kind: str) -> None:
    """With the blocks of the recipe's own model, which it has: what is one model's default is not another's."""
    if kind in ("time-averaged", "joint") and recipes.load(name).rollout.trained_steps == 1:
        with pytest.raises(UsageError, match="is star itself where one step is trained"):
            recipes.load(name, [f"allocation.kind={kind}"])
        return
    recipe = recipes.load(name, [f"allocation.kind={kind}"])
    found = recipe.allocation
    assert found.kind == kind
    if kind in READS_ATTENTION:
        assert (found.blocks, found.tokens, found.smoothing) == READ[recipe.model]
        check_blocks(found.blocks, 24 if recipe.model == "sd3.5-medium" else 5, recipe.model)
    else:
        assert found.blocks == ()


def test_the_kinds_that_read_attention_are_those_whose_maps_are_made_of_it() -> None:
    assert {name for name, kind in KINDS.items() if kind.needs_attention} == READS_ATTENTION
    assert set(KINDS) == set(get_args(recipes.AllocationKind))


def test_what_a_recipe_says_goes_before_the_model(tmp_path: Path) -> None:
    found = recipes.load("star-geneval-mini", ["allocation.blocks=[1]"]).allocation
    assert (found.blocks, found.tokens, found.smoothing) == ((1,), "clip", 0.5)
    with pytest.raises(UsageError, match="nothing says in which blocks the model's attention marks objects"):
        recipes.load("star-geneval-mini", ["model=someone/sd3-of-theirs"])
    with pytest.raises(UsageError, match="no checkpoint named 'minature': did you mean 'miniature'"):
        recipes.load("star-geneval-mini", ["model=minature"])
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "star-bench.yaml").write_text("attention: {blocks: [2, 3]}")
    found = recipes.load("star-geneval-mini", [f"model={folder}"]).allocation
    assert (found.blocks, found.tokens, found.smoothing) == ((2, 3), "both", 1.0)
    with pytest.raises(UsageError, match=r"miniature has no block 5: choose allocation\.blocks .* from 0 to 4"):
        check_blocks_in(MINIATURE_FOLDER / "pipeline", [0, 5], "miniature")


@pytest.mark.parametrize(
    ("task", "steps", "kl"), [("geneval", 5000, 0.04), ("ocr", 2000, 0.04), ("pickscore", 4000, 0.01)]
)
def test_the_paper_scale_is_flow_grpos(task: str, steps: int, kl: float) -> None:
    recipe = recipes.load(f"flow-grpo-{task}")
    assert (recipe.rollout.prompts, recipe.rollout.group_size, recipe.rollout.steps) == (48, 24, 10)
    assert recipe.epochs * recipe.optimiser.updates_per_epoch == steps
    assert recipe.objective.kl == kl
    assert [reward.suite for reward in recipe.rewards] == list(recipe.evaluation.suites) == [task]


@pytest.mark.parametrize("size", SIZES[1:])
@pytest.mark.parametrize("task", TASKS)
def test_a_recipe_for_one_gpu_changes_size_alone_and_keeps_groups_that_do_not_collapse(task: str, size: str) -> None:
    """With groups of 12 PickScore collapsed in Flow-GRPO's ablation."""
    small, large = recipes.load(f"star-{task}{size}"), recipes.load(f"star-{task}")
    sized = {
        "name": True,
        "title": True,
        "rollout": {"prompts", "group_size", "batch_size"},
        "compute": {"gradient_checkpointing", "offload_text_encoders", "cached_prompts"},
        "evaluation": {"every"},
    }
    assert small.model_dump(exclude=sized) == large.model_dump(exclude=sized)
    assert small.rollout.group_size >= 16
    assert small.compute.cached_prompts > small.rollout.prompts


@pytest.mark.parametrize("size", SIZES)
def test_a_recipe_fits_its_gpu_by_the_estimate(size: str) -> None:
    """PickScore's judge is the largest, and a size is the same for all tasks. The paper's scale is for GPUs with 80 GB."""
    gigabytes = int(size.removeprefix("-").removesuffix("gb") or 80)
    assert estimate(recipes.load(f"star-pickscore{size}")).memory.peak < gigabytes * GB


def test_extends_takes_what_a_file_does_not_say_and_changes_win_over_both(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("extends: star-ocr\nepochs: 7\nrollout: {prompts: 4}\n")
    (tmp_path / "mine.yaml").write_text("extends: base.yaml\nrollout: {group_size: 6}\n")
    recipe = recipes.load(str(tmp_path / "mine.yaml"), ["rollout.group_size=8", "objective.kl=0", "seed=3"])
    rollout = recipe.rollout
    assert (recipe.name, recipe.epochs, recipe.seed, recipe.objective.kl) == ("mine", 7, 3, 0)
    assert (rollout.prompts, rollout.group_size, rollout.batch_size) == (4, 8, 8)
    assert recipe.allocation.kind == "star"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("rollout.prompt=4", "unknown key 'rollout.prompt'.*did you mean 'prompts'"),
        ("rollouts.prompts=4", "unknown key 'rollouts'.*did you mean 'rollout'"),
        ("objective.kl=-1", "objective.kl"),
        ("rollout.window=11", "a window of 11 is longer than the 10 steps"),
        ("allocation.kind=star2", "allocation.kind"),
        ("epochs", "is no change"),
        ("title.x=1", "'title' has no parts"),
    ],
)
def test_a_change_that_means_nothing_is_named(change: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        recipes.load("star-ocr", [change])


def test_unknown_recipes_and_keys_in_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'star-ocr'"):
        recipes.load("star-ocrr")
    file = tmp_path / "mine.yaml"
    file.write_text("extends: star-ocr\nlora: {ranks: 8}\n")
    with pytest.raises(UsageError, match=r"unknown key 'lora\.ranks'.*did you mean 'rank'"):
        recipes.load(str(file))


def test_a_recipe_that_extends_itself_is_told_so(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("extends: mine.yaml\n")
    with pytest.raises(UsageError, match="extends itself"):
        recipes.load(str(file))


def test_the_digest_knows_what_changes_an_update_from_what_does_not() -> None:
    digest = recipes.load("star-ocr").digest()
    for free in ("epochs=3", "evaluation.every=3", "save_every=1", "note=x"):
        assert recipes.load("star-ocr", [free]).digest() == digest
    for bound in ("seed=1", "rollout.group_size=8", "allocation.mix=0.5", "objective.kl=0"):
        assert recipes.load("star-ocr", [bound]).digest() != digest


SHIPPED_STEPS = {
    **{name: (10, [list(range(9))]) for name in recipes.names() if not name.endswith("-mini")},
    **{f"{method}-{task}-mini": (4, [[0]]) for method in ("star", "flow-grpo") for task in ("geneval", "pickscore")},
    **{f"{method}-ocr-mini": (4, [[0, 1]]) for method in ("star", "flow-grpo")},
}
"""The denoising steps, and which of them an epoch may train, from 0: every set that can be drawn."""


@pytest.mark.parametrize("name", recipes.names())
def test_the_trained_steps_of_every_shipped_recipe(name: str) -> None:
    steps, places = SHIPPED_STEPS[name]
    rollout = recipes.load(name).rollout
    assert rollout.steps == steps
    assert [list(range(first, first + rollout.trained_steps)) for first in rollout.first_steps] == places
    levels = sigmas(FlowMatchEulerDiscreteScheduler(shift=3.0), steps)
    drawn = [schedule_of(rollout, levels, np.random.default_rng(seed)).trained for seed in range(20)]
    assert {tuple(trained) for trained in drawn} == {tuple(place) for place in places}
    assert list(schedule_of(rollout, levels).trained) == places[0]


@pytest.mark.parametrize(
    ("name", "changes", "value", "basis"),
    [
        ("star-geneval", [], "0 to 8", "of 10, counted from 0; the other steps have noise too"),
        ("star-geneval-mini", [], "0", "of 4, counted from 0; the other steps have no noise"),
        (
            *("star-ocr-mini", ["rollout.steps=10", "rollout.window_from=0.3", "rollout.window_to=0.5"]),
            *(
                "3 to 4 or 4 to 5 or 5 to 6",
                "of 10, counted from 0, drawn in each epoch; the other steps have no noise",
            ),
        ),
    ],
)
def test_a_dry_run_names_the_trained_steps(name: str, changes: list[str], value: str, basis: str) -> None:
    (said,) = [row for row in dry_run(recipes.load(name, changes)) if row["what"] == "trained steps"]
    assert (said["value"], said["basis"]) == (value, basis)


@pytest.mark.parametrize(("window", "reaches"), [(None, False), (1, False), (2, False), (5, True), (10, True)])
def test_cps_trains_no_step_without_noise(window: int | None, reaches: bool) -> None:
    """Its noise is sigma' sin(a pi / 2), and the last sigma' is 0. A window begins in the first half here."""
    changes = ["rollout.variant=cps", f"rollout.window={'null' if window is None else window}"]
    if reaches:
        with pytest.raises(UsageError, match="reach the last step, where cps has no noise"):
            recipes.load("flow-grpo-geneval", changes)
        return
    rollout = recipes.load("flow-grpo-geneval", changes).rollout
    levels = sigmas(FlowMatchEulerDiscreteScheduler(shift=3.0), rollout.steps)
    one = torch.zeros(1, 1, 1, 1)
    for seed in range(20):
        schedule = schedule_of(rollout, levels, np.random.default_rng(seed))
        assert all(float(schedule.step(one, one, step, noise=one).std) > 0 for step in schedule.trained)
    assert float(schedule.step(one, one, 9, noise=one).std) == 0


def test_cps_has_no_noise_beyond_the_schedules() -> None:
    with pytest.raises(UsageError, match="no noise_level above 1"):
        recipes.load("flow-grpo-geneval", ["rollout.variant=cps", "rollout.noise_level=1.5"])


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("star-geneval-mini", ["allocation.kind=time-averaged"], "time-averaged is star itself where one step"),
        ("star-geneval-mini", ["allocation.kind=joint"], "joint is star itself where one step"),
        ("star-geneval", ["allocation.kind=joint", "rollout.steps=2"], "joint is star itself where one step"),
        ("star-geneval", ["allocation.kind=shuffled", "allocation.mix=0"], "shuffled is all-ones itself"),
        (
            *("star-geneval", ["allocation.kind=all-ones", "objective.ratio=weighted-scalar"]),
            "all-ones is uniform itself",
        ),
    ],
)
def test_a_control_that_is_another_by_name_is_refused(name: str, changes: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        recipes.load(name, changes)


@pytest.mark.parametrize("kind", ["time-averaged", "joint"])
def test_where_several_steps_are_trained_they_are_controls(kind: str) -> None:
    for name in ("star-geneval", "star-ocr-mini"):
        recipes.load(name, [f"allocation.kind={kind}"])


@pytest.mark.parametrize(
    "change",
    [
        *("optimiser.learning_rate=0", "optimiser.betas=[0.9, 1]", "optimiser.betas=[-0.1, 0.9]", "ema.decay=1"),
        *("rollout.group_size=1", "rollout.window=0", "rollout.window=11", "rollout.window_to=50", "rollout.steps=1"),
        *("rollout.noise_level=0", "rollout.guidance_scale=-1", "advantage.clamp=0", "objective.clip_range=0"),
        *(
            "objective.kl=-0.1",
            "allocation.mix=1.5",
            "allocation.cap=1",
            "allocation.smoothing=-1",
            "allocation.blocks=[]",
        ),
        *("lora.rank=0", "epochs=0", "guards.reward_share=50", "seed=-1", f"seed={2**63}", f"evaluation.seed={2**63}"),
        *("rewards=[{suite: geneval, weight: 0}]", "allocation.blocks=[9, 9]", "allocation.blocks=[-1]"),
    ],
)
def test_numbers_out_of_range_are_refused(change: str) -> None:
    with pytest.raises(UsageError, match=change.partition("=")[0].split(".")[0]):
        recipes.load("star-geneval", [change])
