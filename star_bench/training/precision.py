"""Which precision a training's forwards run in."""

from __future__ import annotations

from typing import Any

import torch

from star_bench.catalogue.checkpoints import Checkpoint
from star_bench.runs.run import choose_dtype
from star_bench.training.recipe import Recipe

MULTIPLIES_BFLOAT16 = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")
"""What torch calls a CPU's instructions that multiply bfloat16: x86's two, Arm's two."""


def choose_precision(asked: str, checkpoint: Checkpoint, device: str) -> str:
    """The torch name of it: float32, float16 or bfloat16.

    asked: ComputeSettings.precision. device: cpu, cuda or mps. A CUDA device that is not at hand, as in an estimate, is
    taken to multiply bfloat16: all do from compute capability 8.0 (Ampere, 2020) on.
    """
    if asked == "auto":
        return "bfloat16" if _multiplies_bfloat16(device) else "float32"
    return choose_dtype("auto" if asked == "checkpoint" else asked, checkpoint, device)


def with_precision(recipe: Recipe, checkpoint: Checkpoint, device: str) -> Recipe:
    """The recipe with the precision that it comes to on that kind of device, so that what is recorded says it."""
    precision = choose_precision(recipe.compute.precision, checkpoint, device)
    return recipe.model_copy(update={"compute": recipe.compute.model_copy(update={"precision": precision})})


def _multiplies_bfloat16(device: str) -> bool:
    if device == "cuda":
        return not torch.cuda.is_available() or torch.cuda.is_bf16_supported(including_emulation=False)
    # torch before 2.10 doesn't say what the CPU has; float32 is right there, if perhaps slower.
    known: Any = getattr(torch.cpu, "get_capabilities", dict)()
    return device == "cpu" and any(known.get(name, False) for name in MULTIPLIES_BFLOAT16)
