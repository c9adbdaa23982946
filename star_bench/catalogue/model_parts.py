"""What a diffusers pipeline is made of, by its model_index.json, and what is lost of it. Reads names and configurations,
never weights; imports no torch.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple

from star_bench.errors import MissingWeights, Refused, UsageError
from star_bench.files.json import read_config

INDEX: Final = "model_index.json"
SUFFIXES: Final = (".json", ".txt", ".safetensors", ".model", ".jinja")
PICKLES: Final = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
VARIANTS: Final = ("*.fp16.*", "*.fp16-*", "*non_ema*")
"""Second copies of the same weights that some repositories hold."""
CENSOR: Final = "safety_checker"
UNUSED: Final = (CENSOR, "feature_extractor")
"""Never loaded: the safety checker paints pictures black unasked, and it alone looks through the feature extractor."""
LIBRARIES: Final = {"diffusers": "diffusion_pytorch_model.safetensors", "transformers": "model.safetensors"}
"""What a model_index.json may import from, and the file in which that library looks for weights. Any other name there would
be code of the model's own choosing."""

_WEIGHTLESS = re.compile("tokenizer|scheduler|processor|guid(er|ance)", re.IGNORECASE)
_NEEDED = re.compile(r"transformer|unet|scheduler|(text_encoder|tokenizer)(_\d)?")
_SHARD = r"(?:-\d{5}-of-\d{5})?"
_VARIANT = re.compile(rf"(?:diffusion_pytorch_)?model{_SHARD}\.(\w+?){_SHARD}\.safetensors")
_LONE_SHARD = re.compile(r"((?:diffusion_pytorch_)?model)-\d{5}-of-\d{5}\.safetensors")
_ADDED = ("lora", "dora_", "hada_", "lokr_", "oft_")
"""In the names of what is trained beside frozen weights: LoRA and its kin."""
_ORDINALS = {"2": "second ", "3": "third ", "4": "fourth "}
_AGAIN = "fetch the model again, or give `--model PATH`"
_STOCK = "use a model of stock components"


class Part(NamedTuple):
    """A folder of a pipeline: the class that reads it, and that class's library."""

    library: str
    kind: str


def parts_of(folder: Path) -> dict[str, Part]:
    """The folders that are loaded of a pipeline, by name: all that its model_index.json names but UNUSED.

    Raises MissingWeights where there is no such file, Refused for foreign code and for a pipeline that was saved without a
    part that every picture needs.
    """
    index = folder / INDEX
    if not index.is_file():
        raise MissingWeights(
            f"{folder} holds no {INDEX}", "give a diffusers pipeline folder, or `--base NAME` if it is a LoRA"
        )
    listed = read_config(index)
    if not isinstance(listed.get("_class_name"), str):
        raise Refused(f"{index} asks for a pipeline class of its own", "use a model with a stock diffusers pipeline")
    pairs = {name: value for name, value in listed.items() if _is_component(name, value)}
    # The safety checker is never loaded; its library is the name of a pipeline.
    foreign = [f"{name}: {value[0]}" for name, value in pairs.items() if name != CENSOR and not _is_stock(name, value)]
    if foreign:
        raise Refused(f"{index} loads {foreign[0]}, code that comes with the model", _STOCK)
    _check_nulls(folder, [name for name, value in listed.items() if value == [None, None]])
    return {name: Part(*value) for name, value in sorted(pairs.items()) if name not in UNUSED}


def _is_component(name: str, value: Any) -> bool:
    """Some pipelines keep numbers in lists, which load nothing."""
    if name.startswith("_") or not isinstance(value, list):
        return False
    return any(value) and not all(isinstance(each, int | float) for each in value)


def _is_stock(name: str, value: list[Any]) -> bool:
    """Whether a name of a part, which is that of its folder, is given [library, class] of a stock library."""
    is_pair = len(value) == 2 and all(isinstance(each, str) for each in value)
    return name.isidentifier() and is_pair and value[0] in LIBRARIES


def _check_nulls(folder: Path, nulls: list[str]) -> None:
    needed = sorted(name for name in nulls if _NEEDED.fullmatch(name))
    if needed:
        stem, _, number = needed[0].rpartition("_")
        words = f"{_ORDINALS[number]}{stem.replace('_', ' ')}" if number in _ORDINALS else needed[0].replace("_", " ")
        raise Refused(
            f"{folder} has no {words} ({' and '.join(needed)}: null in its {INDEX})",
            "save the pipeline with all its parts (`pipe.save_pretrained(FOLDER)`)",
        )


def patterns_of(folder: Path) -> list[str]:
    """Of the files of a repository that make pictures, from its model_index.json alone."""
    return [INDEX, *(f"{part}/*{end}" for part in parts_of(folder) for end in SUFFIXES)]


def matters(name: str) -> bool:
    """Whether a file within a part can change a picture."""
    path = PurePosixPath(name)
    return path.suffix in SUFFIXES and not any(path.match(pattern) for pattern in VARIANTS)


def check_folder(folder: Path) -> None:
    """Raises MissingWeights for an incomplete pipeline folder, by the files that it lacks; Refused for pickled weights, for
    code, for weights in a variant only; UsageError where a tokenizer needs a package that is not installed."""
    parts = parts_of(folder)
    inside = (
        path for part in parts for path in (folder / part).glob("*") if path.is_file()
    )  # no links that lead nowhere
    files = [path.relative_to(folder).as_posix() for path in inside]
    check_names(parts, files, str(folder))
    lost = []
    for part in parts:
        for config in sorted((folder / part).glob("*config.json")):
            if "auto_map" in read_config(config):
                raise Refused(f"{config} names code of the model's own", _STOCK)
        for index in sorted((folder / part).glob("*.safetensors.index.json")):
            if matters(f"{part}/{index.name}"):
                lost += sorted({f"{part}/{name}" for name in _shards(index)} - set(files))
    if lost:
        raise lacking(str(folder), lost)
    for part, (_, kind) in parts.items():
        _check_installed(folder / part, kind)


def check_names(parts: Mapping[str, Part], files: Collection[str], where: str) -> None:
    """The part of `check_folder` that names alone tell, so that a repository can be refused before anything of it is
    fetched. files: relative to `where`, a folder or what a hub calls it."""
    lost: list[str] = []
    for name, part in parts.items():
        inside = {file.removeprefix(f"{name}/") for file in files if file.startswith(f"{name}/")}
        if any(file.endswith(".py") for file in inside):
            raise Refused(f"{where}/{name} holds Python code", _STOCK)
        lost += (f"{name}/{file}".removesuffix("/") for file in _lost_of(name, part, inside, f"{where}/{name}"))
    if lost:
        raise lacking(where, lost)


def check_no_whole_model(file: Path) -> None:
    """Raises UsageError for a safetensors file that holds a model's own weights and nothing that is added to them. What is
    no such file, loading will tell."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as opened:
            names = list(opened.keys())
    except (OSError, SafetensorError):
        return
    if names and not any(added in name.lower() for name in names for added in _ADDED):
        raise UsageError(
            f"{file} is a whole model in one file and no LoRA (it holds {min(names)!r})",
            "save it as a diffusers folder (`pipe.save_pretrained(FOLDER)`) and give that",
        )


def lacking(where: str, lost: list[str]) -> MissingWeights:
    """What to say where files are not there."""
    if len(lost) == 1:
        return MissingWeights(f"{where}/{lost[0]} is not there", _AGAIN)
    named = [*lost[:3], f"{len(lost) - 3} more"] if len(lost) > 3 else lost
    return MissingWeights(f"{where} lacks {', '.join(named[:-1])} and {named[-1]}", _AGAIN)


def _lost_of(name: str, part: Part, inside: set[str], where: str) -> Iterator[str]:
    """Files that a part must have and has not; "" for the whole folder. Raises Refused."""
    if not inside:
        yield ""
    elif weightless := _WEIGHTLESS.search(f"{name} {part.kind}"):
        if not any(file.endswith("config.json") for file in inside):
            yield f"{weightless[0].lower()}_config.json"
        if "Tokenizer" in part.kind and "ByT5" not in part.kind:  # ByT5 reads bytes
            yield from _lost_vocabulary(inside)
    else:
        if "config.json" not in inside:
            yield "config.json"
        yield from _lost_weights(part, inside, where)


def _lost_vocabulary(inside: set[str]) -> Iterator[str]:
    if {"tokenizer.json", "vocab.txt"} & inside or any(file.endswith((".model", ".tiktoken")) for file in inside):
        return
    pair = {"vocab.json", "merges.txt"}
    yield from sorted(pair - inside) if pair & inside else ["tokenizer.json"]


def _lost_weights(part: Part, inside: set[str], where: str) -> Iterator[str]:
    if {f"{name}{end}" for name in LIBRARIES.values() for end in ("", ".index.json")} & inside:
        return
    variants = {found[1]: found[0] for file in sorted(inside) if (found := _VARIANT.fullmatch(file))}
    for variant, file in variants.items():
        raise Refused(
            f"{where} holds only the {variant} variant of its weights ({file})",
            f'load it with `variant="{variant}"` and save it without one (`pipe.save_pretrained(FOLDER)`)',
        )
    shard = next((found for file in sorted(inside) if (found := _LONE_SHARD.fullmatch(file))), None)
    pickled = next((file for file in sorted(inside) if file.endswith(PICKLES)), None)
    if pickled and not shard:
        raise Refused(
            f"{where} holds only pickled weights ({pickled}), which can run code when they are read",
            "convert them to safetensors where you trust them (`pipe.save_pretrained(FOLDER)`)",
        )
    yield f"{shard[1]}.safetensors.index.json" if shard else LIBRARIES[part.library]


def _check_installed(folder: Path, kind: str) -> None:
    """transformers builds a tokenizer from a .model file with sentencepiece, and names another package where it lacks."""
    inside = {path.name for path in folder.glob("*")}
    models = sorted(file for file in inside if file.endswith(".model"))
    is_alone = "Tokenizer" in kind and models and "tokenizer.json" not in inside
    if is_alone and importlib.util.find_spec("sentencepiece") is None:
        raise UsageError(
            f"{folder / models[0]} is read with sentencepiece, which is not installed",
            "run 'pip install sentencepiece', or save the tokenizer with its tokenizer.json",
        )


def _shards(index: Path) -> set[str]:
    """Names of files beside the index. Raises Refused for any that could lie elsewhere."""
    weights = read_config(index).get("weight_map")
    names = weights.values() if isinstance(weights, dict) else [None]
    plain = {name for name in names if isinstance(name, str) and PurePosixPath(name).name == name}
    if not all(isinstance(name, str) and name in plain for name in names):
        raise Refused(f"{index} names no files beside it", "fetch the model again")
    return plain
