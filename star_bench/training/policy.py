"""The policy: SD3's velocity field with a LoRA to be trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import StableDiffusion3Pipeline
from peft import LoraConfig
from torch import nn

from star_bench.errors import Refused
from star_bench.generation.pipeline import ADAPTER
from star_bench.generation.sampler import Embedding
from star_bench.training.velocity import GuidedVelocity

LORA_TARGETS = tuple(
    f"attn.{layer}"
    for layer in ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
)
"""Flow-GRPO's: 191 modules of SD3.5-Medium. The image-only attn2 is left alone."""


class Policy(GuidedVelocity):
    """The frozen transformer in its own precision, and a trainable float32 LoRA on its joint attention.

    The same code gives the behaviour policy's velocity in a rollout, the current policy's in an update, and, with the
    LoRA off, the reference's.
    """

    def __init__(
        self, pipe: Any, *, rank: int, alpha: int, seed: int, guidance_scale: float, against: Embedding
    ) -> None:
        """against: the negative prompt. Raises Refused for a pipeline that is not SD3's, or that has a LoRA already."""
        if not isinstance(pipe, StableDiffusion3Pipeline):
            raise Refused(f"{type(pipe).__name__} can't be trained", "name a Stable Diffusion 3 or 3.5 checkpoint")
        super().__init__(pipe.transformer, guidance_scale=guidance_scale, against=against)
        if getattr(self.transformer, "peft_config", None):
            raise Refused("the model has a LoRA already", "train from its base")
        config = LoraConfig(r=rank, lora_alpha=alpha, init_lora_weights="gaussian", target_modules=list(LORA_TARGETS))
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.transformer.add_adapter(config, adapter_name=ADAPTER)
        self.config = config
        for parameter in self.parameters:
            parameter.data = parameter.data.float()

    @property
    def named_parameters(self) -> dict[str, nn.Parameter]:
        """The LoRA's."""
        return {name: p for name, p in self.transformer.named_parameters() if p.requires_grad}

    @property
    def parameters(self) -> list[nn.Parameter]:
        return list(self.named_parameters.values())

    @contextmanager
    def reference(self) -> Iterator[None]:
        """Within, the LoRA is off and nothing is differentiated: the policy as it was before training."""
        self.transformer.disable_adapters()
        try:
            with torch.no_grad():
                yield
        finally:
            self.transformer.enable_adapters()
