"""The miniature's detector: a genuine Mask2Former with a small Swin, trained on drawn scenes.

It runs through the same pre- and post-processing as GenEval's own detector; a picture of 64 x 64 pixels is
never resized, and its masks are 32 x 32.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

from star_bench.evaluators.geneval.detection.detector import PREPROCESSING_FILE
from star_bench.evaluators.geneval.detection.preprocess import MEAN, STD
from star_bench.files.atomic import to_json, write_atomically
from star_bench.miniature.fit import Recipe, fit
from star_bench.miniature.scenes import (
    KINDS,
    Placed,
    Scene,
    World,
    background,
    draw_objects,
    place,
    random_scene,
)

RECIPE = Recipe(steps=2000, batch=16, adam_lr=1e-3, muon_lr=0.01, warmup=100, decay=0.5, ema=0.998)
"""Chosen here: after 200 steps the loss was 11.8 with Muon at .01 and 14.6 with AdamW alone (one seed)."""
MIXED = 0.5
"""Share of training scenes that follow no prompt: one to four objects of any class and colour (chosen here)."""
FREE = 0.3
"""Share of the mixed scenes with one or two objects anywhere, off the grid of cells (chosen here)."""


def build(world: World) -> Mask2FormerForUniversalSegmentation:
    """16 queries, hidden width 64, one pixel-decoder layer, two masked-attention layers, masks at half the size.

    queries x classes must be at least 100: the official post-processing takes the 100 best pairs.
    """
    backbone: dict[str, Any] = {
        "image_size": world.size,
        "patch_size": 2,
        "embed_dim": 32,
        "depths": [1, 1, 2, 1],
        "num_heads": [2, 4, 4, 4],
        "window_size": 4,
        "drop_path_rate": 0.0,
        "out_features": ["stage1", "stage2", "stage3", "stage4"],
    }
    config = Mask2FormerConfig(
        backbone_config=SwinConfig(**backbone),
        feature_size=64,
        mask_feature_size=64,
        hidden_dim=64,
        encoder_feedforward_dim=128,
        dim_feedforward=128,
        encoder_layers=1,
        decoder_layers=3,  # transformers counts the prediction before the first layer
        num_attention_heads=4,
        num_queries=16,
        id2label=dict(enumerate(world.classes)),
        label2id={name: i for i, name in enumerate(world.classes)},
        common_stride=2,
        feature_strides=[2, 4, 8, 16],
        train_num_points=256,
        no_object_weight=0.2,
    )
    return Mask2FormerForUniversalSegmentation(config)


def mixed_scene(world: World, rng: np.random.Generator) -> Scene:
    """One to four objects of any class and colour, which may repeat; sometimes off the grid of cells."""
    image = background(world, rng)
    count = int(rng.integers(1, 5))
    if rng.random() < FREE:
        count = min(count, 2)
        low, high = world.object_sizes
        world = replace(world, cells=False, object_sizes=(low - 3, high + 2))
    classes = world.classes if rng.random() < 0.6 else tuple(rng.choice(world.classes, 2, replace=False))
    placed = [
        Placed(str(rng.choice(classes)), str(rng.choice(world.colors)), *spot) for spot in place(world, rng, count)
    ]
    objects = draw_objects(image, placed)
    return Scene(np.clip(image + 0.5, 0, 255).astype(np.uint8), objects, "", {"tag": "mixed"})


def normalise(images: Tensor) -> Tensor:
    """(B, 3, H, W) in 0..255 to the model's input."""
    shape = (1, 3, 1, 1)
    return (images - images.new_tensor(MEAN).view(shape)) / images.new_tensor(STD).view(shape)


def imperfect(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Half of the pictures as a VAE would give them back: blurred, noisy, lighter or darker. (B, 3, H, W), 0..255."""
    count = len(images)
    out = gaussian_blur(images, [5, 5], [float(rng.uniform(0.3, 1.1))] * 2)
    half = F.interpolate(out, scale_factor=0.5, mode="area")
    coarse = F.interpolate(half, size=out.shape[-2:], mode="bilinear", align_corners=False)
    share, gain, noise, use = (
        torch.from_numpy(v).float().view(-1, 1, 1, 1).to(images.device)
        for v in (
            rng.uniform(0, 0.6, count),
            rng.uniform(0.92, 1.08, count),
            rng.uniform(0, 8, count),
            (rng.random(count) < 0.5).astype(float),
        )
    )
    worse = (out + share * (coarse - out)) * gain + noise * torch.randn_like(images)
    return torch.lerp(images, worse, use).clamp(0, 255)


def batch(world: World, rng: np.random.Generator, count: int) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Pixels (B, 3, H, W) in 0..255, and each picture's class indices (N,) and masks (N, H, W)."""
    scenes = [
        mixed_scene(world, rng) if rng.random() < MIXED else random_scene(world, rng, str(rng.choice(KINDS)))
        for _ in range(count)
    ]
    pixels = torch.from_numpy(np.stack([s.image for s in scenes])).permute(0, 3, 1, 2).float()
    labels = [torch.tensor([world.classes.index(o.name) for o in s.objects], dtype=torch.long) for s in scenes]
    empty = np.zeros((0, world.size, world.size), bool)
    masks = [torch.from_numpy(np.stack([o.mask for o in s.objects]) if s.objects else empty).float() for s in scenes]
    return pixels, labels, masks


def train(world: World, folder: Path, *, seed: int, device: torch.device) -> Mask2FormerForUniversalSegmentation:
    """Trains with the stock Hungarian loss; the state is kept in `folder`."""
    torch.manual_seed(seed)
    model = build(world)

    def loss(rng: np.random.Generator, count: int) -> Tensor:
        pixels, labels, masks = batch(world, rng, count)
        inputs = normalise(imperfect(pixels.to(device), rng))
        output = model(
            pixel_values=inputs,
            class_labels=[v.to(device) for v in labels],
            mask_labels=[v.to(device) for v in masks],
            output_auxiliary_logits=False,
        )
        return output.loss.squeeze()

    fit("detector", model, loss, RECIPE, folder, seed=seed, device=device)
    return model


def save(model: Mask2FormerForUniversalSegmentation, folder: Path) -> None:
    """fp16 safetensors in transformers' ordinary layout; pictures go in as they are. The model itself is not changed."""
    halves = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    model.save_pretrained(folder, state_dict=halves)
    write_atomically(folder / PREPROCESSING_FILE, to_json({"resize": None}))
