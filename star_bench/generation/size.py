"""The picture sizes that a model can draw, from its configuration: told before its weights are loaded."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from star_bench.errors import UsageError
from star_bench.files.json import read_config


def check_size(height: int, width: int, *, unit: int, largest: float) -> None:
    """Raises UsageError for a size, in pixels, that is no multiple of unit or larger than the model can place."""
    if height % unit or width % unit:
        raise UsageError(f"{height} x {width} pixels do not fit this model", f"use multiples of {unit}")
    if max(height, width) > largest:
        raise UsageError(
            f"{height} x {width} pixels are more than this model can place ({largest} at most)",
            "give --protocol model, or another --size",
        )


def check_size_of(folder: Path, height: int, width: int) -> None:
    """`check_size` of a pipeline's folder. Raises also what `read_config` raises."""
    vae, denoiser = (_config(folder, *names) for names in (("vae",), ("transformer", "unet")))
    scale = 2 ** (len(vae.get("block_out_channels", ())) - 1) if vae else 1
    unit = scale * denoiser.get("patch_size", 1)
    check_size(height, width, unit=unit, largest=unit * (denoiser.get("pos_embed_max_size") or math.inf))


def _config(folder: Path, *parts: str) -> dict[str, Any]:
    """Of the first of the parts that is there; {} of none, which loading the model will tell."""
    found = next((folder / part / "config.json" for part in parts if (folder / part / "config.json").is_file()), None)
    return dict(read_config(found)) if found else {}
