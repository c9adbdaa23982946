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
from tiny_sd3 import adapter, local, rewrite, tiny_sd3

from star_bench.catalogue.protocol import Protocol
from star_bench.errors import Incomplete, MissingWeights, Refused, UsageError
from star_bench.generation.ldm_names import to_diffusers
from star_bench.generation.pipeline import load
from star_bench.generation.sampler import Sampler

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


def test_a_text_encoder_lora_of_another_model_is_refused(folder: Path, tmp_path: Path) -> None:
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


# LoRAs in other forms than PEFT's


def kohya(state: dict[str, torch.Tensor], alpha: float = 4.0) -> dict[str, torch.Tensor]:
    """The same LoRA as kohya's scripts write it."""
    out: dict[str, torch.Tensor] = {}
    for key, value in state.items():
        layer, _, side = key.partition(".lora_")
        flat = f"lora_unet_{layer.replace('.', '_')}"
        out[f"{flat}.lora_{'down' if side == 'A.weight' else 'up'}.weight"] = value
        out[f"{flat}.alpha"] = torch.tensor(alpha)
    return out


def with_alphas(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    layers = {key.partition(".lora_")[0] for key in state}
    alphas = {f"transformer.{layer}.alpha": torch.tensor(4.0) for layer in layers}
    return {f"transformer.{key}": value for key, value in state.items()} | alphas


def older(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """diffusers' words before PEFT; without alphas the scale is 1, so the 2 of alpha 4 and rank 2 is put into B."""
    words = {".lora_A.": ".lora.down.", ".lora_B.": ".lora.up."}
    return {
        f"transformer.{key.replace(peft, word)}": value * (2 if peft == ".lora_B." else 1)
        for peft, word in words.items()
        for key, value in state.items()
        if peft in key
    }


@pytest.mark.parametrize("form", [kohya, with_alphas, older])
def test_a_lora_is_the_same_in_every_form(
    folder: Path, lora_folder: Path, form: Callable[..., dict[str, torch.Tensor]], tmp_path: Path, protocol: Protocol
) -> None:
    file = tmp_path / "lora.safetensors"
    save_file(form(adapter()[1]), file)
    plain, peft, other = (picture(folder, protocol, lora) for lora in (None, lora_folder, file))
    assert np.abs(plain - peft).max() > 0.01
    assert np.abs(other - peft).max() < 1e-6


def test_each_layer_has_its_own_rank_and_alpha(folder: Path, tmp_path: Path) -> None:
    """W + (alpha / rank) B A, computed here."""
    shapes = {
        "transformer_blocks.0.attn.to_q": (2, 1.0),
        "transformer_blocks.1.attn.to_q": (3, 6.0),
        "proj_out": (2, None),
    }
    base = load(local(folder), dtype="float32", device="cpu").transformer
    state, wanted = {}, {}
    for name, (rank, alpha) in shapes.items():
        weight = base.get_submodule(name).weight
        a, b = torch.randn(rank, weight.shape[1]), torch.randn(weight.shape[0], rank)
        flat = f"lora_unet_{name.replace('.', '_')}"
        state |= {f"{flat}.lora_down.weight": a, f"{flat}.lora_up.weight": b}
        if alpha is not None:
            state[f"{flat}.alpha"] = torch.tensor(alpha)
        wanted[name] = weight + (1.0 if alpha is None else alpha / rank) * b @ a
    save_file(state, tmp_path / "lora.safetensors")
    model = load(local(folder, tmp_path / "lora.safetensors"), dtype="float32", device="cpu").transformer
    for name, weight in wanted.items():
        layer = model.get_submodule(name)
        assert torch.allclose(layer.base_layer.weight + layer.get_delta_weight("default"), weight, atol=1e-6)


def test_a_lora_of_the_text_encoders_is_loaded_too(folder: Path, tmp_path: Path) -> None:
    layer, a, b = "text_model.encoder.layers.1.self_attn.q_proj", torch.randn(2, 16), torch.randn(16, 2)
    dotted = {f"text_encoder_2.{layer}.lora_A.weight": a, f"text_encoder_2.{layer}.lora_B.weight": b}
    flat = f"lora_te2_{layer.replace('.', '_')}"
    kohyas = {f"{flat}.lora_down.weight": a, f"{flat}.lora_up.weight": b, f"{flat}.alpha": torch.tensor(2.0)}
    for number, state in enumerate((dotted, kohyas)):
        save_file(state, tmp_path / f"{number}.safetensors")
        pipe = load(local(folder, tmp_path / f"{number}.safetensors"), dtype="float32", device="cpu")
        names = {name.removeprefix("text_model."): part for name, part in pipe.text_encoder_2.named_modules()}
        assert torch.allclose(names[layer.removeprefix("text_model.")].get_delta_weight("default"), b @ a, atol=1e-6)


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("transformer.transformer_blocks.0.attn.to_q.hada_w1_a", "hada_w1_a.*no form of a LoRA's key"),
        ("lora_unet_transformer_blocks_0_attn_to_q.dora_scale", "dora_scale.*no form of a LoRA's key"),
        ("lora_unet_transformer_blocks_9_attn_to_q.alpha", "no such layer"),
        ("lora_unet_transformer_blocks_0_attn_to_v.alpha", "lacks 'transformer_blocks.0.attn.to_v.lora_A.weight'"),
        ("lora_te4_encoder_q.lora_down.weight", "the base model has no text_encoder_4"),
        ("unet.mid_block.lora_A.weight", "the base model has no unet"),
        ("base_model.model.transformer_blocks.0.attn.to_q.lora_A.weight", "give the folder.*adapter_config.json"),
    ],
)
def test_a_key_that_would_be_ignored_is_refused(folder: Path, key: str, sentence: str, tmp_path: Path) -> None:
    file = tmp_path / "lora.safetensors"
    save_file(kohya(adapter()[1]) | {key: torch.ones(1)}, file)
    with pytest.raises(Refused, match=sentence):
        load(local(folder, file), dtype="float32", device="cpu")


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("input_blocks_0_0", "conv_in"),
        ("input_blocks_3_0_op", "down_blocks_0_downsamplers_0_conv"),
        ("input_blocks_4_0_skip_connection", "down_blocks_1_resnets_0_conv_shortcut"),
        (
            "input_blocks_4_1_transformer_blocks_0_attn1_to_q",
            "down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q",
        ),
        ("middle_block_1_proj_in", "mid_block_attentions_0_proj_in"),
        ("output_blocks_5_1_proj_out", "up_blocks_1_attentions_2_proj_out"),
        ("output_blocks_2_2_conv", "up_blocks_0_upsamplers_0_conv"),
        ("output_blocks_0_0_in_layers_2", "up_blocks_0_resnets_0_conv1"),
        ("down_blocks_1_attentions_0_proj_in", "down_blocks_1_attentions_0_proj_in"),
    ],
)
def test_layers_of_the_original_unet_are_found(theirs: str, ours: str) -> None:
    """SDXL's, two layers per block, as diffusers converts them."""
    assert to_diffusers(theirs, 2) == ours


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
    assert "GB are free: choose half precision (--dtype or compute.precision), free the device" in said
    assert caught.value.exit_code == 3
