"""The actor: a pipeline with the policy on it, and all that rolling it out takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from star_bench.assets.model_files import LocalCheckpoint
from star_bench.catalogue.checkpoints import Checkpoint
from star_bench.catalogue.protocol import GenerationSettings
from star_bench.evaluators.base import Prompt
from star_bench.generation.pipeline import load, load_tokenizers
from star_bench.generation.sampler import Sampler
from star_bench.runs.plan import merge_protocol
from star_bench.training.allocation import AllocationSettings
from star_bench.training.attention import AttentionCapture
from star_bench.training.policy import FullPolicy, LoraPolicy, Policy
from star_bench.training.precision import choose_precision
from star_bench.training.recipe import Recipe
from star_bench.training.rollout import Schedule, schedule_of
from star_bench.training.sde import sigmas
from star_bench.training.token_positions import TokenPositions
from star_bench.training.velocity import Conditioning
from star_bench.training.words import CoreTokens


class Actor:
    """capture and core are there where the allocation needs attention, else None."""

    def __init__(
        self,
        recipe: Recipe,
        checkpoint: Checkpoint,
        local: LocalCheckpoint,
        *,
        device: str,
        prompts: Sequence[Prompt] = (),
    ) -> None:
        """Loads the pipeline and makes the policy of it. prompts: all that can be asked, whose core words are found with
        the tokenizers alone, before any weights are loaded.

        Raises what loading raises, and UsageError for a block that is not there, a text encoder whose tokens can't be
        placed, and a prompt that does not say what its metadata ask for.
        """
        self.recipe, self.device = recipe, device
        kind = device.split(":")[0]
        self.dtype = choose_precision(recipe.compute.precision, checkpoint, kind)
        rollout, asked = recipe.rollout, recipe.allocation
        # The checkpoint's size and text length, the recipe's steps and guidance.
        self.protocol = merge_protocol(
            GenerationSettings(steps=rollout.steps, guidance_scale=rollout.guidance_scale),
            checkpoint.generation,
            seed=recipe.seed,
            dtype=self.dtype,
            device=kind,
            where=checkpoint.name,
        )
        self.allocation = AllocationSettings.of(asked)
        self.core: CoreTokens | None = None
        if self.allocation.needs_attention:
            tokens = TokenPositions(load_tokenizers(local), self.protocol.max_sequence_length)
            self.core = CoreTokens(tokens, part=asked.tokens, every_token=self.allocation.every_token)
            for prompt in prompts:
                self.core.locate(prompt)
        self.pipe: Any = load(local, dtype=self.dtype, device=device)
        self.sampler = Sampler(self.pipe, self.protocol, cached_prompts=recipe.compute.cached_prompts)
        with self.text_encoders():
            against = self.sampler.encode([self.protocol.negative_prompt])[0]
        self.policy: Policy
        guided: dict[str, Any] = {"guidance_scale": rollout.guidance_scale, "against": against}
        if recipe.lora is None:
            self.policy = FullPolicy(self.pipe, dtype=self.dtype, device=device, **guided)
        else:
            lora = recipe.lora
            self.policy = LoraPolicy(self.pipe, rank=lora.rank, alpha=lora.alpha, seed=recipe.seed, **guided)
        self.capture: AttentionCapture | None = None
        if self.allocation.needs_attention:
            self.capture = AttentionCapture(self.policy.transformer, asked.blocks)
        if recipe.compute.gradient_checkpointing:
            self.policy.transformer.enable_gradient_checkpointing()
        if recipe.compute.compile:
            self.policy.transformer.compile()
        self._sigmas = sigmas(self.pipe.scheduler, rollout.steps)

    def without_core(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """Those of which the model reads no core word, so that their map starts from all tokens, or is ones."""
        return [] if self.core is None else [prompt for prompt in prompts if not self.core.locate(prompt).is_core]

    def without_words(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """Those of which the model reads no token, so that their map is ones."""
        return [] if self.core is None else [prompt for prompt in prompts if not self.core.locate(prompt).words]

    @contextmanager
    def text_encoders(self) -> Iterator[None]:
        """Within, prompts can be encoded; outside, the text encoders may wait in main memory."""
        if not self.recipe.compute.offload_text_encoders:
            yield
            return
        encoders = [e for e in (self.pipe.text_encoder, self.pipe.text_encoder_2, self.pipe.text_encoder_3) if e]
        for encoder in encoders:
            encoder.to(self.device)
        try:
            yield
        finally:
            for encoder in encoders:
                encoder.to("cpu")
            if self.device.startswith("cuda"):
                torch.cuda.empty_cache()

    def encode(self, texts: Sequence[str]) -> Conditioning:
        """Of prompts that are in the cache, as an epoch's are, or within `text_encoders`."""
        return Conditioning.of(self.sampler.encode(texts))

    def schedule(self, epoch: int) -> Schedule:
        """Which of an epoch's steps are trained is a function of seed and epoch."""
        return schedule_of(self.recipe.rollout, self._sigmas, np.random.default_rng([self.recipe.seed, epoch, 1]))
