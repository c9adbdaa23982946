"""The seed scheme: an image's noise depends on (seed, prompt id, k) and on nothing else.

Not on batch size, order, shard, engine or device. Changing this file changes every stored image.
"""

from __future__ import annotations

import hashlib
import json

import torch


def noise_seed(seed: int, prompt_id: str, k: int) -> int:
    """The first 8 bytes of sha256 of the JSON list [seed, prompt id, k], as 63 bits.

    JSON, because quoting keeps ("1", 23) and ("12", 3) apart; 63 bits, because torch takes a signed 64-bit seed.
    """
    text = json.dumps([int(seed), str(prompt_id), int(k)], separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") & (2**63 - 1)


def image_generator(seed: int, prompt_id: str, k: int) -> torch.Generator:
    """The CPU generator of image k of a prompt. On the CPU, so that every device gets the same noise."""
    return torch.Generator("cpu").manual_seed(noise_seed(seed, prompt_id, k))


def latent_noise(seed: int, prompt_id: str, k: int, shape: tuple[int, ...]) -> torch.Tensor:
    """Standard normal noise of `shape`, usually (C, H, W): float32, on the CPU."""
    return torch.randn(shape, generator=image_generator(seed, prompt_id, k), dtype=torch.float32)
