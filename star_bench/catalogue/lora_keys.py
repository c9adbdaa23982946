"""The names of a LoRA's tensors, in the forms that trainers write them in: which layer of which part of a pipeline each
belongs to. Reads no tensor; imports no torch.

The forms: PEFT's folder, the one file of diffusers in its newer and older words, and that of kohya's scripts, whose names
of layers have _ for every dot.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Final, NamedTuple

from safetensors import SafetensorError, safe_open

from star_bench.errors import Refused

ADAPTER: Final = "adapter_model.safetensors"
"""PEFT's name for an adapter's weights."""
ADAPTER_CONFIG: Final = "adapter_config.json"
"""Beside them: the settings, without which they mean nothing."""
DIFFUSERS: Final = "pytorch_lora_weights.safetensors"
"""diffusers' name for a LoRA's."""

_PEFT = "base_model.model."
_DOTTED = re.compile(r"(transformer|unet|text_encoder(?:_\d)?)\.(.+)")
_KOHYA = re.compile(r"lora_(unet|te\d?)_(.+)")
_TENSOR = re.compile(
    r"(?P<layer>.+?)\.(?:"
    r"lora_(?P<side>[AB])\.weight|lora(?:_linear_layer)?[._](?P<way>down|up)\.weight"
    r"|processor\.(?P<projection>to_\w+?)_lora\.(?P<old>down|up)\.weight"
    r"|(?P<other>alpha|lora_B\.bias|lora_magnitude_vector))"
)
_SIDES = {"A": "A", "B": "B", "down": "A", "up": "B"}


class Key(NamedTuple):
    """part: a folder of the pipeline. layer: in that part; of kohya's names, still with _ for dots. tensor: in PEFT's
    words lora_A.weight, lora_B.weight, lora_B.bias or lora_magnitude_vector; or alpha."""

    part: str
    layer: str
    tensor: str


def read_keys(path: Path, parts: Collection[str]) -> dict[str, Key]:
    """What each key of a LoRA is. path: a .safetensors file, or a PEFT folder. parts: names of the pipeline's.

    Raises Refused for a file that can't be read, and with the first key that can't be loaded.
    """
    file = path / ADAPTER if path.is_dir() else path
    if not file.is_file():
        raise Refused(f"{path} holds no {ADAPTER}", "save the adapter as safetensors, not pickled")
    try:
        with safe_open(file, "numpy") as opened:
            names = list(opened.keys())
    except (OSError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise Refused(f"{file} is no readable safetensors file ({reason})", "fetch it again") from error
    if not path.is_dir() and any(name.startswith(_PEFT) for name in names):
        raise Refused(
            f"{file} is an adapter of PEFT's, whose settings are in its {ADAPTER_CONFIG}, which is not beside it",
            f"give the folder that holds both {ADAPTER} and {ADAPTER_CONFIG}",
        )
    denoiser = "transformer" if "transformer" in parts else "unet"
    found = {name: _key(name, denoiser, is_peft=path.is_dir()) for name in sorted(names)}
    if unknown := [name for name, key in found.items() if key is None]:
        known = f"only keys under {_PEFT!r} can be loaded" if path.is_dir() else "that is no form of a LoRA's key"
        raise unmatched(file, unknown, known)
    keys = {name: key for name, key in found.items() if key is not None}
    if not keys:
        raise Refused(f"{file} holds no LoRA: it is empty", "fetch or save it again")
    if elsewhere := [name for name, key in keys.items() if key.part not in parts]:
        raise unmatched(file, elsewhere, f"the base model has no {keys[elsewhere[0]].part}")
    return keys


def _key(name: str, denoiser: str, *, is_peft: bool) -> Key | None:
    if is_peft:
        part, rest = denoiser, name.removeprefix(_PEFT) if name.startswith(_PEFT) else ""
    elif dotted := _DOTTED.fullmatch(name):
        part, rest = dotted[1], dotted[2]
    elif flat := _KOHYA.fullmatch(name):
        encoder = flat[1].replace("te", "text_encoder_").removesuffix("_1").removesuffix("_")
        part, rest = denoiser if flat[1] == "unet" else encoder, flat[2]
    else:
        return None
    found = _TENSOR.fullmatch(rest)
    if found is None:
        return None
    layer, side = found["layer"], _SIDES.get(found["side"] or found["way"] or found["old"])
    if found["projection"]:
        layer += f".{found['projection']}" + (".0" if found["projection"] == "to_out" else "")
    return Key(part, layer, f"lora_{side}.weight" if side else found["other"])


def unmatched(file: Path, names: list[str], why: str) -> Refused:
    """What to say of keys that would be ignored."""
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return Refused(f"{file} holds the key {names[0]!r}{more}, and {why}", "give the LoRA that was made for this base")
