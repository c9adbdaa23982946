"""The miniature's attention finds drawn objects, later in the noise better than earlier."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.attention_processor import JointAttnProcessor2_0

from star_bench.catalogue.protocol import GenerationSettings
from star_bench.errors import UsageError
from star_bench.miniature.localisation import TAGS, Localisation, held_out_scenes, localise
from star_bench.miniature.scenes import SMALL
from star_bench.training.allocation import AllocationSettings
from star_bench.training.masks import Loaded, load_policy

SIGMAS = torch.tensor([1.0, 0.5])


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    return load_policy("miniature", GenerationSettings(guidance_scale=1.0), device="cpu")


def found(loaded: Loaded, *groups: tuple[int, ...]) -> list[Localisation]:
    scenes = held_out_scenes(SMALL, 4, seed=0)
    settings = AllocationSettings("star")
    return localise(loaded.policy, loaded.sampler, scenes, SIGMAS, settings=settings, seed=0, groups=groups)


def test_scenes_name_each_object_once() -> None:
    scenes = held_out_scenes(SMALL, 2, seed=0)
    assert [scene.metadata["tag"] for scene in scenes] == [tag for tag in TAGS for _ in range(2)]
    for scene in scenes:
        names = [thing.name for thing in scene.objects]
        assert len(set(names)) == len(names)
        assert all(name in scene.caption for name in names)


def test_every_block_and_part_is_measured(loaded: Loaded) -> None:
    groups = [(0,), (1,), (2,), (3,), (4,), (0, 1, 2, 3, 4)]
    rows = [(each.blocks, each.part, each.subject) for each in found(loaded)]
    assert rows == [
        (group, part, subject)
        for group in groups
        for part in ("clip", "t5", "both")
        for subject in ("object", "prompt")
    ]
    for block in loaded.policy.transformer.transformer_blocks:
        assert type(block.attn.processor) is JointAttnProcessor2_0


def test_objects_are_found_where_they_are(loaded: Loaded) -> None:
    """4 % and 8 % are the chances."""
    by_part = {each.part: each.overlap for each in found(loaded, (0, 1, 4)) if each.subject == "object"}
    clip, t5 = by_part["clip"], by_part["t5"]
    assert clip.rollouts == 4 + 3 * 8
    assert clip.iou[1] > 0.25
    assert clip.pointing[1] > 0.4
    assert clip.iou[1] > 2 * clip.iou[0]  # from noise alone nothing can be found
    assert t5.iou[1] < clip.iou[1] / 2  # the miniature's T5 says little of places


def test_a_block_that_is_not_there_is_named(loaded: Loaded) -> None:
    with pytest.raises(UsageError, match="no block 9"):
        found(loaded, (1, 9))
