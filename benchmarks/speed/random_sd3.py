"""Rollout and update of one batch on an SD3 transformer with random weights: no text encoder, no VAE and no judge.

So what the allocation costs can be measured at SD3.5-Medium's size without its weights. Random are the embeddings and
the advantages, too; nothing is learned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from torch import Tensor, nn

from star_bench.evaluators.base import Prompt
from star_bench.generation.sampler import Embedding
from star_bench.training.allocation import AllocationSettings, Evidence, allocate
from star_bench.training.architecture import CLIP_TOKENS
from star_bench.training.attention import AttentionCapture
from star_bench.training.experience import Kept
from star_bench.training.policy import LoraPolicy
from star_bench.training.recipe import Recipe
from star_bench.training.rollout import Rollout, Trajectory, roll_out, schedule_of
from star_bench.training.sde import sigmas
from star_bench.training.update import Updater
from star_bench.training.velocity import Conditioning

SHIFT = 3.0  # of the schedule of SD3.5-Medium
T5_TOKENS = 128  # as Flow-GRPO: 205 text tokens in all
WORD = 4
"""Tokens that each of a prompt's two core words has in either part of the text (chosen here): 16 keys are captured."""


class RandomSD3:
    """A policy, and a batch of prompts that it is asked for."""

    def __init__(
        self, recipe: Recipe, config: Mapping[str, Any], latent_side: int, *, device: str, dtype: torch.dtype
    ) -> None:
        """recipe: all but the model and the rewards is taken from it. config: the transformer's."""
        self.recipe, self.device, self.side = recipe, device, latent_side
        torch.manual_seed(0)
        with torch.device(device):
            transformer = SD3Transformer2DModel.from_config(dict(config))
        nn.Module.to(transformer, dtype)  # its own method warns of modules to be left in float32, of which SD3 has none
        transformer.eval().requires_grad_(False)
        scheduler = FlowMatchEulerDiscreteScheduler(shift=SHIFT)
        absent = ("vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2", "text_encoder_3", "tokenizer_3")
        pipe = StableDiffusion3Pipeline(transformer=transformer, scheduler=scheduler, **dict.fromkeys(absent))
        if recipe.compute.gradient_checkpointing:
            transformer.enable_gradient_checkpointing()
        if recipe.compute.compile:
            transformer.compile()

        def embedding() -> Embedding:
            tokens = torch.randn(1, CLIP_TOKENS + T5_TOKENS, transformer.config.joint_attention_dim)
            pooled = torch.randn(1, transformer.config.pooled_projection_dim)
            return Embedding(tokens.to(device, dtype), pooled.to(device, dtype))

        guidance = recipe.rollout.guidance_scale
        lora = recipe.lora
        assert lora is not None, "the recipe trains all weights"
        self.policy = LoraPolicy(
            pipe, rank=lora.rank, alpha=lora.alpha, seed=recipe.seed, guidance_scale=guidance, against=embedding()
        )
        self.prompts = [Prompt(str(i), f"prompt {i}", "", {}) for i in range(recipe.rollout.batch_size)]
        self.embeddings = {prompt.text: embedding() for prompt in self.prompts}
        self.schedule = schedule_of(recipe.rollout, sigmas(scheduler, recipe.rollout.steps))
        clip = list(range(1, 1 + 2 * WORD))
        self.positions = torch.tensor([clip + [CLIP_TOKENS + place for place in clip]] * len(self.prompts))
        self.words = [[*range(at, at + WORD), *range(at + 2 * WORD, at + 3 * WORD)] for at in (0, WORD)]
        self.optimiser = torch.optim.AdamW(self.policy.parameters, lr=0.0)
        self.accelerator = Accelerator(cpu=device == "cpu")

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        return self.policy.transformer.config.in_channels, self.side, self.side

    def encode(self, texts: Sequence[str]) -> Conditioning:
        return Conditioning.of([self.embeddings[text] for text in texts])

    @torch.no_grad()
    def forward(self, capture: AttentionCapture | None) -> None:
        """One, of the whole batch at the noisiest step, recorded with a capture."""
        count = len(self.prompts)
        x = torch.zeros(count, *self.latent_shape, device=self.device)
        recording: AbstractContextManager[object] = nullcontext()
        if capture is not None:
            tokens, rows = self.policy.image_tokens(self.latent_shape), self.policy.conditional_rows(count)
            recording = capture.recording(self.positions, tokens, rows)
        with recording:
            self.policy.velocity(x, torch.ones(count), self.encode([prompt.text for prompt in self.prompts]))

    def collect(self, kind: str) -> tuple[list[Rollout], Trajectory, Tensor]:
        """The batch's rollouts and their weights (T, B, H, W), as the allocation kind "star" or "uniform" has them."""
        rollouts = [Rollout(prompt, group, 0) for group, prompt in enumerate(self.prompts)]
        asked = self.recipe.allocation
        settings = AllocationSettings(kind, asked.mix, asked.cap, asked.smoothing)
        capture = AttentionCapture(self.policy.transformer, asked.blocks) if settings.needs_attention else None
        try:
            path = roll_out(
                self.policy,
                self.schedule,
                self.encode([prompt.text for prompt in self.prompts]),
                rollouts,
                self.latent_shape,
                seed=0,
                capture=capture,
                positions=None if capture is None else self.positions,
            )
        finally:
            if capture is not None:
                capture.remove()
        steps, count, height, width = path.log_prob.shape
        evidence = Evidence(
            shape=(steps, count, height, width),
            patch_size=self.policy.transformer.config.patch_size,
            attention=path.attention,
            words=[self.words] * len(rollouts),
            device=path.log_prob.device,
        )
        return rollouts, path, allocate(settings, evidence).weights

    def update(self, kind: str, rollouts: Sequence[Rollout], path: Trajectory, weights: Tensor) -> None:
        """One optimiser step on all of them."""
        kept = [
            Kept(one, i, path.latents[:, i].clone(), path.log_prob[:, i].clone(), weights[:, i].clone(), None)
            for i, one in enumerate(rollouts)
        ]
        updater = Updater(
            self.policy,
            self.optimiser,
            self.accelerator,
            objective=self.recipe.objective,
            ratio="scalar" if kind == "uniform" else self.recipe.objective.ratio,
            guards=self.recipe.guards,
            max_grad_norm=self.recipe.optimiser.max_grad_norm,
            batch_size=len(rollouts),
            encode=self.encode,
            latent_shape=self.latent_shape,
        )
        advantages = torch.tensor([1.0, -1.0]).repeat(len(kept))[: len(kept)]
        updater.step(self.schedule, kept, advantages, total=len(kept))
