"""Files -> a diffusers pipeline that is ready to sample: safetensors only, no remote code."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import DiffusionPipeline, StableDiffusion3Pipeline
from torch import nn

from star_bench.assets.model_files import LocalCheckpoint
from star_bench.catalogue.model_parts import CENSOR, INDEX, UNUSED, check_folder, matters
from star_bench.errors import Refused, UsageError
from star_bench.files.json import read_config
from star_bench.generation.lora import add_lora
from star_bench.memory import BYTES, fitting, numbers_in

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def load(local: LocalCheckpoint, *, dtype: str, device: str) -> DiffusionPipeline:
    """The pipeline of a checkpoint, in eval mode and without progress bar, its LoRA on it if it has one.

    dtype: float32, float16 or bfloat16, for the denoiser and the text encoders. The VAE is read and run in float32
    (Flow-GRPO does so; half-precision decoding bands and overflows). Raises Refused for pickled weights, for code in the
    folder and for a LoRA that doesn't fit; MissingWeights for an incomplete folder; Incomplete for a
    model that does not fit into memory; UsageError for an unknown dtype.
    """
    if dtype not in DTYPES:
        raise UsageError(f"{dtype!r} is no precision", f"choose one of {', '.join(DTYPES)}")
    check_folder(local.folder)
    with _fitting(local.folder, dtype, "cpu"):
        pipe = _read(local.folder, dtype)
    with _fitting(local.folder, dtype, device):
        if local.lora_path is not None:
            add_lora(pipe, local.lora_path)
        pipe.to(device)
    pipe.set_progress_bar_config(disable=True)
    for part in pipe.components.values():
        if isinstance(part, nn.Module):
            part.eval().requires_grad_(False)
    return pipe


def _read(folder: Path, dtype: str) -> Any:
    """On the CPU."""
    try:
        with warnings.catch_warnings():
            # Newer diffusers would have it called dtype, which the oldest supported one doesn't know.
            warnings.filterwarnings("ignore", message=".*torch_dtype", category=FutureWarning)
            return DiffusionPipeline.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                torch_dtype={"vae": torch.float32, "default": DTYPES[dtype]},
                **_without_censor(folder),
            )
    except Exception as error:  # diffusers raises nearly anything for configurations that it did not write
        raise Refused(f"{folder} can't be loaded ({_first_line(error)})", "fetch the model again") from error


def _fitting(folder: Path, dtype: str, device: str) -> AbstractContextManager[None]:
    def needed() -> float:
        files = [path for path in folder.glob("*/*.safetensors") if matters(path.relative_to(folder).as_posix())]
        return numbers_in(files) * BYTES[dtype]

    half = "choose half precision (--dtype or compute.precision), " if dtype == "float32" else ""
    remedy = f"{half}free the device of what else uses it, or take a larger one"
    return fitting(f"the model in {folder}", device, remedy, needed)


def load_tokenizers(local: LocalCheckpoint) -> Any:
    """The tokenizers of a Stable Diffusion 3 pipeline, and which text encoders it has, without any weights: as much of it
    as tells what of a prompt the model reads.

    Raises what `load` raises.
    """
    check_folder(local.folder)
    index = read_config(local.folder / INDEX)
    weights = [
        name for name, said in index.items() if isinstance(said, list) and not name.startswith(("token", "sched"))
    ]
    try:
        pipe: Any = StableDiffusion3Pipeline.from_pretrained(
            local.folder, local_files_only=True, **dict.fromkeys(weights)
        )
    except Exception as error:  # diffusers raises nearly anything for configurations that it did not write
        raise Refused(f"{local.folder} can't be loaded ({_first_line(error)})", "fetch the model again") from error
    return SimpleNamespace(
        tokenizer=pipe.tokenizer,
        tokenizer_max_length=pipe.tokenizer_max_length,
        tokenizer_3=pipe.tokenizer_3,
        text_encoder_3=(index.get("text_encoder_3") or [None])[0],
    )


def denoiser(pipe: Any) -> Any:
    """The transformer or the UNet."""
    return pipe.transformer if getattr(pipe, "transformer", None) is not None else pipe.unet


def _without_censor(folder: Path) -> dict[str, Any]:
    """SD 1.5's safety checker paints pictures black, which a judge would count as a failure of the model."""
    named = read_config(folder / INDEX).keys() & set(UNUSED)
    return dict.fromkeys(named) | ({"requires_safety_checker": False} if CENSOR in named else {})


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
