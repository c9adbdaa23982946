"""The miniature's text-to-image model: a whole StableDiffusion3Pipeline, small enough for a CPU.

MM-DiT with q/k RMSNorm, two CLIP text encoders with projection and a T5 encoder, trained together by flow matching
on the latents of freshly drawn scenes. The recipe follows a prototype's; what is new are a real VAE and words that are
spelled. It stops before the model is good, so that reinforcement learning has something to gain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, T5Config, T5EncoderModel

from star_bench.miniature.fit import Recipe, fit
from star_bench.miniature.scenes import Scene, World, random_scene
from star_bench.miniature.tokenizers import T5_LENGTH, clip_tokenizer, t5_tokenizer
from star_bench.miniature.vae import to_pixels

RECIPE = Recipe(steps=6500, batch=32, adam_lr=1.5e-3, muon_lr=0.02, stop=5700)
"""Stopped on purpose before its schedule ends, where GenEval-miniature was between .6 and .7."""
MIX = {
    "single_object": 0.10,
    "colors": 0.20,
    "counting": 0.14,
    "two_object": 0.09,
    "position": 0.14,
    "color_attr": 0.11,
    "words": 0.22,
}
"""Share of each kind of scene; more signs than the prototype's .13, because here words are spelled."""
EMPTY_CAPTIONS = 0.08
NAMED_COLORS = 0.6
"""How often captions of counting, two objects and position name colours too: without, colours are learnt late."""
WIDTH = 128
SAMPLING = {
    "height": 64,
    "width": 64,
    "steps": 14,
    "guidance_scale": 4.0,
    "negative_prompt": "",
    "max_sequence_length": T5_LENGTH,
}
"""Generation defaults that travel with the weights: 14 steps and guidance 4 were the prototype's; the text length is the
trained one, since T5's padding is not masked."""


class Generator(nn.Module):
    """The trained parts: transformer, two CLIP text encoders, T5 encoder; tokenizers and scheduler beside them.

    spells: its CLIP has capitals, as `clip_tokenizer` says.
    """

    def __init__(self, *, spells: bool = False) -> None:
        super().__init__()
        self.clip_tokenizer, self.t5_tokenizer = clip_tokenizer(spells=spells), t5_tokenizer()
        clip = CLIPTextConfig(
            vocab_size=len(self.clip_tokenizer),
            hidden_size=WIDTH // 2,
            intermediate_size=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=self.clip_tokenizer.model_max_length,
            projection_dim=WIDTH // 2,
            bos_token_id=self.clip_tokenizer.bos_token_id,
            eos_token_id=self.clip_tokenizer.eos_token_id,
            pad_token_id=self.clip_tokenizer.pad_token_id,
        )
        self.text_encoder = CLIPTextModelWithProjection(clip)
        self.text_encoder_2 = CLIPTextModelWithProjection(clip)
        self.text_encoder_3 = T5EncoderModel(
            T5Config(
                vocab_size=len(self.t5_tokenizer),
                d_model=WIDTH,
                d_kv=WIDTH // 2,
                d_ff=2 * WIDTH,
                num_layers=2,
                num_heads=2,
                feed_forward_proj="gated-gelu",
                dropout_rate=0.0,
                pad_token_id=self.t5_tokenizer.pad_token_id,
                eos_token_id=self.t5_tokenizer.eos_token_id,
            )
        )
        self.transformer = SD3Transformer2DModel(
            sample_size=16,
            patch_size=2,
            in_channels=8,
            out_channels=8,
            num_layers=5,
            attention_head_dim=WIDTH // 2,
            num_attention_heads=2,
            joint_attention_dim=WIDTH,
            caption_projection_dim=WIDTH,
            pooled_projection_dim=WIDTH,
            pos_embed_max_size=12,
            qk_norm="rms_norm",
        )
        self.scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)

    def text(self, captions: list[str], device: torch.device) -> tuple[Tensor, Tensor]:
        """(B, length of CLIP + T5_LENGTH, WIDTH) embeddings and (B, WIDTH) pooled, as the stock pipeline makes them."""
        ids = self.clip_tokenizer(captions, padding="max_length", truncation=True)["input_ids"]
        clip_ids = torch.tensor(ids, device=device)
        outputs = [e(clip_ids, output_hidden_states=True) for e in (self.text_encoder, self.text_encoder_2)]
        clip = torch.cat([o.hidden_states[-2] for o in outputs], dim=-1)
        ids = self.t5_tokenizer(captions, padding="max_length", truncation=True, max_length=T5_LENGTH)["input_ids"]
        t5 = self.text_encoder_3(torch.tensor(ids, device=device))[0]
        return torch.cat([clip, t5], dim=1), torch.cat([o.text_embeds for o in outputs], dim=-1)

    def pipeline(self, vae: AutoencoderKL) -> StableDiffusion3Pipeline:
        """The stock pipeline around these parts."""
        return StableDiffusion3Pipeline(
            transformer=self.transformer,
            scheduler=self.scheduler,
            vae=vae,
            text_encoder=self.text_encoder,
            tokenizer=self.clip_tokenizer,
            text_encoder_2=self.text_encoder_2,
            tokenizer_2=self.clip_tokenizer,
            text_encoder_3=self.text_encoder_3,
            tokenizer_3=self.t5_tokenizer,
        )


def stratified_times(rng: np.random.Generator, count: int, device: torch.device) -> Tensor:
    """(count,) noise levels: sigmoid(1.2 n + 0.5) with n stratified normal; the lean to high noise helped there."""
    uniform = torch.from_numpy((rng.permutation(count) + rng.random(count)) / count).to(device, torch.float32)
    return torch.sigmoid(1.2 * torch.special.ndtri(uniform.clamp(1e-4, 1 - 1e-4)) + 0.5)


Draw = Callable[[World, np.random.Generator, str], Scene]
"""A scene of a kind."""


def draw(world: World, rng: np.random.Generator, kind: str) -> Scene:
    """What the shipped generator was trained on."""
    return random_scene(world, rng, kind, name_colors=NAMED_COLORS)


def train(world: World, vae: AutoencoderKL, folder: Path, *, seed: int, device: torch.device) -> Generator:
    """Trains all parts together on latents of the frozen VAE."""
    torch.manual_seed(seed)
    model = Generator()
    teach(model, world, vae, folder, "generator", RECIPE, MIX, draw, seed=seed, device=device)
    return model


def teach(
    model: Generator,
    world: World,
    vae: AutoencoderKL,
    folder: Path,
    name: str,
    recipe: Recipe,
    mix: Mapping[str, float],
    scene: Draw,
    *,
    seed: int,
    device: torch.device,
) -> None:
    """Trains `model` in place by flow matching on scenes that `scene` draws, of kinds in the shares of `mix`.

    name: of the checkpoint and the curve in `folder`.
    """
    vae.to(device).eval().requires_grad_(False)
    kinds, shares = list(mix), list(mix.values())

    def loss(rng: np.random.Generator, count: int) -> Tensor:
        scenes = [scene(world, rng, str(k)) for k in rng.choice(kinds, count, p=shares)]
        captions = ["" if rng.random() < EMPTY_CAPTIONS else each.caption for each in scenes]
        sigma = stratified_times(rng, count, device)
        with torch.autocast(device.type, torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            with torch.no_grad():
                latents = vae.encode(to_pixels([each.image for each in scenes]).to(device)).latent_dist.mode()
            clean = (latents.float() - vae.config.shift_factor) * vae.config.scaling_factor
            noise = torch.randn(clean.shape, device=device)
            level = sigma.view(-1, 1, 1, 1)
            embeddings, pooled = model.text(captions, device)
            velocity = model.transformer(
                (1 - level) * clean + level * noise,
                encoder_hidden_states=embeddings,
                pooled_projections=pooled,
                timestep=1000 * sigma,
                return_dict=False,
            )[0]
        return F.mse_loss(velocity.float(), noise - clean)

    fit(name, model, loss, recipe, folder, seed=seed, device=device)
