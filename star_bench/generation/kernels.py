"""Which kernels a denoiser runs on. The sums are the same, their rounding is not, so the choice is part of the protocol."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from star_bench.errors import UsageError
from star_bench.protocol import KERNELS

BACKENDS = {
    "math": SDPBackend.MATH,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}


def use_kernels(model: Any, kernels: str) -> Callable[[], AbstractContextManager[Any]]:
    """What the model is to be called within. "compiled" compiles it in place, at its first forward of each shape.

    Raises UsageError for kernels that are unknown, or that the model's device or precision doesn't have.
    """
    if kernels == "default":
        return nullcontext
    if kernels == "compiled":
        model.compile()
        return nullcontext
    if kernels not in BACKENDS:
        raise UsageError(f"there are no kernels {kernels!r}", f"choose one of {', '.join(KERNELS)}")
    backend = BACKENDS[kernels]
    probe = torch.ones(1, 1, 8, 64, device=model.device, dtype=model.dtype)
    with suppress(RuntimeError), sdpa_kernel(backend):
        scaled_dot_product_attention(probe, probe, probe)
        return lambda: sdpa_kernel(backend)
    raise UsageError(
        f"{model.device.type} has no {kernels} attention for {str(model.dtype).removeprefix('torch.')}",
        "leave --kernels out, or choose others",
    )
