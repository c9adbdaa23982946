"""A copy of runs and reports at an address, through fsspec: an object store, another machine's folder.

Work is always done in a local folder, where rows are appended and synced and one writer holds the lock; object stores can do
neither. What is at the address is fetched before, so that a run goes on where another machine was taken away, and what is
new is written after, results last: a reader there never sees results without their pictures.

There is no lock at an address. What another machine wrote there meanwhile is noticed before anything is written over it,
but for the moment between looking and writing: that one machine at a time works on a run is for the one who starts them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from star_bench.errors import Incomplete, Refused, StarBenchError, UsageError
from star_bench.files import sha256_of, write_atomically
from star_bench.runs.bundle import newest
from star_bench.runs.progress import Progress
from star_bench.runs.store import PICTURES, is_plain, locked

ROWS = ("samples.jsonl", "scores.jsonl")
"""Append-only, so of two copies one is the beginning of the other."""
LAST = "results.json"
PICTURE = re.compile(rf"(^|/){PICTURES}")
"""Also those of a shard."""
NOT_COPIED = ("lock",)
EVERY = 300.0  # seconds, chosen here: what a machine that is taken away can lose


class Mirror:
    """A folder at an address, of any kind that fsspec knows."""

    def __init__(self, address: str) -> None:
        """Raises UsageError for an address that nothing here can reach."""
        import fsspec

        try:
            self._fs, root = fsspec.core.url_to_fs(address)
        except (ImportError, ValueError) as error:
            raise UsageError(f"{address} can't be reached ({_line(error)})", "install what it asks for") from None
        self.address, self._root = address.rstrip("/"), str(root).rstrip("/")

    def pull(self, name: str, folder: Path, bar: Progress, *, pictures: bool = True) -> int:
        """Fetches what is at `name` below the address and not in the folder; returns how many files.

        pictures: also those; results can be listed and ranked without.

        Raises Refused where a run went on here and there from the same beginning, and for names that lead elsewhere;
        Incomplete where the address fails.
        """
        with self._speaking():
            there = [path for path in self._files(name) if pictures or not PICTURE.search(path)]
            taken = 0
            # Row files last: a row without its picture would have it made again.
            for path in sorted(there, key=lambda path: path in ROWS):
                taken += self._pull_file(name, path, folder)
        if taken:
            bar.note(f"{taken} files came from {self.address}/{name}")
        return taken

    def push(self, name: str, folder: Path, bar: Progress) -> int:
        """Writes what is in the folder and not at `name` below the address, results last; returns how many files.

        Raises Refused where the rows there are not the beginning of the ones here, because another machine works on the same
        run; Incomplete where the address fails. What is in the folder stays.
        """
        with self._speaking():
            for path in ROWS:
                self._check_ours(name, path, folder)
            known = self._pictures_there(name)
            paths = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
            new = [path for path in paths if self._is_to_push(path, known, folder)]
            for path in sorted(new, key=lambda path: (path == LAST, path in ROWS, path)):
                target = f"{self._root}/{name}/{path}"
                self._fs.makedirs(target.rpartition("/")[0], exist_ok=True)
                self._fs.pipe_file(target, (folder / path).read_bytes())
        bar.note(f"{len(new)} files went to {self.address}/{name}")
        return len(new)

    def runs(self) -> list[str]:
        """runs/<model>/<suite>/<digest> of each that is there, whole or in shards."""
        pattern = re.compile(r"runs/[^/]+/[^/]+/[^/]+(?=/)")
        with self._speaking():
            return sorted({match[0] for path in self._files("runs") if (match := pattern.match(f"runs/{path}"))})

    def _files(self, name: str) -> list[str]:
        base = f"{self._root}/{name}/"
        try:
            found = self._fs.find(base)
        except FileNotFoundError:
            return []
        paths = [str(path).lstrip("/").removeprefix(base.lstrip("/")) for path in found]
        if strange := [path for path in paths if not is_plain(path)]:
            raise Refused(f"{base} holds {strange[0]!r}, which is no file of a run", "delete it there")
        return [path for path in paths if path not in NOT_COPIED and not path.endswith(".partial")]

    def _pull_file(self, name: str, path: str, folder: Path) -> bool:
        here = folder / path
        if here.exists() and path not in ROWS:
            return False
        content = self._fs.cat_file(f"{self._root}/{name}/{path}")
        if here.exists():
            mine = here.read_bytes()
            if mine.startswith(content):
                return False
            if not content.startswith(mine):
                raise Refused(
                    f"{here} and {self.address}/{name}/{path} went on otherwise from the same beginning",
                    "keep one of the two, and delete the other run's folder",
                )
        write_atomically(here, content)
        return True

    def _check_ours(self, name: str, path: str, folder: Path) -> None:
        here = folder / path
        mine = here.read_bytes() if here.exists() else b""
        if not mine.startswith(self._rows_there(name, path)):
            raise Refused(
                f"{self.address}/{name}/{path} has rows that {here} has not: another machine works on this run",
                "stop one of the two and give its command again, which goes on from what is there if it can",
            )

    def _pictures_there(self, name: str) -> dict[str, str]:
        """Path -> sha256 of the pictures that were written before."""
        with TemporaryDirectory() as folder:
            copy = Path(folder) / "samples.jsonl"
            copy.write_bytes(self._rows_there(name, copy.name))
            return {row["path"]: row["sha256"] for row in newest(copy).values() if row.get("path")}

    def _rows_there(self, name: str, path: str) -> bytes:
        try:
            content: bytes = self._fs.cat_file(f"{self._root}/{name}/{path}")
        except FileNotFoundError:
            return b""
        return content

    @staticmethod
    def _is_to_push(path: str, known: dict[str, str], folder: Path) -> bool:
        """Every file but the pictures that are there: they are most of all bytes, and the others may have changed."""
        if path in NOT_COPIED or path.endswith(".partial"):
            return False
        if not path.startswith(PICTURES) or path not in known:
            return True
        return sha256_of(folder / path) != known[path]

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        try:
            yield
        except StarBenchError:
            raise
        except Exception as error:  # noqa: BLE001 - each kind of store has its own
            raise Incomplete(
                f"{self.address} failed ({_line(error)})", "what is here stays; give the same command again"
            ) from None


def _line(error: Any) -> str:
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__


class PushingProgress:
    """Passes everything on, and from time to time writes to the address what is new."""

    def __init__(self, shown: Progress, push: Callable[[], int]) -> None:
        self._shown, self._push = shown, push
        self._last = time.monotonic()

    def start(self, title: str, total: int, done: int) -> None:
        self._shown.start(title, total, done)

    def advance(self, count: int) -> None:
        self._shown.advance(count)
        if time.monotonic() - self._last > EVERY:
            self._push()
            self._last = time.monotonic()

    def note(self, message: str) -> None:
        self._shown.note(message)


@contextmanager
def mirrored(address: str | None, name: str, folder: Path, bar: Progress) -> Iterator[Progress]:
    """Fetches what is at the address before, and writes what is new there every five minutes and at the end, however it
    ends. Without an address nothing. Raises what `pull` and `push` raise, and Locked."""
    if address is None:
        yield bar
        return
    mirror = Mirror(address)
    with locked(folder):
        mirror.pull(name, folder, bar)
    try:
        yield PushingProgress(bar, lambda: mirror.push(name, folder, bar))
    finally:
        mirror.push(name, folder, bar)
