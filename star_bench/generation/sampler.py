"""Prompts -> pixels with the stock diffusers pipeline: noise per image, text encoded once, decoded in float32."""

from __future__ import annotations

import inspect
import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusion3Pipeline
from torch import Tensor

from star_bench.catalogue.protocol import Protocol
from star_bench.errors import UsageError
from star_bench.generation.kernels import use_kernels
from star_bench.generation.kinds import check_kind, check_vae
from star_bench.generation.noise import image_generator, latent_noise
from star_bench.generation.pipeline import denoiser
from star_bench.generation.seeded import check_seeded
from star_bench.generation.size import check_size

ImageId = tuple[str, str, int]
"""(prompt id, text, k): image k of a prompt."""

CACHED_PROMPTS = 256  # chosen here: 0.4 GB for SD3.5 in half precision (205 x 4096 per prompt)


@dataclass(frozen=True)
class Embedding:
    """One prompt as SD3 reads it: tokens (1, L, D), CLIP's positions first and then T5's, and pooled (1, P)."""

    tokens: Tensor
    pooled: Tensor

    def to(self, device: torch.device) -> Embedding:
        return Embedding(*(each.to(device, non_blocking=True) for each in (self.tokens, self.pooled)))

    def on_host(self) -> Embedding:
        """In the computer's memory, pinned where it came from a GPU, so that copying it back does not wait."""
        host = (each.cpu().pin_memory() if each.is_cuda else each for each in (self.tokens, self.pooled))
        return Embedding(*host)


class Sampler:
    """Images of one pipeline under one protocol.

    An image depends on (seed, prompt id, k), its text and the protocol; batch size and order change it by less than
    1e-4 before quantisation, on the CPU in float32. Latents pass between steps in the pipeline's dtype, as the stock
    pipeline has it. An empty negative prompt is the encoded "" for SD3 (Flow-GRPO, appendix B.3), and the
    pipeline's own default for the others (for SDXL zeros, as in GenEval's script).
    """

    def __init__(self, pipe: Any, protocol: Protocol, *, cached_prompts: int = CACHED_PROMPTS) -> None:
        """Raises Refused for a pipeline whose noise can't be seeded per image, UsageError for a wrong picture size."""
        self.pipe: Any = pipe
        check_kind(*(kind.__name__ for kind in type(pipe).__mro__))
        check_vae(pipe.vae.config)
        check_seeded(type(pipe), pipe.scheduler, protocol.steps)
        unit = pipe.vae_scale_factor * denoiser(pipe).config.get("patch_size", 1)
        largest = unit * (denoiser(pipe).config.get("pos_embed_max_size") or math.inf)
        check_size(protocol.height, protocol.width, unit=unit, largest=largest)
        self.protocol = protocol
        self._kernels = use_kernels(denoiser(pipe), protocol.kernels)
        self._cached_prompts: float = cached_prompts
        self._embeddings: OrderedDict[str, Embedding] = OrderedDict()

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image's latents."""
        scale = self.pipe.vae_scale_factor
        return denoiser(self.pipe).config.in_channels, self.protocol.height // scale, self.protocol.width // scale

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> list[Embedding]:
        """SD3's embeddings of each prompt, each distinct text encoded once and alone, so that its batch can't matter."""
        found = {}
        for text in dict.fromkeys(prompts):
            if text not in self._embeddings:
                tokens, _, pooled, _ = self.pipe.encode_prompt(
                    prompt=text,
                    prompt_2=None,
                    prompt_3=None,
                    do_classifier_free_guidance=False,
                    max_sequence_length=self.protocol.max_sequence_length,
                )
                self._embeddings[text] = Embedding(tokens, pooled)
            self._embeddings.move_to_end(text)
            found[text] = self._embeddings[text]
            while len(self._embeddings) > self._cached_prompts:
                self._embeddings.popitem(last=False)
        return [found[text] for text in prompts]

    def free_text_encoders(self, prompts: Sequence[str]) -> None:
        """Encodes all prompts, keeps the embeddings in the computer's memory, and lets go of the encoders (for SD3.5 in
        half precision 11 GB of the GPU's memory). No other prompt can be drawn after it.

        Raises UsageError for pipelines other than SD3's, whose encoders are small.
        """
        if not isinstance(self.pipe, StableDiffusion3Pipeline):
            raise UsageError(
                f"the text encoders of {type(self.pipe).__name__} are not kept apart", "leave --free-text-encoders out"
            )
        self._cached_prompts = math.inf
        for text in dict.fromkeys([*prompts, self.protocol.negative_prompt]):
            (embedding,) = self.encode([text])
            self._embeddings[text] = embedding.on_host()
        for name in ("text_encoder", "text_encoder_2", "text_encoder_3"):
            setattr(self.pipe, name, None)
        if self.pipe.device.type == "cuda":
            torch.cuda.empty_cache()

    def generate(self, items: Sequence[ImageId], *, batch_size: int | None = None) -> list[np.ndarray | None]:
        """One (H, W, 3) uint8 RGB image per item, None where it is degenerate (see `pixels`)."""
        return [to_uint8(image) for image in self.pixels(items, batch_size=batch_size)]

    @torch.no_grad()
    def pixels(
        self, items: Sequence[ImageId], *, batch_size: int | None = None, steps: int | None = None
    ) -> list[np.ndarray | None]:
        """One (H, W, 3) float32 image in [0, 1] per item; None where latents or pixels are not finite.

        batch_size: images at a time, by default all. steps: other than the protocol's, for a trial.
        """
        step = batch_size or max(1, len(items))
        out: list[np.ndarray | None] = []
        for start in range(0, len(items), step):
            out += self.decode(self._latents(items[start : start + step], steps or self.protocol.steps))
        return out

    def _latents(self, items: Sequence[ImageId], steps: int) -> Tensor:
        """Denoised latents (B, C, H, W)."""
        seed, protocol = self.protocol.seed, self.protocol
        noise = torch.stack([latent_noise(seed, name, k, self.latent_shape) for name, _, k in items])
        texts = self._texts([text for _, text, _ in items])
        with self._kernels():
            return self.pipe(
                **texts,
                latents=noise.to(denoiser(self.pipe).device, denoiser(self.pipe).dtype),
                height=protocol.height,
                width=protocol.width,
                num_inference_steps=steps,
                guidance_scale=protocol.guidance_scale,
                output_type="latent",
                **self._accepted(
                    max_sequence_length=protocol.max_sequence_length,
                    # for schedulers that draw noise at every step: a stream of each image's own
                    generator=[image_generator(seed, name, -1 - k) for name, _, k in items],
                ),
            ).images

    def _texts(self, texts: list[str]) -> dict[str, Any]:
        guided = self.protocol.guidance_scale > 1
        negative = self.protocol.negative_prompt
        if not isinstance(self.pipe, StableDiffusion3Pipeline):
            return {"prompt": texts, "negative_prompt": [negative] * len(texts) if guided and negative else None}
        embeddings = [one.to(denoiser(self.pipe).device) for one in self.encode(texts)]
        out = {
            "prompt_embeds": torch.cat([one.tokens for one in embeddings]),
            "pooled_prompt_embeds": torch.cat([one.pooled for one in embeddings]),
        }
        if guided:
            against = self.encode([negative])[0].to(embeddings[0].tokens.device)
            out["negative_prompt_embeds"] = against.tokens.expand(len(texts), -1, -1)
            out["negative_pooled_prompt_embeds"] = against.pooled.expand(len(texts), -1)
        return out

    def _accepted(self, **arguments: Any) -> dict[str, Any]:
        """Those arguments that this pipeline's call takes."""
        taken = inspect.signature(self.pipe.__call__).parameters
        return {name: value for name, value in arguments.items() if name in taken}

    @torch.no_grad()
    def decode(self, latents: Tensor) -> list[np.ndarray | None]:
        """Latents (B, C, H, W) through the float32 VAE, as `pixels` says; done here since stock pipelines decode in the
        latents' dtype."""
        config = self.pipe.vae.config
        latents = latents.to(self.pipe.vae.dtype)
        finite = latents.isfinite().flatten(1).all(1)
        latents = torch.where(finite[:, None, None, None], latents, 0) / config.scaling_factor
        images = self.pipe.vae.decode(latents + (config.get("shift_factor") or 0), return_dict=False)[0]
        # Before the clamp, which would make a white pixel of an infinite one.
        finite &= images.isfinite().flatten(1).all(1)
        images = (images / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).float().cpu().numpy()
        return [image if good else None for image, good in zip(images, finite.tolist(), strict=True)]


def to_uint8(image: np.ndarray | None) -> np.ndarray | None:
    """(H, W, 3) in [0, 1] to uint8 RGB."""
    return None if image is None else np.rint(image * 255).astype(np.uint8)
