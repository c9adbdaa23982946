"""The files of a checkpoint on this machine: local folders, the Hugging Face cache, the network last.

Only safetensors, JSON and text are ever fetched or read: no pickles, no Python. Imports no torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import time
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from star_bench.cache import recall, remember
from star_bench.checkpoints import Checkpoint, Source
from star_bench.downloads import reachable
from star_bench.errors import MissingWeights, Refused
from star_bench.files import sha256_of
from star_bench.json_files import read_config
from star_bench.shipped import PACKAGE

PARTS = (
    *("scheduler", "transformer", "unet", "vae"),
    *("text_encoder", "text_encoder_2", "text_encoder_3", "tokenizer", "tokenizer_2", "tokenizer_3"),
)
"""The folders of a diffusers pipeline that make images. No safety checker: it paints pictures black unasked."""
SUFFIXES = (".json", ".txt", ".safetensors", ".model")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
CENSOR = "safety_checker"
LIBRARIES = {"diffusers", "transformers"}
"""What a model_index.json may import from: any other name there would be code of the model's own choosing."""
COMMIT = re.compile(r"[0-9a-f]{40}")

PINS = "pins.json"
DIGESTS = "digests.json"
VARIANTS = ["*.fp16.*", "*.fp16-*", "*non_ema*"]
"""Second copies of the same weights that some repositories hold."""


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

    Raises MissingWeights for weights that are not released or not here, Refused for a folder that could run code.
    """
    if checkpoint.status == "claimed":
        raise MissingWeights(
            f"{checkpoint.name} is only claimed, its weights are not released",
            "choose a checkpoint whose weights exist, or give `--model PATH` to your own",
        )
    folder, revision = _place(checkpoint.source, [f"{part}/*{end}" for part in PARTS for end in SUFFIXES], fetch)
    try:
        check_folder(folder)
    except MissingWeights as error:
        if not checkpoint.source.hub:
            raise
        name = f"{checkpoint.source.hub}@{checkpoint.source.revision}"
        raise MissingWeights(f"{name} is not whole: {error.problem}", error.remedy) from None
    lora_path, lora_revision = None, None
    if checkpoint.lora:
        wanted = checkpoint.lora.weight_name
        place, lora_revision = _place(checkpoint.lora, [wanted] if wanted else ["*.json", "*.safetensors"], fetch)
        lora_path = _lora_in(place, wanted)
    commits = "+".join(commit for commit in (revision, lora_revision) if commit)
    return LocalCheckpoint(folder, lora_path, commits or None, content_digest(folder, lora_path))


def _place(source: Source, patterns: list[str], fetch: bool) -> tuple[Path, str | None]:
    if source.hub:
        return _from_hub(source.hub, source.revision, ["model_index.json", *patterns], fetch)
    path = PACKAGE / source.shipped if source.shipped else Path(source.path or "")
    if not path.exists():
        remedy = "reinstall star-bench" if source.shipped else "check the path"
        raise MissingWeights(f"there are no weights at {path}", f"{remedy}, or give `--model PATH`")
    return path, None


def _lora_in(place: Path, wanted: str | None) -> Path:
    if place.is_file() or (place / "adapter_config.json").is_file():
        return place
    files = [place / wanted] if wanted else sorted(place.glob("*.safetensors"))
    if len(files) != 1 or not files[0].is_file():
        raise MissingWeights(f"{place} holds no single LoRA file", "name it with `weight_name` or give its path")
    return files[0]


def parts_of(folder: Path) -> list[str]:
    """The folders that a pipeline's model_index.json names. Raises MissingWeights, or Refused for foreign code."""
    index = folder / "model_index.json"
    if not index.is_file():
        raise MissingWeights(
            f"{folder} holds no model_index.json", "give a diffusers pipeline folder, or `--base NAME` if it is a LoRA"
        )
    listed = read_config(index)
    if not isinstance(listed.get("_class_name"), str):
        raise Refused(f"{index} asks for a pipeline class of its own", "use a model with a stock diffusers pipeline")
    pairs = {key: value for key, value in listed.items() if isinstance(value, list) and any(value)}
    # The safety checker is never loaded; its library is the name of a pipeline.
    foreign = [f"{key}: {value[0]}" for key, value in pairs.items() if key != CENSOR and not _is_stock(value)]
    if foreign:
        raise Refused(f"{index} loads {foreign[0]}, code that comes with the model", "use a model of stock components")
    return sorted(pairs.keys() & set(PARTS))


def _is_stock(value: list[Any]) -> bool:
    """Whether [library, class] names a class of a stock library."""
    return len(value) == 2 and all(isinstance(part, str) for part in value) and value[0] in LIBRARIES


def check_folder(folder: Path) -> None:
    """Raises MissingWeights for an incomplete pipeline folder, Refused for one with pickled weights or code."""
    for part in parts_of(folder):
        files = sorted((folder / part).glob("*"))
        inside = [file.name for file in files]
        if not inside:
            raise MissingWeights(f"{folder / part} is not there", "fetch the model again, or give `--model PATH`")
        if any(name.endswith(".py") for name in inside):
            raise Refused(f"{folder / part} holds Python code", "use a model of stock components")
        for config in (file for file in files if file.name.endswith("config.json")):
            if "auto_map" in read_config(config):
                raise Refused(f"{config} names code of the model's own", "use a model of stock components")
        for index in (file for file in files if file.name.endswith(".safetensors.index.json")):
            lost = sorted(_shards(index) - set(inside)) if _matters(f"{part}/{index.name}") else []
            if lost:
                raise MissingWeights(f"{folder / part / lost[0]} is not there", "fetch the model again")
        if part.startswith(("tokenizer", "scheduler")) or any(name.endswith(".safetensors") for name in inside):
            continue
        pickled = next((name for name in inside if name.endswith(PICKLES)), None)
        if pickled:
            raise Refused(
                f"{folder / part} holds only pickled weights ({pickled}), which can run code when they are read",
                "convert them to safetensors where you trust them (`pipe.save_pretrained(FOLDER)`)",
            )
        raise MissingWeights(f"{folder / part} holds no weights", "fetch the model again, or give `--model PATH`")


def _shards(index: Path) -> set[str]:
    """Names of files beside the index. Raises Refused for any that could lie elsewhere."""
    weights = read_config(index).get("weight_map")
    names = weights.values() if isinstance(weights, dict) else [None]
    plain = {name for name in names if isinstance(name, str) and PurePosixPath(name).name == name}
    if not all(isinstance(name, str) and name in plain for name in names):
        raise Refused(f"{index} names no files beside it", "fetch the model again")
    return plain


def _from_hub(hub: str, revision: str, patterns: list[str], fetch: bool) -> tuple[Path, str]:
    """The snapshot folder of a repository and its commit: cache first, then a download of the pinned commit.

    huggingface_hub is imported where it is used: it takes most of a second.
    """
    from huggingface_hub.errors import LocalEntryNotFoundError

    key = f"{hub}@{revision}"
    pinned = revision if COMMIT.fullmatch(revision) else recall(PINS).get(key)
    folder = None
    with contextlib.suppress(LocalEntryNotFoundError):
        folder = _snapshot(hub, pinned or revision, patterns, local_files_only=True)
        if "model_index.json" in {path.name for path in folder.iterdir()} and _incomplete(folder):
            folder = None
    if folder is None and not fetch:
        raise MissingWeights(
            f"{key} is not in the Hugging Face cache", "run it once where there is a network, or give `--model PATH`"
        )
    if folder is None:
        folder = _download(hub, pinned or revision, patterns)
    remember(PINS, {key: folder.name})
    return folder, folder.name


def _incomplete(folder: Path) -> bool:
    try:
        check_folder(folder)
    except MissingWeights:
        return True
    return False


def _snapshot(hub: str, revision: str | None, patterns: list[str], *, local_files_only: bool = False) -> Path:
    from huggingface_hub import snapshot_download

    return Path(
        snapshot_download(
            repo_id=hub,
            revision=revision,
            allow_patterns=patterns,
            ignore_patterns=VARIANTS,
            local_files_only=local_files_only,
        )
    )


def _download(hub: str, revision: str, patterns: list[str]) -> Path:
    from huggingface_hub import HfApi
    from huggingface_hub.constants import ENDPOINT, HF_HUB_OFFLINE
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    page = f"{ENDPOINT}/{hub}"
    if HF_HUB_OFFLINE:
        raise MissingWeights(
            f"{hub}@{revision} is not in the Hugging Face cache and HF_HUB_OFFLINE is set",
            "unset it where there is a network, or give `--model PATH`",
        )
    if not reachable(ENDPOINT):
        raise MissingWeights(
            f"{hub}@{revision} is not in the Hugging Face cache and {page} can't be reached",
            "where there is a network open the page, accept the licence if it asks, run `hf auth login` and try again, "
            "or give `--model PATH`",
        )
    try:
        commit = HfApi().model_info(hub, revision=revision, timeout=10).sha
        return _snapshot(hub, commit, patterns)
    except RepositoryNotFoundError as error:  # a gated repository's error is one of these
        remedy = f"open {page}, accept the licence, run `hf auth login` and try again, or give `--model PATH`"
        if isinstance(error, GatedRepoError):
            raise MissingWeights(f"{hub} asks for its licence to be accepted", remedy) from error
        raise MissingWeights(f"Hugging Face shows no {hub} to this login", f"check the name, or {remedy}") from error
    except RevisionNotFoundError as error:
        raise MissingWeights(f"{hub} has no revision {revision!r}", f"choose one at {page}/commits/main") from error
    except Exception as error:  # the network has no end of ways to fail, and each means the same to the user
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}"
        raise MissingWeights(
            f"{hub}@{revision} can't be fetched ({reason})", f"try again, see {page}, or give `--model PATH`"
        ) from error


def content_digest(folder: Path, lora: Path | None = None) -> str:
    """sha256 over the sorted lines "sha256 of the file  relative path" of every file that can change an image.

    Names and places of the folder and of a LoRA file don't enter. A large file's sha256 is remembered by its path,
    size and mtime_ns. Hexadecimal.
    """
    parts = parts_of(folder)
    files = {"model_index.json": folder / "model_index.json"}
    for part in parts:
        inside = (path for path in (folder / part).rglob("*") if path.is_file())
        files |= {path.relative_to(folder).as_posix(): path for path in inside}
    files = {name: path for name, path in files.items() if _matters(name)}
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


def _matters(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix in SUFFIXES and not any(path.match(pattern) for pattern in VARIANTS)


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
