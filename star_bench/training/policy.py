"""The policy: SD3's velocity field with what is trained of it, a LoRA or all of its weights."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar

import torch
from diffusers import StableDiffusion3Pipeline
from peft import LoraConfig
from torch import Tensor, nn

from star_bench.errors import Refused, UsageError
from star_bench.generation.lora import NAME as ADAPTER
from star_bench.generation.pipeline import DTYPES
from star_bench.generation.sampler import Embedding
from star_bench.training.sharding import shard
from star_bench.training.velocity import GuidedVelocity

LORA_TARGETS = tuple(
    f"attn.{layer}"
    for layer in ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
)
"""Flow-GRPO's: 191 modules of SD3.5-Medium. The image-only attn2 is left alone."""


class Policy(GuidedVelocity, ABC):
    """What is trained, in float32.

    The same code gives the behaviour policy's velocity in a rollout, the current policy's in an update, and, within
    `reference`, the velocity before training.
    """

    trained: ClassVar[str]
    """What of the transformer is trained, in a word: the name of its tensors in a saved state."""
    is_sharded: ClassVar[bool]
    """Whether parameters are spread over processes, which then must run the same number of forwards."""

    def __init__(self, pipe: Any, *, guidance_scale: float, against: Embedding) -> None:
        """against: the negative prompt. Raises Refused for a pipeline that is not SD3's, or that has a LoRA already."""
        if not isinstance(pipe, StableDiffusion3Pipeline):
            raise Refused(f"{type(pipe).__name__} can't be trained", "name a Stable Diffusion 3 or 3.5 checkpoint")
        super().__init__(pipe.transformer, guidance_scale=guidance_scale, against=against)
        if getattr(self.transformer, "peft_config", None):
            raise Refused("the model has a LoRA already", "train from its base")

    @property
    def named_parameters(self) -> dict[str, nn.Parameter]:
        """Those that are trained."""
        return {name: p for name, p in self.transformer.named_parameters() if p.requires_grad}

    @property
    def parameters(self) -> list[nn.Parameter]:
        return list(self.named_parameters.values())

    @abstractmethod
    def reference(self) -> AbstractContextManager[None]:
        """Within, velocities are those before training, and nothing is differentiated."""

    @abstractmethod
    def published(self, weights: Mapping[str, Tensor]) -> AbstractContextManager[None]:
        """Within, the pipeline draws with these weights, whole tensors by the names of the parameters."""


class LoraPolicy(Policy):
    """The frozen transformer in its own precision, and a trainable LoRA on its joint attention, whole in every process."""

    trained = "lora"
    is_sharded = False

    def __init__(
        self, pipe: Any, *, rank: int, alpha: int, seed: int, guidance_scale: float, against: Embedding
    ) -> None:
        super().__init__(pipe, guidance_scale=guidance_scale, against=against)
        config = LoraConfig(r=rank, lora_alpha=alpha, init_lora_weights="gaussian", target_modules=list(LORA_TARGETS))
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.transformer.add_adapter(config, adapter_name=ADAPTER)
        self.config = config
        for parameter in self.parameters:
            parameter.data = parameter.data.float()

    @contextmanager
    def reference(self) -> Iterator[None]:
        self.transformer.disable_adapters()
        try:
            with torch.no_grad():
                yield
        finally:
            self.transformer.enable_adapters()

    def published(self, weights: Mapping[str, Tensor]) -> AbstractContextManager[None]:
        return replaced(self.named_parameters, weights)


def refuse_float16(dtype: str) -> None:
    """Raises UsageError: the gradients of sharded weights would need a scaler that sees all shards."""
    if dtype == "float16":
        raise UsageError("all weights can't be trained in float16", "give --set compute.precision=bfloat16, or float32")


class FullPolicy(Policy):
    """All weights in float32, spread over the processes, and beside them the pipeline's own transformer, whole and frozen in
    its own precision: the reference, and what draws with published weights."""

    trained = "transformer"
    is_sharded = True

    def __init__(self, pipe: Any, *, dtype: str, device: str, guidance_scale: float, against: Embedding) -> None:
        """dtype: that forwards compute in. Raises UsageError for float16."""
        super().__init__(pipe, guidance_scale=guidance_scale, against=against)
        refuse_float16(dtype)
        self.frozen = pipe.transformer
        self.transformer = copy.deepcopy(self.frozen).float().requires_grad_(True)
        shard(self.transformer, device=device, dtype=DTYPES[dtype])

    @contextmanager
    def reference(self) -> Iterator[None]:
        trained, self.transformer = self.transformer, self.frozen
        try:
            with torch.no_grad():
                yield
        finally:
            self.transformer = trained

    def published(self, weights: Mapping[str, Tensor]) -> AbstractContextManager[None]:
        return replaced(dict(self.frozen.named_parameters()), weights)


@contextmanager
def replaced(parameters: Mapping[str, nn.Parameter], values: Mapping[str, Tensor]) -> Iterator[None]:
    """Within, the parameters have other values."""
    own = {name: p.detach().clone() for name, p in parameters.items()}
    _put(parameters, values)
    try:
        yield
    finally:
        _put(parameters, own)


@torch.no_grad()
def _put(parameters: Mapping[str, nn.Parameter], values: Mapping[str, Tensor]) -> None:
    for name, parameter in parameters.items():
        parameter.copy_(values[name])
