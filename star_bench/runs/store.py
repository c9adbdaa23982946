"""A folder of rows: one writer, atomic files, append-only rows, everything checked when it is read again."""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from star_bench.errors import Locked, Refused
from star_bench.files.atomic import disk_error, to_json, write_atomically
from star_bench.files.json import RESTORE, read_json, read_rows
from star_bench.runs.environment import packages

Key = tuple[str, int]
"""(prompt id, k)"""


MANIFEST = "manifest.json"


def is_plain(name: str) -> bool:
    """A relative path that stays below its folder on every system: no '..', no drive, no control character."""
    parts = name.split("/")
    return not re.search(r'[\x00-\x1f\x7f\\:*?"<>|]', name) and not {"", ".", ".."} & set(parts)


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


class Store:
    """A folder with rows of one kind, one per image, and a manifest that says what they are of and who added them.

    Only the holder of the folder's lock adds.
    """

    def __init__(self, folder: Path, rows: str) -> None:
        """rows: the name of their file."""
        self.folder = folder
        self._file = RowFile(folder / rows)
        self.rows = {key_of(row, self._file.path): row for row in self._file.rows}
        """The newest row of each image, kept up with what is added."""
        self.manifest: dict[str, Any] = self.read(MANIFEST) or {}
        self._session: int | None = None

    @property
    def recorded(self) -> int:
        """Rows, older ones of the same image counted."""
        return len(self._file.rows)

    def begin(self, what: dict[str, Any], about: dict[str, Any], environment: dict[str, Any], **session: Any) -> None:
        """A session: each row that it adds names its place in the manifest. Nothing of an earlier one is overwritten.

        what: of the folder, for a manifest that is not there yet; about: what each session says anew. environment: what
        the session is run with; that of the first one is also the manifest's own.
        """
        self.manifest = {**what, "sessions": [], **self.manifest, **about}
        self.manifest.setdefault("environment", environment)
        begun = {"started": now(), "finished": None, **session, "environment": {**environment, "packages": packages()}}
        self._session = len(self.manifest["sessions"])
        self.manifest["sessions"].append(begun)
        self.write(MANIFEST, self.manifest)

    def say(self, **facts: Any) -> None:
        """Facts of the session, written with the next `write_manifest`."""
        if self._session is not None:
            self.manifest["sessions"][self._session] |= facts

    def write_manifest(self) -> None:
        self.write(MANIFEST, self.manifest)

    def end(self) -> None:
        """The session came to its end."""
        self.say(finished=now())
        self.write_manifest()

    def add(self, rows: Iterable[dict[str, Any]]) -> None:
        new = [row if self._session is None else {**row, "session": self._session} for row in rows]
        self._file.append(new)
        self.rows |= {key_of(row, self._file.path): row for row in new}

    def write(self, name: str, data: Any) -> None:
        """A JSON file of the folder, atomically."""
        write_atomically(self.folder / name, to_json(data))

    def write_rows(self, name: str, rows: Iterable[dict[str, Any]]) -> None:
        """A whole JSONL file of the folder, atomically."""
        write_atomically(self.folder / name, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows).encode())

    def read(self, name: str) -> Any | None:
        path = self.folder / name
        return read_json(path) if path.exists() else None


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


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
def held(folder: Path) -> Iterator[None]:
    """As `locked`; a folder into which nothing was written does not stay. Raises Locked."""
    with locked(folder):
        try:
            yield
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
