"""The tiny pipeline and its LoRAs as files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from diffusers import StableDiffusion3Pipeline
from safetensors.torch import load_file, save_file
from tiny_sd3 import adapter, tiny_sd3

from star_bench.catalogue.protocol import Protocol


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny pipeline as a diffusers folder. Read only: copy it before changing it."""
    path = tmp_path_factory.mktemp("sd3") / "pipeline"
    tiny_sd3().save_pretrained(path)
    return path


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


@pytest.fixture
def protocol() -> Protocol:
    return Protocol(
        steps=3,
        guidance_scale=4.0,
        negative_prompt="",
        height=16,
        width=16,
        max_sequence_length=20,
        seed=7,
        dtype="float32",
        device="cpu",
    )


@pytest.fixture(scope="session")
def lora_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA in one file, as pipe.save_lora_weights writes it, alpha and all."""
    path = tmp_path_factory.mktemp("file")
    config, state = adapter()
    StableDiffusion3Pipeline.save_lora_weights(
        path, transformer_lora_layers=state, transformer_lora_adapter_metadata=config.to_dict()
    )
    return path / "pytorch_lora_weights.safetensors"


@pytest.fixture(scope="session")
def lora_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same LoRA as PeftModel.save_pretrained writes it."""
    path = tmp_path_factory.mktemp("peft")
    config, state = adapter()
    config.base_model_name_or_path = "stabilityai/stable-diffusion-3.5-medium"
    config.save_pretrained(path)
    save_file({f"base_model.model.{key}": value for key, value in state.items()}, path / "adapter_model.safetensors")
    return path


@pytest.fixture
def spoil(tmp_path: Path) -> Callable[[Path], Path]:
    """A copy of a LoRA, file or folder, in which one layer's name is wrong."""

    def spoiled(lora: Path) -> Path:
        if lora.is_dir():
            copy = Path(shutil.copytree(lora, tmp_path / "lora"))
            file = copy / "adapter_model.safetensors"
        else:
            copy = file = Path(shutil.copy(lora, tmp_path / "lora.safetensors"))
        state = load_file(file)
        first = next(iter(sorted(state)))
        state[first.replace("transformer_blocks.0", "transformer_blocks.9")] = state.pop(first)
        save_file(state, file, metadata={"format": "pt"})
        return copy

    return spoiled
