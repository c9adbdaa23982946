"""How pictures are made: every setting that can change a pixel, and the protocols that have a name."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field

from star_bench.catalogue.cards import Strict, did_you_mean, load_yaml, parse
from star_bench.catalogue.shipped import PROTOCOLS_FOLDER
from star_bench.errors import UsageError

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


class GenerationSettings(Strict):
    """What the command line, a named protocol or a checkpoint says of a `Protocol`; what one leaves open, the next fills."""

    steps: int | None = Field(default=None, ge=1)
    guidance_scale: float | None = Field(default=None, ge=0)
    negative_prompt: str | None = None
    height: int | None = Field(default=None, ge=8)
    width: int | None = Field(default=None, ge=8)
    max_sequence_length: int | None = Field(default=None, ge=1)


UNSAID = GenerationSettings()
MODEL = "model"
"""The protocol that says nothing: every setting is the model's own."""


class NamedProtocol(Strict):
    """benchmarks/protocols/<name>.yaml. Settings that it leaves open are the model's own."""

    what: str
    source: str
    settings: GenerationSettings


def protocol_names() -> list[str]:
    return [MODEL, *sorted(path.stem for path in PROTOCOLS_FOLDER.glob("*.yaml"))]


@cache
def named(name: str) -> NamedProtocol | None:
    """One that comes with the package; None for another word."""
    path = PROTOCOLS_FOLDER / f"{name}.yaml"
    return parse(NamedProtocol, load_yaml(path), str(path)) if name in protocol_names() and name != MODEL else None


def settings_of(protocol: str) -> GenerationSettings:
    """Of a protocol by its name, or by the path of a YAML file with the same keys. Raises UsageError."""
    if protocol == MODEL:
        return UNSAID
    if found := named(protocol):
        return found.settings
    path = Path(protocol)
    if path.suffix not in (".yaml", ".yml"):
        remedy = f"{did_you_mean(protocol, protocol_names())}, or give a .yaml file"
        raise UsageError(f"there is no protocol named {protocol!r}", remedy)
    return parse(GenerationSettings, load_yaml(path), str(path))


def differences(stated: GenerationSettings, measured: Mapping[str, Any]) -> list[str]:
    """What was measured with otherwise than stated, in words: "steps 40, here 4"."""
    said = stated.model_dump(exclude_none=True)
    return [
        f"{name} {said[name]}, here {measured[name]}" for name in said if measured.get(name) not in (said[name], None)
    ]
