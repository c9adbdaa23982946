"""Which kernels a denoiser runs on. The sums are the same, their rounding is not, so the choice is part of the protocol."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from star_bench.catalogue.protocol import KERNELS
from star_bench.errors import UsageError

BACKENDS = {
    "math": SDPBackend.MATH,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}


def check_kernels(kernels: str, *, device: str | None, dtype: str) -> None:
    """device: None where it is another machine's, which will say itself what it has.

    Raises UsageError for kernels that are unknown, or that the device doesn't have at that precision.
    """
    if kernels not in KERNELS:
        raise UsageError(f"there are no kernels {kernels!r}", f"choose one of {', '.join(KERNELS)}")
    if kernels not in BACKENDS or device is None:
        return
    probe = torch.ones(1, 1, 8, 64, device=device, dtype=getattr(torch, dtype))
    with suppress(RuntimeError), sdpa_kernel(BACKENDS[kernels]):
        scaled_dot_product_attention(probe, probe, probe)
        return
    raise UsageError(
        f"{device.split(':')[0]} has no {kernels} attention for {dtype}", "leave --kernels out, or choose others"
    )


def use_kernels(model: Any, kernels: str) -> Callable[[], AbstractContextManager[Any]]:
    """What the model is to be called within. "compiled" compiles it in place, at its first forward of each shape.

    Raises as `check_kernels` does.
    """
    check_kernels(kernels, device=str(model.device), dtype=str(model.dtype).removeprefix("torch."))
    if kernels == "compiled":
        model.compile()
    backend = BACKENDS.get(kernels)
    return nullcontext if backend is None else (lambda: sdpa_kernel(backend))
