"""Files that are either the old ones or the new ones: written beside their place, synced, renamed."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from star_bench.errors import StarBenchError


class DiskError(StarBenchError):
    """A file could not be written (exit 3: what was there before is intact)."""

    exit_code = 3


def disk_error(path: Path, error: OSError) -> DiskError:
    """What went wrong while `path` was written, in words."""
    reason = "the disk is full" if error.errno == errno.ENOSPC else (error.strerror or str(error))
    return DiskError(f"{path} could not be written ({reason})", "free some space and give the same command again")


@contextmanager
def replacing(path: Path, *, synced: bool = True) -> Iterator[Path]:
    """A path beside `path` to write to; it is synced and renamed at the end, and removed if anything goes wrong.

    synced=False leaves it to the system when the content reaches the disk: for what can be made again.

    Raises DiskError, which names the path, when the disk is full or the folder can't be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        if synced:
            with partial.open("rb") as file:
                os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError):
            raise disk_error(path, error) from None
        raise


def write_atomically(path: Path, content: bytes, *, synced: bool = True) -> None:
    """Readers see the old file or the new one, never a part. synced: as `replacing` says. Raises DiskError, which names
    the path."""
    with replacing(path, synced=synced) as partial:
        partial.write_bytes(content)


def to_json(data: Any) -> bytes:
    """Canonical bytes: the same data gives the same file."""
    return (json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
