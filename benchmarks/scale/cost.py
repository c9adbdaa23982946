"""What suites and recipes cost, in FLOPs, GPU-hours and money: a model, and what it was checked against.

FLOPs are the transformer's, from star_bench.training.architecture, and the VAE's. Text encoders and judges are left out: a
prompt is encoded once, and a judge's forward is some 1 % of a picture's denoising.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, SD3Transformer2DModel
from torch.utils.flop_counter import FlopCounterMode

from star_bench.catalogue import checkpoints, suites
from star_bench.catalogue.protocol import GenerationSettings, settings_of
from star_bench.errors import MissingWeights
from star_bench.runs.plan import merge_protocol
from star_bench.runs.run import named_settings
from star_bench.runs.workers import make_evaluator
from star_bench.training import recipe as recipes
from star_bench.training.architecture import (
    CLIP_TOKENS,
    SD35_MEDIUM_TRANSFORMER,
    SD35_MEDIUM_VAE_WIDTHS,
    architecture_of,
    transformer_flops,
)
from star_bench.training.estimate import UTILISATION, estimate

MODEL = "sd3.5-medium"
GENERATION_UTILISATION = 0.45
"""Of the peak: the project's goal for generation, not measured yet. Training's, 0.20, is from Flow-GRPO's own timings."""
PROMPTS = {"geneval": 553, "ocr": 1018, "pickscore": 2048, "pickscore-sfw": 1024, "drawbench": 200, "quality": 200}
"""Of suites whose prompt files may not be here: their cards' own counts."""
SUITES = ("geneval", "ocr", "pickscore-sfw", "drawbench", "quality")


@dataclass(frozen=True)
class Gpu:
    """tflops: dense, float16 or bfloat16, of the maker's data sheet. dollars: per hour, an example of what clouds ask,
    chosen here in November 2026; --price sets another."""

    tflops: float
    dollars: float


GPUS = {
    "RTX 4090": Gpu(165.2, 0.5),
    "L40S": Gpu(362.0, 1.2),
    "A100 80GB": Gpu(312.0, 1.8),
    "H100 SXM": Gpu(989.4, 3.0),
    "H200 SXM": Gpu(989.4, 3.8),
}


@dataclass(frozen=True)
class Cost:
    """A job: pictures, and PFLOP in all. utilisation: the share of a GPU's peak that is reckoned with."""

    name: str
    pictures: int
    pflop: float
    utilisation: float

    def hours(self, gpu: Gpu) -> float:
        """Of one GPU."""
        return self.pflop * 1e3 / (gpu.tflops * self.utilisation) / 3600


def _vae() -> AutoencoderKL:
    """SD3.5's, without numbers."""
    with torch.device("meta"):
        return AutoencoderKL(
            in_channels=3,
            out_channels=3,
            latent_channels=16,
            block_out_channels=SD35_MEDIUM_VAE_WIDTHS,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            use_quant_conv=False,
            use_post_quant_conv=False,
        )


@torch.no_grad()
def decode_flops(height: int, width: int) -> float:
    """Of decoding one picture, counted by torch on the meta device."""
    with FlopCounterMode(display=False) as counted:
        _vae().decode(torch.empty(1, 16, height // 8, width // 8, device="meta"))
    return float(counted.get_total_flops())


def suite_cost(name: str) -> Cost:
    """A whole run of SD3.5-Medium under the suite's protocol."""
    checkpoint, card = checkpoints.resolve(MODEL), suites.load(name)
    protocol = merge_protocol(
        GenerationSettings(),
        named_settings(settings_of("flow-grpo"), checkpoint),
        checkpoint.generation,
        seed=0,
        dtype="bfloat16",
        device="cuda",
        where=MODEL,
    )
    try:
        prompts = len(make_evaluator(card, "cpu").prompts())
    except MissingWeights:
        prompts = PROMPTS[name]
    architecture = architecture_of(checkpoint)
    image = architecture.image_tokens(protocol.height, protocol.width)
    text = CLIP_TOKENS + protocol.max_sequence_length
    forward = transformer_flops(architecture, image_tokens=image, text_tokens=text, rank=0).forward
    branches = 2 if protocol.guidance_scale > 1 else 1
    pictures = prompts * (card.protocol.samples or 1)
    each = protocol.steps * branches * forward + decode_flops(protocol.height, protocol.width)
    return Cost(name, pictures, pictures * each / 1e15, GENERATION_UTILISATION)


def recipe_cost(name: str) -> Cost:
    """All epochs of a training, without its evaluations."""
    recipe = recipes.load(name)
    known = estimate(recipe)
    return Cost(name, recipe.epochs * known.plan.images, recipe.epochs * known.cost.epoch / 1e3, UTILISATION)


def all_costs() -> tuple[list[Cost], list[Cost]]:
    """Of the suites for real models and of the recipes for SD3.5-Medium that are no variants of another."""
    variants = ("-24gb", "-48gb", "-80gb")
    named = [name for name in recipes.names() if recipes.load(name).model == MODEL and not name.endswith(variants)]
    return [suite_cost(name) for name in SUITES], [recipe_cost(name) for name in named]


@torch.no_grad()
def checks() -> list[dict[str, Any]]:
    """The model's FLOPs against torch's own count of the real architecture on the meta device, by side in pixels."""
    architecture = architecture_of(checkpoints.resolve(MODEL))
    with torch.device("meta"):
        model = SD3Transformer2DModel.from_config(dict(SD35_MEDIUM_TRANSFORMER))
    out = []
    for side in (256, 512, 1024):
        text = CLIP_TOKENS + 128
        inputs: Mapping[str, torch.Tensor] = {
            "hidden_states": torch.empty(1, 16, side // 8, side // 8, device="meta"),
            "encoder_hidden_states": torch.empty(1, text, 4096, device="meta"),
            "pooled_projections": torch.empty(1, 2048, device="meta"),
            "timestep": torch.empty(1, device="meta"),
        }
        with FlopCounterMode(display=False) as counted:
            model(**inputs)
        image = architecture.image_tokens(side, side)
        reckoned = transformer_flops(architecture, image_tokens=image, text_tokens=text, rank=0).forward
        total = float(counted.get_total_flops())
        out.append({"side": side, "counted": total / 1e12, "reckoned": reckoned / 1e12, "ratio": reckoned / total})
    return out
