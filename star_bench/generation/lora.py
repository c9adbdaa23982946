"""A LoRA on a pipeline, unmerged, every tensor of it or none: in any of the forms that `lora_keys` knows."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from peft import LoraConfig, PeftConfig, get_peft_model_state_dict, inject_adapter_in_model, set_peft_model_state_dict
from safetensors import safe_open
from torch import Tensor, nn

from star_bench.catalogue.lora_keys import ADAPTER, Key, read_keys, unmatched
from star_bench.errors import Refused
from star_bench.generation.ldm_names import to_diffusers

NAME = "default"
"""Of the adapter in the model."""


class Part(NamedTuple):
    """What a file has for one part of a pipeline. placed: the file's keys by PEFT's, such as "layer.lora_A.weight"; the
    rest by PEFT's keys, but alphas by layer, and settings as diffusers writes them into a file's metadata."""

    placed: dict[str, str]
    state: dict[str, Tensor]
    alphas: dict[str, float]
    settings: dict[str, Any]


def add_lora(pipe: Any, path: Path) -> None:
    """path: a .safetensors file, or a PEFT folder. Without an alpha a layer's LoRA has the scale 1 (diffusers, kohya).

    Every tensor of the file is loaded, and nothing else is left at its initial value. Raises Refused with the first key
    of which that is not so, for values that are not finite, and for settings that don't fit.
    """
    keys = read_keys(path, [name for name, part in pipe.components.items() if part is not None])
    file = path / ADAPTER if path.is_dir() else path
    with safe_open(file, "pt") as opened:
        tensors = {name: opened.get_tensor(name) for name in keys}
        said = json.loads((opened.metadata() or {}).get("lora_adapter_metadata", "{}"))
    if broken := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
        raise unmatched(file, broken, "its values are not all finite")
    for part in dict.fromkeys(key.part for key in keys.values()):
        model: nn.Module = getattr(pipe, part)
        own = _part(file, model, {name: key for name, key in keys.items() if key.part == part}, tensors)
        own.settings.update(
            {name.removeprefix(f"{part}."): value for name, value in said.items() if name.startswith(f"{part}.")}
        )
        try:
            _inject(model, _peft_config(path) if path.is_dir() else _config(file, own), own.state)
        except Refused:
            raise
        except Exception as error:  # peft raises nearly anything for a configuration that does not fit
            reason = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
            raise Refused(f"{file} does not fit its base model ({reason})", "name the right base") from error
        # save_embedding_layers: "auto" would ask the hub about the base model.
        loaded = set(get_peft_model_state_dict(model, adapter_name=NAME, save_embedding_layers=False))
        if ignored := sorted(own.placed[key] for key in own.state.keys() - loaded):
            raise unmatched(file, ignored, "it was not loaded")
        if lacking := loaded - own.state.keys():
            raise _lacks(file, min(lacking))


def _part(file: Path, model: nn.Module, keys: Mapping[str, Key], tensors: Mapping[str, Tensor]) -> Part:
    """Without settings. Raises Refused for a layer that the model has not, or that the file has twice."""
    layers = {_flat(name): name for name, _ in model.named_modules()}
    per_block = getattr(getattr(model, "config", None), "layers_per_block", 2)
    out = Part({}, {}, {}, {})
    lost = []
    for name, key in keys.items():
        flat = _flat(key.layer)
        layer = layers.get(flat) or (layers.get(to_diffusers(flat, per_block)) if isinstance(per_block, int) else None)
        if layer is None:
            lost.append(name)
            continue
        place = f"{layer}.{key.tensor}"
        if place in out.placed:
            raise unmatched(file, [name], f"{out.placed[place]!r} is the same")
        out.placed[place] = name
        if key.tensor == "alpha":
            out.alphas[layer] = float(tensors[name])
        else:
            out.state[place] = tensors[name]
    if lost:
        raise unmatched(file, lost, "the base model has no such layer")
    return out


def _flat(layer: str) -> str:
    """One name for kohya's and for the dotted one. transformers has CLIP's layers under text_model in some versions only."""
    return layer.replace(".", "_").removeprefix("text_model_")


def _config(file: Path, part: Part) -> LoraConfig:
    """From the metadata where diffusers has written it, else from the tensors."""
    if part.settings and part.alphas:
        raise Refused(f"{file} says its alphas twice, by keys and in its metadata", "save the LoRA again")
    if part.settings:
        return LoraConfig(**part.settings)
    end = ".lora_A.weight"
    ranks = {key.removesuffix(end): len(tensor) for key, tensor in part.state.items() if key.endswith(end)}
    if alone := {re.split(r"\.(?:lora_|alpha)", key)[0] for key in part.placed} - ranks.keys():
        raise _lacks(file, min(alone) + end)
    alphas = {layer: part.alphas.get(layer, rank) for layer, rank in ranks.items()}
    rank, alpha = (Counter(values.values()).most_common(1)[0][0] for values in (ranks, alphas))
    return LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules="|".join(map(re.escape, ranks)),  # a list would also take layers whose names end so
        rank_pattern={f"^{re.escape(layer)}": own for layer, own in ranks.items() if own != rank},
        alpha_pattern={f"^{re.escape(layer)}": own for layer, own in alphas.items() if own != alpha},
        use_dora=any("lora_magnitude_vector" in key for key in part.state),
        lora_bias=any(key.endswith(".bias") for key in part.state),
    )


def _peft_config(folder: Path) -> LoraConfig:
    config = PeftConfig.from_pretrained(str(folder))
    if not isinstance(config, LoraConfig):
        raise Refused(f"{folder} is a {config.peft_type} adapter", "only LoRA adapters can be loaded")
    return config


def _inject(model: nn.Module, config: LoraConfig, state: dict[str, Tensor]) -> None:
    """Into the model's own layers, as PeftModel does, but without its wrapper: blocks keep their names."""
    config.inference_mode, config.base_model_name_or_path = True, None
    inject_adapter_in_model(config, model, adapter_name=NAME)
    set_peft_model_state_dict(model, state, adapter_name=NAME)


def _lacks(file: Path, key: str) -> Refused:
    return Refused(f"{file} lacks {key!r}", "fetch or save the LoRA again, all of it")
