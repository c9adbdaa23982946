"""The files of a checkpoint on this machine: local folders, the Hugging Face cache, the network last.

Only safetensors, JSON and text are ever fetched or read: no pickles, no Python. Imports no torch.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from star_bench.assets import hub_files
from star_bench.assets.asset import Asset
from star_bench.assets.cache import recall, remember
from star_bench.assets.hub_files import PIPELINE, Layout
from star_bench.catalogue.checkpoints import Checkpoint, Source
from star_bench.catalogue.lora_keys import ADAPTER, ADAPTER_CONFIG, DIFFUSERS
from star_bench.catalogue.model_parts import INDEX, SUFFIXES, check_folder, check_no_whole_model, matters, parts_of
from star_bench.catalogue.shipped import PACKAGE
from star_bench.errors import MissingWeights
from star_bench.files.digests import sha256_of

DIGESTS = "digests.json"


@dataclass(frozen=True)
class LocalCheckpoint:
    """Files that are on this machine and complete."""

    folder: Path
    """A diffusers pipeline folder."""
    lora_path: Path | None
    """A .safetensors file, or a PEFT folder with adapter_config.json."""
    revision: str | None
    """The hub's commit, "base+lora" where both come from a hub; None for local files."""
    digest: str
    """content_digest of the files: what enters the key of every stored image."""


def locate(checkpoint: Checkpoint, *, fetch: bool = True) -> LocalCheckpoint:
    """The files of a checkpoint: local ones, the Hugging Face cache, and only then, with `fetch`, the network.

    Raises MissingWeights for weights that are not released or not here, Refused for a folder that could run code or that
    diffusers can't load as it is, UsageError for one whose tokenizer needs a package that is not installed, and
    for a LoRA that is a whole model.
    """
    if checkpoint.status == "claimed":
        raise MissingWeights(
            f"{checkpoint.name} is only claimed, its weights are not released",
            "choose a checkpoint whose weights exist, or give `--model PATH` to your own",
        )
    folder, revision = _place(checkpoint.source, PIPELINE, fetch)
    if revision is None:
        check_folder(folder)
    lora_path, lora_revision = None, None
    if checkpoint.lora:
        wanted = checkpoint.lora.weight_name
        place, lora_revision = _place(checkpoint.lora, _lora_layout(wanted), fetch)
        lora_path = _lora_in(place, wanted)
        if lora_path.is_file():
            check_no_whole_model(lora_path)
    commits = "+".join(commit for commit in (revision, lora_revision) if commit)
    return LocalCheckpoint(folder, lora_path, commits or None, content_digest(folder, lora_path))


def asset_of(checkpoint: Checkpoint, name: str) -> Asset:
    """name: what `star-bench fetch` is given."""
    if checkpoint.status == "claimed":
        return Asset(f"the model {checkpoint.name}", name, lambda: locate(checkpoint, fetch=False))

    def size() -> int | None:
        found = [
            hub_files.size(source.hub, source.revision, layout)
            for source, layout in _sources(checkpoint)
            if source.hub is not None
        ]
        return None if None in found else sum(each or 0 for each in found)

    return Asset(
        f"the model {checkpoint.name}",
        name,
        lambda: locate(checkpoint, fetch=False),
        lambda _: locate(checkpoint),
        size,
    )


def _sources(checkpoint: Checkpoint) -> list[tuple[Source, Layout]]:
    lora = [(checkpoint.lora, _lora_layout(checkpoint.lora.weight_name))] if checkpoint.lora else []
    return [(checkpoint.source, PIPELINE), *lora]


def _place(source: Source, layout: Layout, fetch: bool) -> tuple[Path, str | None]:
    if source.hub:
        return hub_files.find(source.hub, source.revision, layout, fetch=fetch)
    path = PACKAGE / source.shipped if source.shipped else Path(source.path or "")
    if not path.exists():
        remedy = "reinstall star-bench" if source.shipped else "check the path"
        raise MissingWeights(f"there are no weights at {path}", f"{remedy}, or give `--model PATH`")
    return path, None


def _lora_layout(wanted: str | None) -> Layout:
    patterns = [wanted] if wanted else ["*.json", "*.safetensors"]
    return Layout([], lambda _: patterns, lambda place: _lora_in(place, wanted))


def _lora_in(place: Path, wanted: str | None) -> Path:
    if place.is_file():
        return place
    if (place / ADAPTER_CONFIG).is_file():
        if not (place / ADAPTER).is_file():
            raise MissingWeights(f"{place / ADAPTER} is not there", "fetch or save the adapter again, as safetensors")
        return place
    if wanted is None and (place / DIFFUSERS).is_file():
        return place / DIFFUSERS
    files = [place / wanted] if wanted else sorted(place.glob("*.safetensors"))
    if len(files) != 1 or not files[0].is_file():
        raise MissingWeights(f"{place} holds no single LoRA file", "name it with `weight_name` or give its path")
    return files[0]


def content_digest(folder: Path, lora: Path | None = None) -> str:
    """sha256 over the sorted lines "sha256 of the file  relative path" of every file that can change an image.

    Names and places of the folder and of a LoRA file don't enter. A large file's sha256 is remembered by its path,
    size and mtime_ns. Hexadecimal.
    """
    files = {INDEX: folder / INDEX}
    for part in parts_of(folder):
        inside = (path for path in (folder / part).rglob("*") if path.is_file())
        files |= {path.relative_to(folder).as_posix(): path for path in inside}
    files = {name: path for name, path in files.items() if matters(name)}
    if lora is not None and lora.is_file():
        files["lora.safetensors"] = lora
    elif lora is not None:
        files |= {f"lora/{path.name}": path for path in lora.glob("adapter_*") if path.suffix in SUFFIXES}
    remembered = recall(DIGESTS)
    fresh: dict[str, Any] = {}
    lines = [f"{_file_digest(path, remembered, fresh)}  {name}\n" for name, path in sorted(files.items())]
    if fresh:
        remember(DIGESTS, fresh)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _file_digest(path: Path, remembered: dict[str, Any], fresh: dict[str, Any]) -> str:
    path = path.resolve()  # in a Hugging Face snapshot a link to the blob
    before = path.stat()
    known = remembered.get(str(path))
    if isinstance(known, list) and known[:2] == [before.st_size, before.st_mtime_ns]:
        return str(known[2])
    digest = sha256_of(path)
    # Small files are quicker read than remembered; one written just now may yet change within the clock's tick.
    if before.st_size > 2**20 and time.time() - before.st_mtime > 2:
        fresh[str(path)] = [before.st_size, before.st_mtime_ns, digest]
    return digest
