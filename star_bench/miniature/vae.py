"""The miniature's AutoencoderKL: 64 x 64 x 3 pixels to 16 x 16 x 8 latents and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from star_bench.miniature.fit import Recipe, fit
from star_bench.miniature.scenes import World, random_scene

RECIPE = Recipe(steps=2400, batch=16, adam_lr=2e-3, ema=0.995)
MIX = {"single_object": 0.1, "two_object": 0.2, "counting": 0.2, "color_attr": 0.2, "words": 0.3}
KL_WEIGHT = 1e-7
"""Per nat, summed over a picture's latents (chosen here): keeps latents near unit scale without blurring letters."""
SQUARED_WEIGHT = 4.0
"""Of the squared error beside the absolute one. Without it, training settled where yellow and pink were one colour."""


def build() -> AutoencoderKL:
    """Stride 4, 8 latent channels, no attention: letters of 8 x 16 pixels survive it."""
    return AutoencoderKL(
        block_out_channels=(16, 32, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=8,
        norm_num_groups=8,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
        sample_size=64,
        scaling_factor=1.0,
        shift_factor=0.0,
    )


def to_pixels(images: list[np.ndarray]) -> Tensor:
    """uint8 (H, W, 3) pictures to a float tensor (B, 3, H, W) in -1..1."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def scene_batch(world: World, rng: np.random.Generator, count: int) -> Tensor:
    """(count, 3, H, W) of random scenes."""
    kinds = rng.choice(list(MIX), size=count, p=list(MIX.values()))
    return to_pixels([random_scene(world, rng, str(kind)).image for kind in kinds])


def train(world: World, folder: Path, *, seed: int, device: torch.device) -> AutoencoderKL:
    """Trains on whole scenes, then measures the latents' scale and shift into the config."""
    torch.manual_seed(seed)
    vae = build()

    def loss(rng: np.random.Generator, count: int) -> Tensor:
        pixels = scene_batch(world, rng, count).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            posterior = vae.encode(pixels).latent_dist
            decoded = vae.decode(posterior.sample()).sample.float()
        edges = sum(F.l1_loss(decoded.diff(dim=d), pixels.diff(dim=d)) for d in (2, 3))
        error = F.l1_loss(decoded, pixels) + SQUARED_WEIGHT * F.mse_loss(decoded, pixels) + edges
        return error + KL_WEIGHT * posterior.kl().mean()

    fit("vae", vae, loss, RECIPE, folder, seed=seed, device=device)
    with torch.no_grad():
        sample = scene_batch(world, np.random.default_rng([seed, 1]), 512).to(device)
        latents = torch.cat([vae.encode(part).latent_dist.mode() for part in sample.split(64)])
    vae.register_to_config(
        scaling_factor=round(1 / float(latents.std()), 4), shift_factor=round(float(latents.mean()), 4)
    )
    return vae


def psnr(vae: AutoencoderKL, pixels: Tensor) -> float:
    """Reconstruction error in dB on pictures in -1..1."""
    with torch.no_grad():
        decoded = vae.decode(vae.encode(pixels).latent_dist.mode()).sample.clamp(-1, 1)
    return float(10 * torch.log10(4 / F.mse_loss(decoded, pixels)))
