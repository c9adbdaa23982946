"""The miniature of signs: the shipped generator, taught signs for longer, and then to leave half of them empty.

The generator knows a word's letters and hardly their order: CLIP sees "unknown", and T5 has no positions. Here CLIP spells,
and has a position for each letter. It learns part of the order. The empty signs are what reinforcement learning can mend:
a model that knows more than it shows, as large ones do.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusion3Pipeline

from star_bench.miniature import generator
from star_bench.miniature.fit import Recipe
from star_bench.miniature.generator import Draw, Generator
from star_bench.miniature.scenes import WORD_TAG, Scene, World, blank_sign


@dataclass(frozen=True)
class Stage:
    """signs: share of signs among the scenes, the other kinds in the generator's own proportion. empty: share of signs that
    show nothing, whatever their caption says.
    """

    name: str
    recipe: Recipe
    signs: float
    empty: float
    seed: int


STAGES = (
    Stage("letters", Recipe(steps=3000, batch=32, adam_lr=1e-3, muon_lr=0.012, decay=0.5), 0.58, 0.0, 21),
    Stage("order", Recipe(steps=2600, batch=32, adam_lr=1.125e-3, muon_lr=0.015), 0.70, 0.0, 22),
    Stage("empty", Recipe(steps=500, batch=32, adam_lr=5.25e-4, muon_lr=0.007, decay=0.5), 0.70, 0.5, 33),
)
"""Chosen here; about 55 minutes on one core. The second stage brought little over the first: right letters by place went
from 42, 49, 29, 48 % to 42, 48, 32, 47 % (14 steps, guidance 4; chance is 27 %).
"""


def mix(signs: float) -> dict[str, float]:
    """Kind of scene -> share."""
    others = {kind: share for kind, share in generator.MIX.items() if kind != WORD_TAG}
    return {kind: (1 - signs) * share / sum(others.values()) for kind, share in others.items()} | {WORD_TAG: signs}


def drawing(empty: float) -> Draw:
    """Scenes as the generator's, but for that share of empty signs."""

    def draw(world: World, rng: np.random.Generator, kind: str) -> Scene:
        scene = generator.draw(world, rng, kind)
        return blank_sign(scene) if kind == WORD_TAG and rng.random() < empty else scene

    return draw


def spelling(pipeline: StableDiffusion3Pipeline) -> Generator:
    """The shipped generator with capitals in CLIP, which begin as the unknown word, and room for longer captions."""
    model = Generator(spells=True)
    for name in ("transformer", "text_encoder_3"):
        getattr(model, name).load_state_dict(getattr(pipeline, name).state_dict())
    for name in ("text_encoder", "text_encoder_2"):
        grown = getattr(model, name).state_dict()
        for key, old in getattr(pipeline, name).state_dict().items():
            if grown[key].shape == old.shape:
                grown[key] = old
            elif "token_embedding" in key:
                unknown = old[model.clip_tokenizer.unk_token_id]
                grown[key] = torch.cat([old, grown[key][len(old) :] + unknown])
            else:
                grown[key] = torch.cat([old, grown[key][len(old) :]])
        getattr(model, name).load_state_dict(grown)
    return model


def train(
    world: World, pipeline: Path, folder: Path, *, seed: int, device: torch.device
) -> tuple[Generator, AutoencoderKL]:
    """All stages, each where it was left off, from the generator's folder `pipeline`; with the VAE that it shares.

    seed: added to the stages' own.
    """
    start = StableDiffusion3Pipeline.from_pretrained(pipeline, dtype=torch.float32)
    torch.manual_seed(STAGES[0].seed + seed)
    model = spelling(start)
    for stage in STAGES:
        generator.teach(
            model,
            world,
            start.vae,
            folder,
            f"signs-{stage.name}",
            stage.recipe,
            mix(stage.signs),
            drawing(stage.empty),
            seed=stage.seed + seed,
            device=device,
        )
    return model, start.vae
