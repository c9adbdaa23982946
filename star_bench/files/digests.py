"""Digests: of a file (its sha256, or the id that git gives it: what `git hash-object FILE` prints), and of plain data."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def sha256_of(path: Path) -> str:
    """Of a file's content, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_digest(folder: Path) -> str:
    """sha256 over the names and contents of a folder's weights, configuration and tokenizer files."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".safetensors", ".json", ".txt", ".model") and path.is_file():
            total.update(path.relative_to(folder).as_posix().encode() + b"\0")
            total.update(bytes.fromhex(sha256_of(path)))
    return total.hexdigest()


def digest_of(content: Any) -> str:
    """sha256 of the canonical JSON of plain data, in hexadecimal."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def git_blob_of(path: Path) -> str:
    """Git's id of a file's content, hexadecimal: the sha1 of "blob <length>", a zero byte and the content.

    It finds damage and change. Against somebody who forges a file on purpose it is weaker than a sha256.
    """
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


KINDS: dict[str, tuple[int, Callable[[Path], str]]] = {"sha256": (64, sha256_of), "git-blob": (40, git_blob_of)}
"""Kind -> how many hexadecimal digits, and how a file gets them."""


@dataclass(frozen=True)
class Digest:
    """As text in a card: "sha256:<64 digits>" or "git-blob:<40 digits>"."""

    kind: str
    value: str

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Raises ValueError for anything but these two forms."""
        kind, _, value = str(text).partition(":")
        if kind not in KINDS or not re.fullmatch(rf"[0-9a-f]{{{KINDS[kind][0]}}}", value):
            raise ValueError("must be sha256:<64 hexadecimal digits> or git-blob:<40 hexadecimal digits>")
        return cls(kind, value)

    def of(self, path: Path) -> Digest:
        """A file's digest of the same kind, to be compared with this one."""
        return Digest(self.kind, KINDS[self.kind][1](path))

    def __str__(self) -> str:
        return f"{self.kind} {self.value}"
