"""YAML files at the border: safely read, checked by pydantic, wrong keys named with the nearest right one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from star_bench.errors import UsageError

Model = TypeVar("Model", bound=BaseModel)


class Strict(BaseModel):
    """Frozen, and no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A remedy: the nearest known word, or all of them."""
    options = list(known)
    near = difflib.get_close_matches(word, options, n=1)
    return f"did you mean {near[0]!r}" if near else f"choose one of {', '.join(sorted(options))}"


def load_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping. Raises UsageError for a file that can't be read, parsed, or is no mapping."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path} is not there", "check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} can't be read ({error})", "check that it is a readable UTF-8 file") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not YAML"
        raise UsageError(f"{path} is broken YAML{where}: {problem}", "mend that line") from None
    if not isinstance(data, dict):
        raise UsageError(f"{path} holds no mapping of keys", "write 'key: value' lines")
    return data


def parse(model: type[Model], data: Any, where: str) -> Model:
    """Checks `data` against a model. Raises UsageError with the first problem, in one sentence."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = _fields_at(model, first["loc"][:-1])
            remedy = did_you_mean(str(first["loc"][-1]), known) if known else "remove it"
            raise UsageError(f"{where}: unknown key {key!r}", remedy) from None
        message = first["msg"][0].lower() + first["msg"][1:]
        raise UsageError(f"{where}: {key or 'the file'}: {message}", "mend that value") from None


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys that pydantic would have known at a location, as far as plain nesting goes."""
    current: Any = model
    for part in location:
        field = getattr(current, "model_fields", {}).get(part)
        current = field.annotation if field else None
    return list(getattr(current, "model_fields", {}))
