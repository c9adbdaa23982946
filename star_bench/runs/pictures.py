"""The store of pictures: runs/<model>/pictures/<digest>/, with manifest.json, samples.jsonl and images/.

Nothing of a judge is in it, so one set of pictures serves any number of suites with the same prompts and protocol. How many
of each prompt there are is not in its digest either: image k is the same whatever else is drawn, and a set can grow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from star_bench.files.atomic import write_atomically
from star_bench.runs.store import Key, Store, held, is_plain

PICTURES = "pictures"
"""The folder beside those of suites; no suite has this name."""
SAMPLES = "samples.jsonl"
IMAGES = "images/"


def is_picture_path(path: Any) -> bool:
    """Whether a row's path, which may be anything, is that of a picture below the store's folder."""
    return isinstance(path, str) and path.startswith(IMAGES) and is_plain(path)


class PictureStore(Store):
    """The pictures of a plan. Use `open_pictures` to get one that may write."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, SAMPLES)
        self._opening: dict[str, Any] | None = None

    def opening(self, **session: Any) -> None:
        """The session, as `begin` takes it, that begins with the first row: one that adds nothing leaves no trace."""
        self._opening = session

    def add(self, rows: Iterable[dict[str, Any]]) -> None:
        new = list(rows)
        if new and self._opening is not None:
            self.begin(**self._opening)
            self._opening = None
        super().add(new)

    def image_path(self, key: Key, suffix: str = ".png") -> Path:
        return self.folder / IMAGES / key[0] / f"{key[1]}{suffix}"

    def save_image(self, key: Key, content: bytes, suffix: str = ".png") -> dict[str, Any]:
        """Writes one picture and returns its row for `add`."""
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


@contextmanager
def open_pictures(folder: Path) -> Iterator[PictureStore]:
    """The store of pictures, for one writer at a time. Raises Locked."""
    with held(folder):
        yield PictureStore(folder)
