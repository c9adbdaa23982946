"""Does multi-scale deformable attention compute what it should, on this device?

Where a CUDA kernel was not built for the card at hand, mmcv prints a line and goes on with whatever the memory held:
detections have scores near zero, and a benchmark has a number that is not true. So a detector that may run a compiled
kernel checks it first, against the definition written out below.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from star_bench.errors import Refused

TOLERANCE = 1e-4
"""Chosen here. The outputs are of size 1, and float32 differs from float64 by 1e-6."""
SHAPES = ((3, 4), (6, 8), (12, 16))
"""Rows and columns of each feature level."""
HEADS = 4
POINTS = 4
WIDTH = 32
QUERIES = 24


def check_attention(attention: Callable[..., Any], device: str) -> None:
    """Runs mmcv's MultiScaleDeformableAttention, or a module that is made and called like it, on a small fixed input.

    Raises Refused, naming the device, where it fails or differs from the definition by more than TOLERANCE.
    """
    generator = torch.Generator().manual_seed(0)
    levels = len(SHAPES)
    value = torch.randn(sum(rows * columns for rows, columns in SHAPES), WIDTH, generator=generator)
    offsets = 2 * torch.randn(HEADS, levels, POINTS, 2, generator=generator)
    preferences = torch.randn(HEADS, levels, POINTS, generator=generator)
    centres = torch.rand(QUERIES, levels, 2, generator=generator)

    module = attention(
        embed_dims=WIDTH, num_heads=HEADS, num_levels=levels, num_points=POINTS, dropout=0.0, batch_first=True
    ).eval()
    # Only what lies between the projections is in question, and a query of zeros leaves the biases alone to speak.
    module.value_proj = module.output_proj = torch.nn.Identity()
    module.sampling_offsets.bias.data = offsets.flatten()
    module.attention_weights.bias.data = preferences.flatten()
    shapes = torch.tensor(SHAPES)
    starts = torch.tensor([0, *shapes.prod(1).cumsum(0)[:-1]])
    try:
        with torch.inference_mode():
            output = module.to(device)(
                query=torch.zeros(1, QUERIES, WIDTH, device=device),
                value=value[None].to(device),
                reference_points=centres[None].to(device),
                spatial_shapes=shapes.to(device),
                level_start_index=starts.to(device),
            )
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        raise Refused(f"mmcv's deformable attention fails on {device} ({reason})", REMEDY) from error
    difference = float((output[0].cpu().double() - by_definition(value, offsets, preferences, centres)).abs().max())
    if not difference <= TOLERANCE:  # nor is it where the difference is no number
        raise Refused(f"mmcv's deformable attention is off by {difference:.2g} on {device}", REMEDY)


REMEDY = "use the 'transformers' detector, the CPU, or an mmcv that was built for this device"


def by_definition(value: Tensor, offsets: Tensor, preferences: Tensor, centres: Tensor) -> Tensor:
    """(QUERIES, WIDTH) float64. Deformable DETR (arXiv:2010.04159), eq. 3, point by point.

    value (pixels of all levels, WIDTH); offsets (HEADS, levels, POINTS, 2) in pixels, x before y; preferences
    (HEADS, levels, POINTS) before their softmax; centres (QUERIES, levels, 2), x before y, in 0..1.
    """
    split = value.double().split([rows * columns for rows, columns in SHAPES])
    maps = [pixels.view(*shape, HEADS, -1) for pixels, shape in zip(split, SHAPES, strict=True)]
    weights = preferences.double().flatten(1).softmax(1).view_as(preferences)
    out = torch.zeros(QUERIES, HEADS, WIDTH // HEADS, dtype=torch.float64)
    for query in range(QUERIES):
        for level, (rows, columns) in enumerate(SHAPES):
            x, y = centres[query, level].tolist()
            for head in range(HEADS):
                for point in range(POINTS):
                    right, down = offsets[head, level, point].tolist()
                    place = x * columns + right - 0.5, y * rows + down - 0.5  # a pixel's value lies at its centre
                    out[query, head] += weights[head, level, point] * between(maps[level][:, :, head], *place)
    return out.flatten(1)


def between(pixels: Tensor, x: float, y: float) -> Tensor:
    """The value of pixels (rows, columns, channels) at a place between four of them; outside lie zeros."""
    left, top = math.floor(x), math.floor(y)
    total = torch.zeros_like(pixels[0, 0])
    for column, across in ((left, left + 1 - x), (left + 1, x - left)):
        for row, along in ((top, top + 1 - y), (top + 1, y - top)):
            if 0 <= row < pixels.shape[0] and 0 <= column < pixels.shape[1]:
                total += across * along * pixels[row, column]
    return total
