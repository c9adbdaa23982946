"""Every setting that can change a pixel."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

KERNELS = ("default", "compiled", "math", "flash", "efficient", "cudnn")
"""What the denoiser runs on: torch's own choice, torch.compile, or one kind of scaled dot-product attention."""


@dataclass(frozen=True)
class Protocol:
    """How images are made. All of it enters the digest of pictures; batch size, order, sharding and how many images of a
    prompt there are can't change an image and are not here. Defaults come from the suite's card and the checkpoint, never
    from this class."""

    steps: int
    """Denoising steps of the ODE solver."""
    guidance_scale: float
    """Classifier-free guidance; 1.0 or less runs the conditional branch alone."""
    negative_prompt: str
    height: int
    """Pixels."""
    width: int
    """Pixels."""
    max_sequence_length: int
    """T5 tokens."""
    seed: int
    """Enters each image's noise: sha256(seed, prompt id, k)."""
    dtype: str
    """float32, float16 or bfloat16: what the transformer and the text encoders run in."""
    device: str
    """cpu, cuda or mps: kernels differ by more than batch sizes do."""
    scheduler: str = "checkpoint"
    """The sampler is the scheduler that the checkpoint ships."""
    kernels: str = "default"
    """One of KERNELS: all compute the same sums, and round them otherwise."""

    def as_dict(self) -> dict[str, Any]:
        """Without `kernels` where it is the default: digests of runs that were made before there was a choice stay."""
        settings = dataclasses.asdict(self)
        if self.kernels == "default":
            del settings["kernels"]
        return settings
