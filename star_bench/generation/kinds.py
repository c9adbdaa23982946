"""The pipelines that can be drawn with, told from a folder's configuration before its weights are loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from star_bench.catalogue.model_parts import INDEX
from star_bench.errors import Refused
from star_bench.files.json import read_config

DRAWN: Final = ("StableDiffusion3Pipeline", "StableDiffusionPipeline", "StableDiffusionXLPipeline")
"""diffusers' classes; what is made from one of them is one of them."""


def check_kind(*names: str) -> None:
    """names: of a pipeline's class, and of those that it is made from. Raises Refused."""
    if not set(names) & set(DRAWN):
        raise Refused(f"{names[0]} is not supported", f"use one of {', '.join(DRAWN)}")


def check_vae(config: Mapping[str, Any]) -> None:
    """Raises Refused for a VAE whose latents are not read as these pipelines read them."""
    if config.get("latents_mean") is not None:
        raise Refused("the VAE shifts its latents per channel, which is not supported", "use another checkpoint")


def check_kind_of(folder: Path) -> None:
    """Both checks of a pipeline's folder. Raises also what `read_config` raises."""
    check_kind(str(read_config(folder / INDEX).get("_class_name")))
    vae = folder / "vae" / "config.json"
    check_vae(read_config(vae) if vae.is_file() else {})
