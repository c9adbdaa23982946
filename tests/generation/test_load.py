"""Loading: the same picture after save and load, LoRAs to the last key, and nothing that could run code."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, DPMSolverMultistepScheduler
from safetensors.torch import load_file, save_file
from tiny_sd3 import local, rewrite, tiny_sd3

from star_bench.errors import Incomplete, MissingWeights, Refused, UsageError
from star_bench.generation.pipeline import load
from star_bench.generation.sampler import Sampler
from star_bench.protocol import Protocol

ITEM = ("00000", "a photo of a red apple", 0)


def picture(folder: Path, protocol: Protocol, lora: Path | None = None) -> np.ndarray:
    pipe = load(local(folder, lora), dtype=protocol.dtype, device="cpu")
    image = Sampler(pipe, protocol).pixels([ITEM])[0]
    assert image is not None
    return image


def test_saving_and_loading_keeps_the_picture(folder: Path, tmp_path: Path, protocol: Protocol) -> None:
    pipe = tiny_sd3()
    pipe.set_progress_bar_config(disable=True)
    before = Sampler(pipe, protocol).pixels([ITEM])[0]
    assert before is not None and before.std() > 0.05
    assert np.array_equal(before, picture(folder, protocol))


def test_what_diffusers_writes_of_a_scheduler_is_read(folder: Path, tmp_path: Path, protocol: Protocol) -> None:
    """Its JSON has a number that JSON has not: -Infinity."""
    pipe = tiny_sd3()
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = DPMSolverMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3)
    pipe.save_pretrained(tmp_path / "pipeline")
    said = (tmp_path / "pipeline" / "scheduler" / "scheduler_config.json").read_text()
    assert '"lambda_min_clipped": -Infinity' in said
    assert local(tmp_path / "pipeline").digest != local(folder).digest
    before = Sampler(pipe, protocol).pixels([ITEM])[0]
    assert before is not None and np.array_equal(before, picture(tmp_path / "pipeline", protocol))


def test_the_vae_keeps_float32_weights_in_half_precision(folder: Path, protocol: Protocol) -> None:
    pipe = load(local(folder), dtype="bfloat16", device="cpu")
    exact = load_file(folder / "vae" / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(weight, exact[name]) for name, weight in pipe.vae.state_dict().items())
    assert {pipe.transformer.dtype, pipe.text_encoder.dtype, pipe.text_encoder_3.dtype} == {torch.bfloat16}
    assert not any(part.training for part in (pipe.transformer, pipe.vae, pipe.text_encoder, pipe.text_encoder_3))
    assert Sampler(pipe, protocol).generate([ITEM])[0] is not None


def test_a_lora_file_and_a_peft_folder_are_the_same_lora(
    folder: Path, lora_file: Path, lora_folder: Path, protocol: Protocol
) -> None:
    plain, file, peft = (picture(folder, protocol, lora) for lora in (None, lora_file, lora_folder))
    assert np.abs(plain - file).max() > 0.01
    assert np.abs(file - peft).max() < 1e-6


def test_a_lora_runs_in_the_pipelines_precision(folder: Path, lora_folder: Path, protocol: Protocol) -> None:
    pipe = load(local(folder, lora_folder), dtype="bfloat16", device="cpu")
    assert {weight.dtype for weight in pipe.transformer.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("kind", ["lora_file", "lora_folder"])
def test_a_wrong_lora_key_is_refused_by_name(
    folder: Path, kind: str, spoil: Callable[[Path], Path], request: pytest.FixtureRequest
) -> None:
    wrong = spoil(request.getfixturevalue(kind))
    with pytest.raises(Refused, match=r"transformer_blocks\.9\.\S+lora_A.*no such layer"):
        load(local(folder, wrong), dtype="float32", device="cpu")


@pytest.mark.parametrize("kind", ["lora_file", "lora_folder"])
def test_half_a_lora_is_refused(folder: Path, kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    lora = request.getfixturevalue(kind)
    copy = Path((shutil.copytree if lora.is_dir() else shutil.copy)(lora, tmp_path / f"copy{lora.suffix}"))
    file = copy / "adapter_model.safetensors" if copy.is_dir() else copy
    state = load_file(file)
    state.pop(next(key for key in sorted(state) if "lora_B" in key))
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(Refused, match=r"lacks .*lora_B"):
        load(local(folder, copy), dtype="float32", device="cpu")


def test_a_text_encoder_lora_is_refused(folder: Path, tmp_path: Path) -> None:
    save_file({"text_encoder.layers.0.lora_A.weight": torch.zeros(2, 2)}, tmp_path / "te.safetensors")
    with pytest.raises(Refused, match=r"text_encoder\.layers"):
        load(local(folder, tmp_path / "te.safetensors"), dtype="float32", device="cpu")


def test_a_lora_of_another_size_is_refused(folder: Path, lora_folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(lora_folder, tmp_path / "lora"))
    state = load_file(copy / "adapter_model.safetensors")
    save_file({key: torch.cat([value, value], 1) for key, value in state.items()}, copy / "adapter_model.safetensors")
    with pytest.raises(Refused, match="does not fit"):
        load(local(folder, copy), dtype="float32", device="cpu")


def test_pickled_weights_are_refused_in_words(copied: Path) -> None:
    weights = copied / "vae" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    checkpoint = local(copied)
    weights.unlink()
    with pytest.raises(Refused, match="only pickled weights") as refusal:
        load(checkpoint, dtype="float32", device="cpu")
    assert refusal.value.exit_code == 4 and not isinstance(refusal.value, MissingWeights)


def test_code_in_the_folder_is_refused(copied: Path) -> None:
    checkpoint = local(copied)
    rewrite(copied / "model_index.json", vae=["my_module", "MyVAE"])
    with pytest.raises(Refused, match="my_module"):
        load(checkpoint, dtype="float32", device="cpu")
    rewrite(copied / "model_index.json", vae=["diffusers", "AutoencoderKL"], _class_name=["pipeline", "Mine"])
    with pytest.raises(Refused, match="pipeline class of its own"):
        load(checkpoint, dtype="float32", device="cpu")
    rewrite(copied / "model_index.json", _class_name="StableDiffusion3Pipeline")
    (copied / "vae" / "my_vae.py").write_text("print('ran')")
    with pytest.raises(Refused, match="Python code"):
        load(checkpoint, dtype="float32", device="cpu")


def test_a_torn_weights_file_is_refused(copied: Path) -> None:
    checkpoint = local(copied)
    weights = copied / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(Refused, match="can't be loaded"):
        load(checkpoint, dtype="float32", device="cpu")


def test_an_incomplete_folder_is_named(copied: Path) -> None:
    checkpoint = local(copied)
    (copied / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(MissingWeights, match=r"transformer/diffusion_pytorch_model\.safetensors is not there"):
        load(checkpoint, dtype="float32", device="cpu")


def test_an_unknown_precision_is_a_usage_error(folder: Path) -> None:
    with pytest.raises(UsageError, match="float8"):
        load(local(folder), dtype="float8", device="cpu")


CPU = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried to allocate"
)


@pytest.mark.parametrize("error", [CPU, torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), MemoryError()])
@pytest.mark.parametrize("place", ["reading", "moving"])
def test_a_model_that_does_not_fit_is_told_with_what_it_takes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, place: str
) -> None:
    """Not as a broken folder, nor as a bug. diffusers may wrap what torch raises while it reads."""

    def full(*_: object, **__: object) -> None:
        if place == "moving":
            raise error
        raise ValueError("cannot load") from error

    name = "from_pretrained" if place == "reading" else "to"
    monkeypatch.setattr(DiffusionPipeline, name, classmethod(full) if place == "reading" else full)
    numbers = sum(t.numel() for path in folder.glob("*/*.safetensors") for t in load_file(path).values())
    with pytest.raises(Incomplete) as caught:
        load(local(folder), dtype="float32", device="cpu")
    said = str(caught.value)
    assert f"does not fit into the memory of cpu: its weights alone take {4 * numbers / 1e9:.3g} GB and " in said
    assert "GB are free: give --dtype bfloat16, which takes half of it" in said
    assert caught.value.exit_code == 3
