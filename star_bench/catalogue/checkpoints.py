"""checkpoints.yaml -> Checkpoint: which model a word on the command line means. `model_files` finds its files."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from star_bench.catalogue.cards import Strict, did_you_mean, load_yaml, parse
from star_bench.catalogue.lora_keys import ADAPTER, ADAPTER_CONFIG, DIFFUSERS
from star_bench.catalogue.model_parts import INDEX, check_no_whole_model
from star_bench.catalogue.protocol import UNSAID, GenerationSettings
from star_bench.catalogue.shipped import CHECKPOINTS_FILE
from star_bench.catalogue.suites import NOT_STATED, Commercial, Published
from star_bench.errors import UsageError
from star_bench.files.json import read_config

HUB_ID = re.compile(r"(?P<hub>\w[\w.-]*/[\w.-]+)(@(?P<revision>[\w./-]+))?")


class PublishedResult(Published):
    """A number that somebody else printed for this checkpoint."""

    suite: str


class Source(Strict):
    """Where weights come from: exactly one of hub, path and shipped, or nothing."""

    hub: str | None = Field(default=None, pattern=r"^\w[\w.-]*/[\w.-]+$")
    revision: str = "main"
    """A branch, tag or commit of the hub's repository."""
    path: str | None = None
    """A folder or a LoRA file; in checkpoints.yaml relative to that file."""
    shipped: str | None = None
    """A folder inside the package."""
    weight_name: str | None = None
    """A LoRA's file, where its repository or folder holds several."""

    @model_validator(mode="after")
    def _one_place(self) -> Source:
        if len([place for place in (self.hub, self.path, self.shipped) if place]) > 1:
            raise ValueError("give only one of hub, path and shipped")
        return self

    def __bool__(self) -> bool:
        return bool(self.hub or self.path or self.shipped)

    def __str__(self) -> str:
        return f"{self.hub}@{self.revision}" if self.hub else self.path or self.shipped or "nothing"


class Attention(Strict):
    """Where a model's own attention between text and image marks the objects that a prompt names: what STAR reads.
    Measured by `star-bench miniature localise`, or from a paper."""

    blocks: tuple[Annotated[int, Field(ge=0)], ...] = Field(min_length=1)
    """Joint blocks, from 0, read as a mean."""
    tokens: Literal["clip", "t5", "both"] = "both"
    smoothing: float = Field(default=1.0, ge=0)
    """Standard deviation of a Gaussian over the map, in image tokens. Chosen here."""


class Entry(Strict):
    """One name of checkpoints.yaml."""

    source: Source = Source()
    lora: Source = Source()
    base: str | None = None
    precision: Literal["float32", "float16", "bfloat16"]
    licence: str
    licence_url: str | None = None
    commercial: Commercial = "unknown"
    generation: GenerationSettings = GenerationSettings()
    attention: Attention | None = None
    status: Literal["available", "claimed"] = "available"
    published: tuple[PublishedResult, ...] = ()
    note: str = ""

    @model_validator(mode="after")
    def _has_weights(self) -> Entry:
        if self.status == "available" and bool(self.source) == bool(self.lora):
            raise ValueError("give either a source, or a lora and its base")
        if self.lora and not self.base:
            raise ValueError("a lora needs its base")
        return self


FOLDER_CARD = "star-bench.yaml"


class FolderCard(Strict):
    """What the folder of a pipeline or of a LoRA may say of itself in star-bench.yaml, for a model that no checkpoints.yaml
    lists. A LoRA's generation settings go before its base's."""

    precision: Literal["float32", "float16", "bfloat16"] = "float16"
    licence: str = NOT_STATED
    licence_url: str | None = None
    commercial: Commercial = "unknown"
    generation: GenerationSettings = GenerationSettings()
    attention: Attention | None = None


NOWHERE = Source()


@dataclass(frozen=True)
class Checkpoint:
    """What a name, path or hub id means. Of its files only names and adapter_config.json were looked at."""

    name: str
    source: Source
    """The whole pipeline; of a LoRA, the one it is put on; of a claimed model, nothing."""
    lora: Source = NOWHERE
    base: str | None = None
    """The name of the checkpoint under a LoRA."""
    precision: str = "float16"
    licence: str = NOT_STATED
    licence_url: str | None = None
    commercial: Commercial = "unknown"
    generation: GenerationSettings = UNSAID
    attention: Attention | None = None
    """A LoRA's is its base's, unless it says its own."""
    status: Literal["available", "claimed"] = "available"
    published: tuple[PublishedResult, ...] = ()
    note: str = ""


OWN_FILE = "checkpoints.yaml"
"""A user's, in the working folder."""
_given: list[Path] = []


def use_file(file: Path | None) -> None:
    """A user's own checkpoints file, read beside the shipped one. Raises UsageError where it is not there."""
    if file is not None and not file.is_file():
        raise UsageError(f"{file} is not there", "give the path of a YAML file like checkpoints.yaml")
    _given[:] = [] if file is None else [file]


def files() -> list[Path]:
    """Every file that names checkpoints: the shipped one, the working folder's, and the one that was given."""
    own = Path(OWN_FILE)
    found = {path.resolve(): path for path in (CHECKPOINTS_FILE, *([own] if own.is_file() else []), *_given)}
    return list(found.values())


def entries(file: Path | None = None) -> dict[str, Entry]:
    """Every name of a checkpoints file, by default of all `files`, its bases checked, which may also be shipped ones.

    Raises UsageError for a broken file, and for a name that two files have.
    """
    wanted = files() if file is None else [file]
    read: dict[str, Entry] = {}
    for each in wanted:
        found = _read(each, each.stat().st_mtime_ns if each.exists() else 0)
        if twice := [name for name in found if name in read]:
            raise UsageError(f"{each} has a {twice[0]!r}, and so has {home(twice[0])}", "give yours another name")
        read |= found
    bases = read | (_read(CHECKPOINTS_FILE, 0) if file is not None and file != CHECKPOINTS_FILE else {})
    for name, entry in read.items():
        if entry.base is not None and (entry.base not in bases or not bases[entry.base].source):
            known = [other for other, candidate in bases.items() if candidate.source]
            raise UsageError(
                f"{wanted[-1]}: {name}: there is no base named {entry.base!r}", did_you_mean(entry.base, known)
            )
    return read


@cache
def _read(file: Path, stamp: int) -> dict[str, Entry]:
    """stamp: of the file as it is now, so that one that is written while this process lives is read again."""
    return {str(name): parse(Entry, data, f"{file}: {name}") for name, data in load_yaml(file).items()}


def home(name: str) -> Path:
    """The first file that has the name."""
    return next(file for file in files() if name in load_yaml(file))


def names() -> list[str]:
    return list(entries())


def resolve(spec: str, *, base: str | None = None) -> Checkpoint:
    """What a word on the command line means.

    spec: a name in checkpoints.yaml; the path of a diffusers folder, of a LoRA's .safetensors file or of the folder
    that PEFT or diffusers wrote it into; or org/name@revision on Hugging Face. base: the spec of the pipeline under a
    LoRA that doesn't say it.
    Claimed entries resolve; `locate` refuses them. Raises UsageError for what can't be understood.
    """
    known = entries()
    if spec in known:
        if base is not None:
            raise UsageError(f"{spec!r} already says what it is built on", "leave --base out")
        return _named(spec)
    path = Path(spec).expanduser()
    if path.exists():
        return _at_path(path, base)
    match = HUB_ID.fullmatch(spec)
    if match is None or path.suffix == ".safetensors":
        if "/" in spec or os.sep in spec or path.suffix == ".safetensors":
            raise UsageError(f"there is nothing at {spec}", "check the path")
        raise UsageError(f"there is no checkpoint named {spec!r}", did_you_mean(spec, known))
    source = Source(hub=match["hub"], revision=match["revision"] or "main")
    if base is not None:
        return _on_base(spec, source, base)
    for name, entry in known.items():  # a listed model under its hub id is still that model, at the listed commit
        listed = entry.lora or entry.source
        if listed.hub == source.hub and match["revision"] in (None, listed.revision):
            return _named(name)
    return Checkpoint(name=spec, source=source)


def _named(name: str) -> Checkpoint:
    entry = entries()[name]
    source, generation, attention = entry.source, entry.generation, entry.attention
    if entry.base is not None:
        under = entries()[entry.base]
        attention = attention or under.attention
        source = under.source if entry.lora else NOWHERE
        generation = under.generation.model_copy(update=generation.model_dump(exclude_none=True))
    under_file = home(entry.base) if entry.base and entry.lora else home(name)
    placed: dict[str, Any] = {"source": _from_file(source, under_file), "lora": _from_file(entry.lora, home(name))}
    placed |= {"generation": generation, "attention": attention}
    rest: dict[str, Any] = {key: getattr(entry, key) for key in Entry.model_fields if key not in placed}
    return Checkpoint(name=name, **placed, **rest)


def _from_file(source: Source, file: Path) -> Source:
    """Paths in a checkpoints file are relative to it."""
    return source.model_copy(update={"path": str(file.parent / source.path)}) if source.path else source


def _at_path(path: Path, base: str | None) -> Checkpoint:
    path = path.resolve()
    if path.name == ADAPTER and (path.parent / ADAPTER_CONFIG).is_file():
        path = path.parent  # the settings are in the file beside it
    source = Source(path=str(path))
    if path.is_dir() and not _is_lora(path, base):
        if base is not None:
            raise UsageError(f"{path} is no LoRA, so it has no base", "leave --base out")
        card = _card_in(path) or FolderCard()
        return Checkpoint(path.name, source, **{key: getattr(card, key) for key in FolderCard.model_fields})
    if (path / ADAPTER_CONFIG).is_file():
        base = base or _base_in(path / ADAPTER_CONFIG)
    elif path.is_file() and path.suffix != ".safetensors":
        raise UsageError(f"{path} is neither a folder nor a .safetensors file", "give one of these")
    if not base:
        if path.is_file():
            check_no_whole_model(path)
        raise UsageError(f"{path} is a LoRA and does not say on which model", "give `--base NAME`")
    # What diffusers calls every LoRA is no name.
    name = path.parent.name if path.name == DIFFUSERS else path.stem if path.is_file() else path.name
    found = _on_base(name, source, base)
    said = _card_in(path) if path.is_dir() else None
    if said is None:
        return found
    own = {key: getattr(said, key) for key in FolderCard.model_fields if key not in ("generation", "attention")}
    own["attention"] = said.attention or found.attention
    generation = found.generation.model_copy(update=said.generation.model_dump(exclude_none=True))
    return replace(found, generation=generation, **own)


def _is_lora(folder: Path, base: str | None) -> bool:
    """Whether it holds an adapter, as PEFT or diffusers write it, or, where a base is given, a LoRA of any name."""
    if (folder / ADAPTER_CONFIG).is_file() or (folder / INDEX).is_file():
        return (folder / ADAPTER_CONFIG).is_file()
    return (folder / DIFFUSERS).is_file() or (base is not None and any(folder.glob("*.safetensors")))


def _card_in(folder: Path) -> FolderCard | None:
    said = folder / FOLDER_CARD
    return parse(FolderCard, load_yaml(said), str(said)) if said.is_file() else None


def _base_in(config: Path) -> str | None:
    said = read_config(config).get("base_model_name_or_path")
    if not said:
        return None
    try:
        resolve(str(said))
    except UsageError:  # often a path on the machine that trained it
        raise UsageError(f"{config} says it is built on {said!r}, which is not here", "give `--base NAME`") from None
    return str(said)


def _on_base(name: str, lora: Source, base: str) -> Checkpoint:
    under = resolve(base)
    if under.lora or not under.source:
        raise UsageError(f"the base {base!r} is no whole pipeline", "name the pipeline that it was trained on")
    return Checkpoint(
        name,
        under.source,
        lora,
        under.name,
        under.precision,
        generation=under.generation,
        attention=under.attention,
        note=under.note,
    )
