"""A run's directory: one writer, atomic files, append-only rows, everything checked when it is read again."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from star_bench.errors import Locked, Refused
from star_bench.files.atomic import disk_error, to_json, write_atomically
from star_bench.files.json import RESTORE, read_json, read_rows

Key = tuple[str, int]
"""(prompt id, k)"""


PICTURES = "images/"


def is_plain(name: str) -> bool:
    """A relative path that stays below its folder on every system: no '..', no drive, no control character."""
    parts = name.split("/")
    return not re.search(r'[\x00-\x1f\x7f\\:*?"<>|]', name) and not {"", ".", ".."} & set(parts)


def is_picture_path(path: Any) -> bool:
    """Whether a row's path, which may be anything, is that of a picture below the run's directory."""
    return isinstance(path, str) and path.startswith(PICTURES) and is_plain(path)


def key_of(row: dict[str, Any], path: Path) -> Key:
    """The image that a row is of. Raises Refused, naming the file that it was read from, for a row of no image."""
    prompt_id, k = row.get("prompt_id"), row.get("k")
    if not isinstance(prompt_id, str) or type(k) is not int:
        raise Refused(f"{path} holds a row of no image (prompt_id {prompt_id!r:.40}, k {k!r:.40})", RESTORE)
    return prompt_id, k


class RowFile:
    """Appends rows to a JSONL file, synced to disk; a torn last line is cut off at opening."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = read_rows(path)
        if path.exists():
            content = path.read_bytes()
            end = content.rfind(b"\n") + 1
            if end != len(content):
                with path.open("r+b") as file:
                    file.truncate(end)

    def append(self, rows: Iterable[dict[str, Any]]) -> None:
        """All rows in one write, then fsync. Raises DiskError naming the path."""
        new = list(rows)
        text = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in new)
        try:
            with self.path.open("ab") as file:
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise disk_error(self.path, error) from None
        self.rows += new


class RunStore:
    """The files of one run. Use `open_run` to get one that may write."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._samples = RowFile(folder / "samples.jsonl")
        self._scores = RowFile(folder / "scores.jsonl")
        self.samples = {key_of(row, self._samples.path): row for row in self._samples.rows}
        """The newest row of each image, kept up with what is added."""
        self.scores = {key_of(row, self._scores.path): row for row in self._scores.rows}
        """The newest row of each score, kept up with what is added."""
        self.session: int | None = None
        """The place in the manifest's sessions of the one that adds rows, which each of them names."""

    @property
    def recorded(self) -> int:
        """Rows of images, older ones of the same image counted."""
        return len(self._samples.rows)

    def image_path(self, key: Key, suffix: str = ".png") -> Path:
        return self.folder / "images" / key[0] / f"{key[1]}{suffix}"

    def add_samples(self, rows: Iterable[dict[str, Any]]) -> None:
        new = self._named(rows)
        self._samples.append(new)
        self.samples |= {key_of(row, self._samples.path): row for row in new}

    def add_scores(self, rows: Iterable[dict[str, Any]]) -> None:
        new = self._named(rows)
        self._scores.append(new)
        self.scores |= {key_of(row, self._scores.path): row for row in new}

    def _named(self, rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        return [row if self.session is None else {**row, "session": self.session} for row in rows]

    def save_image(self, key: Key, content: bytes, suffix: str = ".png") -> dict[str, Any]:
        """Writes one picture and returns its row for add_samples."""
        path = self.image_path(key, suffix)
        write_atomically(path, content)
        digest = hashlib.sha256(content).hexdigest()
        relative = path.relative_to(self.folder).as_posix()
        return {"prompt_id": key[0], "k": key[1], "path": relative, "sha256": digest, "status": "ok"}

    def read_image(self, row: dict[str, Any]) -> bytes | None:
        """A stored picture's bytes, or None where the file is gone or is not what was stored."""
        try:
            content = (self.folder / row["path"]).read_bytes()
        except OSError:
            return None
        return content if hashlib.sha256(content).hexdigest() == row.get("sha256") else None

    def write(self, name: str, data: Any) -> None:
        """A JSON file of the run, atomically."""
        write_atomically(self.folder / name, to_json(data))

    def write_rows(self, name: str, rows: Iterable[dict[str, Any]]) -> None:
        """A whole JSONL file of the run, atomically."""
        write_atomically(self.folder / name, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows).encode())

    def read(self, name: str) -> Any | None:
        path = self.folder / name
        return read_json(path) if path.exists() else None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The folder, made where it is not there, for one writer at a time.

    The kernel drops the lock when its holder dies, however it dies, so a dead holder never blocks.
    Raises Locked, naming the holder, when another process has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(descriptor, 200).decode(errors="replace").strip() or "another process"
            raise Locked(f"{folder} is being written by {holder}", "wait for it, or stop it and try again") from None
        if not os.fstat(descriptor).st_nlink:  # its last holder has just taken it away
            raise Locked(f"{folder} was being taken away by another process", "try again")
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


@contextmanager
def open_run(folder: Path) -> Iterator[RunStore]:
    """The run's store, for one writer at a time. A folder into which nothing was written does not stay. Raises Locked."""
    with locked(folder):
        try:
            yield RunStore(folder)
        finally:
            _remove_empty(folder)


def _remove_empty(folder: Path) -> None:
    """Takes away a run's folder that holds a lock and nothing else, and those of its suite and model where they are empty
    then."""
    if [path.name for path in folder.iterdir()] != ["lock"]:
        return
    (folder / "lock").unlink()
    with suppress(OSError):  # it holds another run
        for empty in (folder, *folder.parents[:2]):
            empty.rmdir()
