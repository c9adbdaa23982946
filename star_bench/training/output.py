"""What a training run leaves for others: a PEFT LoRA folder or a whole pipeline, which `star-bench run --model DIR` runs."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import yaml
from peft import get_peft_model_state_dict
from safetensors.torch import save
from torch import Tensor

from star_bench.catalogue import checkpoints
from star_bench.catalogue.checkpoints import FOLDER_CARD, Checkpoint, Entry
from star_bench.catalogue.model_parts import INDEX, parts_of
from star_bench.errors import UsageError
from star_bench.files.atomic import disk_error, to_json, write_atomically
from star_bench.files.digests import digest_of, sha256_of
from star_bench.files.json import read_json
from star_bench.generation.lora import NAME as ADAPTER
from star_bench.training.policy import FullPolicy, LoraPolicy, Policy

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
TRANSFORMER = "transformer"
CARD = "card.json"
RECIPE = "recipe.yaml"
METRICS = "metrics.jsonl"
NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


def write_lora(folder: Path, policy: LoraPolicy, base: Checkpoint, *, steps: int | None = None) -> str:
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
    _write_card(folder, policy, base, steps)
    return sha256_of(folder / WEIGHTS)


def write_pipeline(folder: Path, policy: FullPolicy, base: Checkpoint, local: Path, *, steps: int | None = None) -> str:
    """The pipeline with the transformer as it stands within `policy.published`, in the precision that forwards had; all
    other files are those of `local`, the base's folder, as hard links where the disk allows.

    Returns the transformer's content digest. Raises DiskError.
    """
    partial, place = folder / ".transformer.partial", folder / TRANSFORMER
    try:
        for part in (part for part in parts_of(local) if part != TRANSFORMER):
            for file in (path for path in (local / part).rglob("*") if path.is_file()):
                _link(file, folder / file.relative_to(local))
        shutil.rmtree(partial, ignore_errors=True)
        policy.frozen.save_pretrained(partial)
        digest = digest_of({file.name: sha256_of(file) for file in sorted(partial.iterdir())})
        shutil.rmtree(place, ignore_errors=True)
        os.replace(partial, place)
    except OSError as error:
        raise disk_error(place, error) from None
    write_atomically(folder / INDEX, (local / INDEX).read_bytes())
    _write_card(folder, policy, base, steps)
    return digest


def _link(file: Path, place: Path) -> None:
    if place.exists():
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(file.resolve(), place)
    except OSError:  # another disk, or one without links
        shutil.copyfile(file, place)


def _write_card(folder: Path, policy: Policy, base: Checkpoint, steps: int | None) -> None:
    """star-bench.yaml: the generation settings of a pipeline are its base's own, which a LoRA finds there by itself."""
    own = {} if isinstance(policy, LoraPolicy) else base.generation.model_dump(exclude_none=True)
    card: dict[str, Any] = {
        "precision": base.precision,
        "licence": f"that of its base, {base.name}: {base.licence}",
        "licence_url": base.licence_url,
        "commercial": base.commercial,
        "generation": {
            **own,
            "guidance_scale": policy.guidance_scale,
            **({} if steps is None else {"steps": steps}),
        },
    }
    write_atomically(folder / FOLDER_CARD, yaml.safe_dump(card, sort_keys=False).encode())


def register(folder: Path, name: str, file: Path) -> None:
    """Adds what a training left to a checkpoints file, under a name of its own; what stands there stays as it is.

    Raises UsageError for a folder that no training finished, a name that is taken or can't be one, or a file that can't
    be read.
    """
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r} can't be a checkpoint's name", "use letters, digits, '.', '_' and '-'")
    if name in checkpoints.names() or (file.exists() and name in checkpoints.entries(file)):
        raise UsageError(f"there is a {name!r} already", "choose another name")
    is_lora = (folder / WEIGHTS).is_file()
    if not (folder / CARD).is_file() or not (is_lora or (folder / INDEX).is_file()):
        raise UsageError(f"{folder} holds no {CARD} and {WEIGHTS}", "give the --out folder of a finished training")
    trained = checkpoints.resolve(str(folder))
    said = read_json(folder / CARD, "give the --out folder of a finished training")
    entry: dict[str, Any] = {
        "lora" if is_lora else "source": {"path": str(folder.resolve())},
        **({"base": trained.base} if is_lora else {}),
        "precision": trained.precision,
        "licence": trained.licence,
        "licence_url": trained.licence_url,
        "commercial": trained.commercial,
        "generation": trained.generation.model_dump(
            include={"guidance_scale", "steps"} if is_lora else None, exclude_none=True
        ),
        "note": f"Trained here by recipe {said['recipe']}, seed {said['seed']}, {said['epochs']} epochs.",
    }
    Entry.model_validate(entry)
    text = file.read_text(encoding="utf-8").rstrip("\n") if file.exists() else "# Checkpoints of your own."
    added = yaml.safe_dump({name: entry}, sort_keys=False, allow_unicode=True, width=1000)
    write_atomically(file, f"{text}\n\n{added}".encode())
