"""Whether the noise that a scheduler draws can be seeded per image: found by what it does, not by its name."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import torch
from torch import Tensor

from star_bench.catalogue.model_parts import INDEX
from star_bench.errors import Refused
from star_bench.files.json import read_config

CLOSE = 1e-4  # chosen here: batches of another size round otherwise


def check_seeded_in(folder: Path, steps: int) -> None:
    """`check_seeded` of a pipeline's folder, without its weights."""
    index = read_config(folder / INDEX)
    try:
        pipeline = getattr(diffusers, index["_class_name"])
        scheduler = getattr(diffusers, index["scheduler"][1]).from_pretrained(folder / "scheduler")
    except Exception as error:  # diffusers raises nearly anything for configurations that it did not write
        reason = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
        raise Refused(f"the scheduler in {folder} can't be loaded ({reason})", "fetch the model again") from error
    check_seeded(pipeline, scheduler, steps)


def check_seeded(pipeline: type, scheduler: Any, steps: int) -> None:
    """Steps a copy of the scheduler through a small tensor, as its pipeline calls it: once alone, and once as the first of
    two images and after another state of torch's global generator.

    steps: of the protocol. Raises Refused where the first image is not the same both times, and for a scheduler that can't
    take so many steps.
    """
    steps = max(steps, 2)  # the last step draws nothing
    try:
        alone, beside = (_trial(pipeline, copy.deepcopy(scheduler), steps, images) for images in (1, 2))
    except Exception as error:  # a scheduler raises nearly anything for settings that do not fit
        reason = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
        raise Refused(
            f"the scheduler {type(scheduler).__name__} can't take {steps} steps ({reason})",
            "ask for another number of steps, or save the model with another scheduler",
        ) from error
    if not torch.allclose(alone[0], beside[0], rtol=CLOSE, atol=CLOSE, equal_nan=True):
        raise Refused(
            f"the scheduler draws noise that has no seed ({type(scheduler).__name__} in a {pipeline.__name__}: "
            "no generator of each image reaches it)",
            "save the model with a scheduler that draws none, such as FlowMatchEulerDiscreteScheduler for SD3 "
            "(stochastic_sampling=False) or DDIMScheduler for the others",
        )


def _trial(pipeline: Any, scheduler: Any, steps: int, images: int) -> Tensor:
    """(B, 4, 4, 4), after all steps."""
    sample = torch.stack([torch.randn(4, 4, 4, generator=_generator(image)) for image in range(images)])
    given: dict[str, Any] = {}
    if hasattr(pipeline, "prepare_extra_step_kwargs"):  # it asks the pipeline's scheduler what it takes
        generators = [_generator(10 + image) for image in range(images)]
        given = pipeline.prepare_extra_step_kwargs(SimpleNamespace(scheduler=scheduler), generators, 0.0)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(images)
        shift = {"mu": 0.5} if scheduler.config.get("use_dynamic_shifting") else {}
        scheduler.set_timesteps(steps, device="cpu", **shift)
        sample = sample * scheduler.init_noise_sigma if hasattr(scheduler, "init_noise_sigma") else sample
        for time in scheduler.timesteps:
            scaled = scheduler.scale_model_input(sample, time) if hasattr(scheduler, "scale_model_input") else sample
            sample = scheduler.step(scaled / 2, time, sample, **given, return_dict=False)[0]
    return sample


def _generator(seed: int) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(seed)
