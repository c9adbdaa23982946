"""Sampling: neither batch size nor order can change an image; a broken one takes no other with it."""

from __future__ import annotations

import dataclasses
from importlib.util import find_spec
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSDEScheduler,
    EulerAncestralDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    FlowMatchLCMScheduler,
    FluxPipeline,
    LCMScheduler,
    PNDMScheduler,
    SchedulerMixin,
    StableDiffusionPipeline,
    UNet2DConditionModel,
    UniPCMultistepScheduler,
)
from tiny_sd3 import local, tiny_sd3
from transformers import CLIPTextModel

from star_bench.catalogue.protocol import Protocol
from star_bench.errors import Refused, UsageError
from star_bench.generation.pipeline import load
from star_bench.generation.sampler import Sampler

TEXTS = ["a photo of a red apple", "a photo of two kite", "a blue bus", "green"]
ITEMS = [(f"{index:05}", text, k) for index, text in enumerate(TEXTS) for k in range(2)]


@pytest.fixture
def sampler(folder: Path, protocol: Protocol) -> Sampler:
    return Sampler(load(local(folder), dtype="float32", device="cpu"), protocol)


def stacked(images: list[np.ndarray | None]) -> np.ndarray:
    assert all(image is not None for image in images)
    return np.stack([image for image in images if image is not None])


def test_batch_size_does_not_change_an_image(sampler: Sampler) -> None:
    one, four = (stacked(sampler.pixels(ITEMS, batch_size=size)) for size in (1, 4))
    assert one.dtype == np.float32 and one.shape == (8, 16, 16, 3)
    assert np.abs(one - four).max() < 1e-4
    assert len({image.tobytes() for image in one}) == 8  # and all differ


def test_order_does_not_change_an_image(sampler: Sampler) -> None:
    forward = stacked(sampler.pixels(ITEMS, batch_size=4))
    backward = stacked(sampler.pixels(ITEMS[::-1], batch_size=3))[::-1]
    assert np.abs(forward - backward).max() < 1e-4


def test_the_picture_follows_text_seed_and_k(sampler: Sampler) -> None:
    base = stacked(sampler.pixels([("x", TEXTS[0], 0)]))
    for other in [("x", TEXTS[2], 0), ("y", TEXTS[0], 0), ("x", TEXTS[0], 1)]:
        assert np.abs(base - stacked(sampler.pixels([other]))).max() > 1e-3
    reseeded = Sampler(sampler.pipe, dataclasses.replace(sampler.protocol, seed=8))
    assert np.abs(base - stacked(reseeded.pixels([("x", TEXTS[0], 0)]))).max() > 1e-3


def test_it_is_the_stock_pipelines_picture(sampler: Sampler) -> None:
    """The whole road against one plain call of the pipeline with text and the same noise."""
    from star_bench.generation.noise import latent_noise

    noise = latent_noise(7, "x", 0, sampler.latent_shape)[None]
    stock = sampler.pipe(
        TEXTS[0],
        negative_prompt="",
        latents=noise,
        height=16,
        width=16,
        num_inference_steps=3,
        guidance_scale=4.0,
        max_sequence_length=20,
        output_type="np",
    ).images[0]
    assert np.abs(stock - stacked(sampler.pixels([("x", TEXTS[0], 0)]))[0]).max() < 1e-5


def test_generate_rounds_to_uint8(sampler: Sampler) -> None:
    pixels, images = stacked(sampler.pixels(ITEMS[:2])), stacked(sampler.generate(ITEMS[:2]))
    assert images.dtype == np.uint8
    assert np.abs(images / 255 - pixels).max() <= 0.5 / 255 + 1e-6


def test_no_items_no_images(sampler: Sampler) -> None:
    assert sampler.generate([]) == []


def test_each_text_is_encoded_once(sampler: Sampler) -> None:
    with mock.patch.object(sampler.pipe, "encode_prompt", wraps=sampler.pipe.encode_prompt) as encode:
        sampler.generate(ITEMS, batch_size=4)
        alone = [call.kwargs["prompt"] for call in encode.call_args_list if call.kwargs.get("prompt") is not None]
    assert sorted(alone) == sorted([*TEXTS, ""])
    embeddings = sampler.encode(["green", "a blue bus", "green"])
    assert embeddings[0] is embeddings[2]
    assert embeddings[0].tokens.shape == (1, 12 + 20, 32)


def test_a_full_cache_forgets_the_oldest(sampler: Sampler) -> None:
    small = Sampler(sampler.pipe, sampler.protocol, cached_prompts=2)
    assert len(small.encode(TEXTS)) == 4
    assert list(small._embeddings) == TEXTS[2:]


def test_without_guidance_the_negative_prompt_is_not_read(sampler: Sampler) -> None:
    plain = dataclasses.replace(sampler.protocol, guidance_scale=1.0)
    pictures = [
        Sampler(sampler.pipe, dataclasses.replace(plain, negative_prompt=text)).pixels(ITEMS[:1])
        for text in ("", "bus")
    ]
    assert np.array_equal(*(stacked(images) for images in pictures))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_broken_image_is_none_and_spoils_no_other(sampler: Sampler, bad: float) -> None:
    good = stacked(sampler.pixels(ITEMS[:3]))
    latents = sampler._latents(ITEMS[:3], sampler.protocol.steps)
    latents[1, 0, 0, 0] = bad
    with mock.patch.object(sampler, "_latents", return_value=latents):
        images = sampler.pixels(ITEMS[:3])
        assert sampler.generate(ITEMS[:3])[1] is None
    assert images[1] is None
    assert np.allclose(stacked([images[0], images[2]]), good[[0, 2]], atol=1e-5)


def test_a_size_that_does_not_fit_is_a_usage_error(sampler: Sampler) -> None:
    with pytest.raises(UsageError, match="multiples of 4"):
        Sampler(sampler.pipe, dataclasses.replace(sampler.protocol, height=18))


def test_unknown_pipelines_are_refused(sampler: Sampler) -> None:
    with pytest.raises(Refused, match="FluxPipeline"):
        Sampler(FluxPipeline.__new__(FluxPipeline), sampler.protocol)


@pytest.mark.parametrize(
    "scheduler",
    [
        FlowMatchEulerDiscreteScheduler(stochastic_sampling=True),
        FlowMatchLCMScheduler(),
        DPMSolverMultistepScheduler(
            algorithm_type="sde-dpmsolver++", use_flow_sigmas=True, prediction_type="flow_prediction"
        ),
        EulerAncestralDiscreteScheduler(),
    ],
    ids=["stochastic", "lcm", "sde", "ancestral"],
)
def test_noise_without_a_seed_is_refused(sampler: Sampler, scheduler: SchedulerMixin) -> None:
    sampler.pipe.scheduler = scheduler
    with pytest.raises(Refused, match="draws noise that has no seed") as refused:
        Sampler(sampler.pipe, sampler.protocol)
    assert refused.value.exit_code == 4


@pytest.mark.parametrize(
    "scheduler",
    [
        FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        FlowMatchHeunDiscreteScheduler(),  # draws noise, and adds none of it
        DPMSolverMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction"),
        UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction"),
    ],
    ids=["shifting", "heun", "dpm", "unipc"],
)
def test_a_scheduler_that_adds_no_noise_is_asked_and_left_as_it_was(
    sampler: Sampler, scheduler: SchedulerMixin
) -> None:
    sampler.pipe.scheduler = scheduler
    held, state = repr(vars(scheduler)), torch.random.get_rng_state()
    Sampler(sampler.pipe, sampler.protocol)
    assert sampler.pipe.scheduler is scheduler and repr(vars(scheduler)) == held
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.fixture
def unet_folder(tmp_path: Path) -> Path:
    """A tiny SD1.5-shaped pipeline whose scheduler draws noise at every step."""
    parts = tiny_sd3()
    torch.manual_seed(0)
    StableDiffusionPipeline(
        unet=UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(8, 16),
            layers_per_block=1,
            norm_num_groups=4,
            cross_attention_dim=16,
            attention_head_dim=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        ),
        vae=AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(8, 16),
            layers_per_block=1,
            norm_num_groups=4,
        ),
        text_encoder=CLIPTextModel(parts.text_encoder.config),
        tokenizer=parts.tokenizer,
        scheduler=EulerAncestralDiscreteScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(tmp_path / "unet")
    return tmp_path / "unet"


def test_unet_pipelines_are_batch_invariant_too(unet_folder: Path, protocol: Protocol) -> None:
    sampler = Sampler(load(local(unet_folder), dtype="float32", device="cpu"), protocol)
    one, four = (stacked(sampler.pixels(ITEMS, batch_size=size)) for size in (1, 4))
    assert np.abs(one - four).max() < 1e-4
    assert len({image.tobytes() for image in one}) == 8


def test_where_the_pipeline_hands_on_generators_noise_is_seeded(unet_folder: Path, protocol: Protocol) -> None:
    pipe = load(local(unet_folder), dtype="float32", device="cpu")
    sde = DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++")
    for scheduler in (sde, DDIMScheduler(), DDPMScheduler(), LCMScheduler(), PNDMScheduler(skip_prk_steps=True)):
        pipe.scheduler = scheduler
        Sampler(pipe, protocol)


@pytest.mark.skipif(find_spec("torchsde") is None, reason="its noise comes from torchsde")
def test_a_scheduler_with_noise_of_its_own_is_refused(unet_folder: Path, protocol: Protocol) -> None:
    pipe = load(local(unet_folder), dtype="float32", device="cpu")
    pipe.scheduler = DPMSolverSDEScheduler()
    with pytest.raises(Refused, match="no seed"):
        Sampler(pipe, protocol)


def test_steps_that_the_scheduler_can_not_take_are_refused(unet_folder: Path, protocol: Protocol) -> None:
    pipe = load(local(unet_folder), dtype="float32", device="cpu")
    pipe.scheduler = LCMScheduler(original_inference_steps=4)
    with pytest.raises(Refused, match="can't take 9 steps"):
        Sampler(pipe, dataclasses.replace(protocol, steps=9))
