"""What a training run leaves for others: a PEFT LoRA folder that `star-bench run --model DIR` runs, and its card."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml
from peft import get_peft_model_state_dict
from safetensors.torch import save
from torch import Tensor

from star_bench import checkpoints
from star_bench.checkpoints import FOLDER_CARD, Checkpoint, Entry
from star_bench.errors import UsageError
from star_bench.files import sha256_of, to_json, write_atomically
from star_bench.generation.pipeline import ADAPTER
from star_bench.json_files import read_json
from star_bench.training.policy import Policy

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
CARD = "card.json"
RECIPE = "recipe.yaml"
METRICS = "metrics.jsonl"
NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


def write_lora(folder: Path, policy: Policy, base: Checkpoint, *, steps: int | None = None) -> str:
    """The transformer's LoRA as it stands now, float32, as PEFT's own files; and star-bench.yaml with its licence and the
    guidance that it was trained under. steps: that it is meant to be run with, where not the base's. Returns the weights'
    sha256."""
    state: dict[str, Tensor] = get_peft_model_state_dict(
        policy.transformer, adapter_name=ADAPTER, save_embedding_layers=False
    )
    tensors = {f"base_model.model.{name}": tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    write_atomically(folder / WEIGHTS, save(tensors, metadata={"format": "pt"}))
    config = policy.config.to_dict() | {"base_model_name_or_path": base.name, "inference_mode": True}
    config["target_modules"] = sorted(config["target_modules"])
    write_atomically(folder / CONFIG, to_json(json.loads(json.dumps(config, default=str))))
    card: dict[str, Any] = {
        "precision": base.precision,
        "licence": f"that of its base, {base.name}: {base.licence}",
        "licence_url": base.licence_url,
        "commercial": base.commercial,
        "generation": {"guidance_scale": policy.guidance_scale, **({} if steps is None else {"steps": steps})},
    }
    write_atomically(folder / FOLDER_CARD, yaml.safe_dump(card, sort_keys=False).encode())
    return sha256_of(folder / WEIGHTS)


def register(folder: Path, name: str, file: Path) -> None:
    """Adds a trained LoRA to a checkpoints file, under a name of its own; what stands there stays as it is.

    Raises UsageError for a folder that no training finished, a name that is taken or can't be one, or a file that can't
    be read.
    """
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r} can't be a checkpoint's name", "use letters, digits, '.', '_' and '-'")
    if name in checkpoints.entries(file):
        raise UsageError(f"{file} has a {name!r} already", "choose another name")
    if not (folder / CARD).is_file() or not (folder / WEIGHTS).is_file():
        raise UsageError(f"{folder} holds no {CARD} and {WEIGHTS}", "give the --out folder of a finished training")
    trained = checkpoints.resolve(str(folder))
    said = read_json(folder / CARD, "give the --out folder of a finished training")
    entry: dict[str, Any] = {
        "lora": {"path": str(folder.resolve())},
        "base": trained.base,
        "precision": trained.precision,
        "licence": trained.licence,
        "licence_url": trained.licence_url,
        "commercial": trained.commercial,
        "generation": trained.generation.model_dump(include={"guidance_scale", "steps"}, exclude_none=True),
        "note": f"Trained here by recipe {said['recipe']}, seed {said['seed']}, {said['epochs']} epochs.",
    }
    Entry.model_validate(entry)
    text = file.read_text(encoding="utf-8").rstrip("\n")
    added = yaml.safe_dump({name: entry}, sort_keys=False, allow_unicode=True, width=1000)
    write_atomically(file, f"{text}\n\n{added}".encode())
    checkpoints.entries.cache_clear()  # it has read the file as it was
