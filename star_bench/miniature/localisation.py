"""Where text-image attention looks, on drawn scenes whose objects' masks are known: which block finds what a prompt
names, by which part of the text, and from which noise level on.

A true scene is noised as in training, x = (1 - sigma) x0 + sigma eps, so that at every level the model is shown objects
at known places; of pictures that it draws itself only a judge can say where their objects are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from star_bench.errors import UsageError
from star_bench.evaluators.base import Prompt
from star_bench.generation.noise import latent_noise
from star_bench.generation.sampler import Sampler
from star_bench.miniature.accuracy import HELD_OUT
from star_bench.miniature.scenes import KINDS, Scene, World, random_scene
from star_bench.miniature.vae import to_pixels
from star_bench.reporting.masks.sheet import COMBINED, MaskRow, MaskSheet, Overlap, overlap
from star_bench.training.allocation import AllocationSettings, Evidence, allocate
from star_bench.training.attention import AttentionCapture
from star_bench.training.token_positions import TokenPositions
from star_bench.training.velocity import Conditioning, GuidedVelocity
from star_bench.training.words import CoreTokens, Part

TAGS = ("colors", "two_object", "color_attr", "position")
"""Kinds of scenes in which a class word names one object (chosen here)."""
BATCH = 64  # chosen here

Subject = Literal["object", "prompt"]
"""object: the map of an object's class word against that object. prompt: the map that a training would use, of all core
words, against all objects."""


@dataclass(frozen=True)
class Localisation:
    """How the maps of some blocks, by one part of the text, meet true masks; the overlap has an entry per noise level."""

    blocks: tuple[int, ...]
    part: Part
    subject: Subject
    overlap: Overlap


def held_out_scenes(world: World, count: int, *, seed: int) -> list[Scene]:
    """`count` scenes of each of TAGS that no training saw; their captions are GenEval's."""
    out = []
    for tag in TAGS:
        rng = np.random.default_rng([HELD_OUT, seed, 303, KINDS.index(tag)])
        out += [random_scene(world, rng, tag) for _ in range(count)]
    return out


def localise(
    policy: GuidedVelocity,
    sampler: Sampler,
    scenes: Sequence[Scene],
    sigmas: Tensor,
    *,
    settings: AllocationSettings,
    seed: int,
    groups: Sequence[tuple[int, ...]] = (),
) -> list[Localisation]:
    """Groups of joint blocks, by CLIP's tokens, T5's and both.

    policy: of the miniature, or of a LoRA on it. scenes: of TAGS. sigmas: (T,), the noise levels. settings: of the maps;
    their kind must be one of attention to words. seed: of the noise, which a scene keeps at every level. groups: blocks
    whose mean is taken; by default each alone, and then all. Raises UsageError for a block that isn't there.
    """
    every = tuple(range(len(policy.transformer.transformer_blocks)))
    if missing := {block for group in groups for block in group} - set(every):
        raise UsageError(f"the transformer has no block {min(missing)}", f"choose from 0 to {every[-1]}")
    prompts = [Prompt(str(i), scene.caption, scene.metadata["tag"], scene.metadata) for i, scene in enumerate(scenes)]
    core = CoreTokens(
        TokenPositions(sampler.pipe, sampler.protocol.max_sequence_length), part="both", every_token=False
    )
    attention = _attention(policy, sampler, scenes, prompts, core, sigmas, seed)
    patch_size = policy.transformer.config.patch_size

    def maps(of: Tensor, words: Sequence[Sequence[Sequence[int]]]) -> np.ndarray:
        """(B, T, H, W). of: (T, B, N, S)."""
        shape = (len(sigmas), len(words), *sampler.latent_shape[1:])
        evidence = Evidence(shape=shape, patch_size=patch_size, attention=of, words=words)
        return allocate(settings, evidence).weights.transpose(0, 1).numpy()

    objects = [(i, thing) for i, scene in enumerate(scenes) for thing in scene.objects]
    owners = [i for i, _ in objects]
    out = []
    for blocks in groups or [*((block,) for block in every), every]:
        of_blocks = attention[list(blocks)].mean(0)
        for part in get_args(Part):
            words = [_columns(core, prompt, part, sampler.pipe.tokenizer_max_length) for prompt in prompts]
            of_prompts = maps(of_blocks, [list(columns.values()) for columns in words])
            of_objects = maps(of_blocks[:, owners], [[words[i][thing.name]] for i, thing in objects])
            unions = [np.any([thing.mask for thing in scene.objects], axis=0) for scene in scenes]
            rows = [MaskRow(s.image, {COMBINED: m}, u) for s, m, u in zip(scenes, of_prompts, unions, strict=True)]
            own = [
                MaskRow(scenes[i].image, {COMBINED: m}, thing.mask)
                for (i, thing), m in zip(objects, of_objects, strict=True)
            ]
            out += [
                Localisation(blocks, part, "object", _overlap(own, sigmas)),
                Localisation(blocks, part, "prompt", _overlap(rows, sigmas)),
            ]
    return out


@torch.no_grad()
def _attention(
    policy: GuidedVelocity,
    sampler: Sampler,
    scenes: Sequence[Scene],
    prompts: Sequence[Prompt],
    core: CoreTokens,
    sigmas: Tensor,
    seed: int,
) -> Tensor:
    """(blocks, T, B, N, S) on the CPU: of all blocks, at every noise level of every scene."""
    positions = core.positions(prompts)
    asked = Conditioning.of(sampler.encode([prompt.text for prompt in prompts]))
    clean = _latents(sampler, scenes)
    noise = torch.stack([latent_noise(seed, prompt.id, 0, sampler.latent_shape) for prompt in prompts]).to(clean)
    capture = AttentionCapture(policy.transformer, range(len(policy.transformer.transformer_blocks)))
    try:
        levels = []
        for sigma in sigmas.tolist():
            batches = []
            for rows in torch.arange(len(scenes)).split(BATCH):
                x = (1 - sigma) * clean[rows] + sigma * noise[rows]
                image_tokens, place = policy.image_tokens(sampler.latent_shape), policy.conditional_rows(len(rows))
                with capture.recording(positions[rows], image_tokens, place) as seen:
                    policy.velocity(
                        x, torch.full((len(rows),), sigma), Conditioning(asked.tokens[rows], asked.pooled[rows])
                    )
                batches.append(seen.cpu())
            levels.append(torch.cat(batches, 1))
    finally:
        capture.remove()
    return torch.stack(levels, 1)


def _latents(sampler: Sampler, scenes: Sequence[Scene]) -> Tensor:
    """(B, C, H, W) float32, the scenes as the generator was trained on them."""
    vae = sampler.pipe.vae
    pixels = to_pixels([scene.image for scene in scenes]).to(vae.device)
    modes = torch.cat([vae.encode(part).latent_dist.mode() for part in pixels.split(BATCH)])
    return (modes.float() - vae.config.shift_factor) * vae.config.scaling_factor


def _columns(core: CoreTokens, prompt: Prompt, part: Part, clip_length: int) -> dict[str, list[int]]:
    """The columns of each word's tokens in one part of the text."""
    located = core.locate(prompt)
    return {
        word: [
            column
            for column, position in zip(columns, positions, strict=True)
            if part == "both" or (position < clip_length) == (part == "clip")
        ]
        for word, columns, positions in zip(located.words, core.columns(prompt), located.positions, strict=True)
    }


def _overlap(rows: list[MaskRow], sigmas: Tensor) -> Overlap:
    found = overlap(MaskSheet("", sigmas.tolist(), rows))
    assert found is not None  # every scene shows an object
    return found
