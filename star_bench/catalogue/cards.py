"""YAML files at the border: safely read, checked by pydantic, wrong keys named with the nearest right one."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from yaml.constructor import ConstructorError

from star_bench.errors import UsageError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Model = TypeVar("Model", bound=BaseModel)

MAX_YAML = 64 << 10
"""Bytes. Chosen here: the largest card has some 8 KB, and PyYAML takes a second for this."""
MAX_NODES = 20_000  # chosen here


class Strict(BaseModel):
    """Frozen, no unknown keys, and no number that is nan or infinite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A remedy: the nearest known word, or all of them."""
    options = list(known)
    near = difflib.get_close_matches(word, options, n=1)
    return f"did you mean {near[0]!r}" if near else f"choose one of {', '.join(sorted(options))}"


class _Loader(yaml.SafeLoader):
    """The safe loader, which builds no objects, for documents that stay small when their aliases are written out."""

    def construct_document(self, node: yaml.Node) -> Any:
        _check_size(node)
        return super().construct_document(node)


def _number(loader: _Loader, node: yaml.ScalarNode) -> float:
    """Whatever a value is for, nan and infinity say nothing."""
    value = loader.construct_yaml_float(node)
    if not math.isfinite(value):
        raise ConstructorError(None, None, f"{node.value} is no finite number", node.start_mark)
    return value


_Loader.add_constructor("tag:yaml.org,2002:float", _number)


def _check_size(root: yaml.Node) -> None:
    """Raises ValueError for a node with more than MAX_NODES below it, aliases counted as often as they stand there."""
    sizes: dict[int, int] = {}

    def size(node: yaml.Node) -> int:
        if id(node) in sizes:
            return sizes[id(node)]
        sizes[id(node)] = MAX_NODES + 1  # what a node that holds itself would have
        parts = node.value if isinstance(node, yaml.SequenceNode | yaml.MappingNode) else []
        inner = (part for entry in parts for part in (entry if isinstance(entry, tuple) else (entry,)))
        sizes[id(node)] = 1 + sum(size(part) for part in inner)
        return sizes[id(node)]

    if size(root) > MAX_NODES:
        raise ValueError(f"its aliases make more than {MAX_NODES:,} values of it")


def parse_yaml(text: str | bytes) -> Any:
    """The value of a YAML document, of plain types only.

    Raises yaml.YAMLError for what is no such document, and ValueError for one that is too large, too deep or explodes.
    """
    if len(text) > MAX_YAML:
        raise ValueError(f"it is larger than {MAX_YAML >> 10} KiB")
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (LookupError, TypeError, AttributeError, OverflowError) as error:  # PyYAML's constructors on odd scalars
        raise ValueError(f"{type(error).__name__}: {error}") from None


def load_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping. Raises UsageError for a file that can't be read, parsed, or is no mapping."""
    try:
        with path.open("rb") as file:
            data = parse_yaml(file.read(MAX_YAML + 1))
    except FileNotFoundError:
        raise UsageError(f"{path} is not there", "check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} can't be read ({error})", "check that it is a readable UTF-8 file") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not YAML"
        raise UsageError(f"{path} is broken YAML{where}: {problem}", "mend that line") from None
    except ValueError as error:
        raise UsageError(f"{path} can't be read as YAML ({error})", "mend or shorten it") from None
    if not isinstance(data, dict):
        raise UsageError(f"{path} holds no mapping of keys", "write 'key: value' lines")
    return data


def parse(model: type[Model], data: Any, where: str) -> Model:
    """Checks `data` against a model. Raises UsageError with the first problem, in one sentence."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        key, words = wrong(error)
        first = error.errors()[0]
        if first["type"] == "extra_forbidden":
            known = _fields_at(model, first["loc"][:-1])
            remedy = did_you_mean(str(first["loc"][-1]), known) if known else "remove it"
            raise UsageError(f"{where}: unknown key {key!r}", remedy) from None
        raise UsageError(f"{where}: {key or 'the file'}: {words}", "mend that value") from None


_KIND = re.compile(r"(constrained|function)-.*|(literal|list|tuple|dict|nullable)\[.*\]|int|float|str|bool")
"""What pydantic puts into the place of a value that may be of several types: the name of a type."""
_WANTED = {
    "missing": "it is missing",
    "extra_forbidden": "the key is unknown",
    "value_error": "{error}",
    "json_invalid": "invalid JSON: {error}",
    "finite_number": "{found} is no finite number",
    "literal_error": "{found} is not {expected}",
    "enum": "{found} is not {expected}",
    "too_short": "it has {actual_length} entries, and at least {min_length} are needed",
    "too_long": "it has {actual_length} entries, and at most {max_length} are allowed",
    "string_too_short": "{found} is too short",
    "string_too_long": "{found} is too long",
    "string_pattern_mismatch": "{found} does not have the form {pattern}",
    "greater_than_equal": "{found} is below {ge:g}",
    "greater_than": "{found} is not above {gt:g}",
    "less_than_equal": "{found} is above {le:g}",
    "less_than": "{found} is not below {lt:g}",
    "int": "{found} is no whole number",
    "float": "{found} is no number",
    "bool": "{found} is neither true nor false",
    "string": "{found} is no text",
    "list": "{found} is no list",
    "tuple": "{found} is no list",
    "dict": "{found} is no mapping of keys",
    "model": "{found} is no mapping of keys",
    "mapping": "{found} is no mapping of keys",
    "path": "{found} is no path",
    "none_required": "{found} stands where nothing may stand",
    "multiple_of": "{found} is no multiple of {multiple_of}",
}
"""What is said of an error of pydantic's whose name begins so; the first that fits."""
LONGEST_FOUND = 60
"""Characters of a wrong value that are shown (chosen here)."""


def wrong(error: ValidationError) -> tuple[str, str]:
    """Of the first problem the key, with dots, and in words what was found and what is wanted."""
    errors = error.errors(include_url=False)
    key = _key(errors[0])
    # Of a value that may be of several types, each says why it is not one of them.
    said = list(dict.fromkeys(_words(each) for each in errors if _key(each) == key))
    found = _shown(errors[0]["input"])
    return key, " and ".join([said[0], *(each.removeprefix(f"{found} ") for each in said[1:])])


def _key(error: ErrorDetails) -> str:
    return ".".join(str(part) for part in error["loc"] if not (isinstance(part, str) and _KIND.fullmatch(part)))


def _words(error: ErrorDetails) -> str:
    known = next((form for start, form in _WANTED.items() if error["type"].startswith(start)), None)
    if known is None:
        return f"{_shown(error['input'])} does not belong there"
    about = {name: float(n) if name in ("ge", "gt", "le", "lt") else n for name, n in error.get("ctx", {}).items()}
    return known.format(found=_shown(error["input"]), **about).replace(" at line 1 column ", " at column ")


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    try:
        text = str(value) if isinstance(value, int | float) else repr(value)
    except ValueError:  # an integer with more digits than Python writes
        return "so large a number"
    return text if len(text) <= LONGEST_FOUND else text[: LONGEST_FOUND - 3] + "..."


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys that pydantic would have known at a location, as far as plain nesting goes."""
    current: Any = model
    for part in location:
        field = getattr(current, "model_fields", {}).get(part)
        kinds = [kind for kind in get_args(field.annotation) if kind is not type(None)] if field else []
        current = kinds[0] if len(kinds) == 1 else field.annotation if field else None  # X of "X | None"
    return list(getattr(current, "model_fields", {}))
