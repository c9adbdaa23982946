"""A copy of runs and reports at an address, through fsspec: an object store, another machine's folder.

Work is always done in a local folder, where rows are appended and synced and one writer holds the lock; object stores can do
neither. What is at the address is fetched before, so that a run goes on where another machine was taken away, and what is
new is written after, results last: a reader there never sees results without their pictures.

There is no lock at an address. What another machine wrote there meanwhile is noticed before anything is written over it,
but for the moment between looking and writing: that one machine at a time works on a run is for the one who starts them.

Stores fail for moments. Each call is tried again, and a copy that can't be written is no end of the work: it is noted, in
the run's log too, and made up for at the next time, at the end, or by the next call of the command.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from star_bench.errors import Incomplete, Refused, StarBenchError, UsageError
from star_bench.files.atomic import write_atomically
from star_bench.files.digests import sha256_of
from star_bench.runs.bundle import newest
from star_bench.runs.log import LOG, RunLog
from star_bench.runs.pictures import IMAGES
from star_bench.runs.progress import Progress
from star_bench.runs.store import is_plain, locked

ROWS = ("samples.jsonl", "scores.jsonl")
"""Append-only, so of two copies one is the beginning of the other."""
LAST = "results.json"
PICTURE = re.compile(rf"(^|/){IMAGES}")
"""Also those of a shard."""
NOT_COPIED = ("lock",)
EVERY = 300.0  # seconds, chosen here: what a machine that is taken away can lose
PAUSES = (1.0, 4.0, 15.0)  # seconds before a call that failed is made again, chosen here
FINAL = (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError)
"""What another try would not change."""


class Mirror:
    """A folder at an address, of any kind that fsspec knows."""

    def __init__(self, address: str, pauses: Sequence[float] = PAUSES) -> None:
        """pauses: seconds before each further try. Raises UsageError for an address that nothing here can reach."""
        import fsspec

        try:
            self._fs, root = fsspec.core.url_to_fs(address)
        except (ImportError, ValueError) as error:
            raise UsageError(f"{address} can't be reached ({_line(error)})", "install what it asks for") from None
        self.address, self._root = address.rstrip("/"), str(root).rstrip("/")
        self._pauses = tuple(pauses)

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
                self._try(self._fs.makedirs, target.rpartition("/")[0], exist_ok=True)
                self._try(self._fs.pipe_file, target, (folder / path).read_bytes())
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
            found = self._try(self._fs.find, base)
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
        content = self._try(self._fs.cat_file, f"{self._root}/{name}/{path}")
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
            content: bytes = self._try(self._fs.cat_file, f"{self._root}/{name}/{path}")
        except FileNotFoundError:
            return b""
        return content

    @staticmethod
    def _is_to_push(path: str, known: dict[str, str], folder: Path) -> bool:
        """Every file but the pictures that are there: they are most of all bytes, and the others may have changed."""
        if path in NOT_COPIED or path.endswith(".partial"):
            return False
        if not path.startswith(IMAGES) or path not in known:
            return True
        return sha256_of(folder / path) != known[path]

    def _try(self, call: Callable[..., Any], *args: Any, **more: Any) -> Any:
        """What the call returns. Each failure but the last is waited for."""
        for pause in self._pauses:
            try:
                return call(*args, **more)
            except FINAL:
                raise
            except Exception:  # noqa: BLE001 - each kind of store has its own
                time.sleep(pause)
        return call(*args, **more)

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
    """Passes everything on, and from time to time writes to the address what is new. Without an address it only passes on.

    A copy that can't be written is noted, and the work goes on.
    """

    def __init__(self, shown: Progress, push: Callable[[], int] | None, log: RunLog) -> None:
        """log: has what was noted too."""
        self._shown, self._push, self._log = shown, push, log
        self._last = time.monotonic()
        self.is_behind = False
        """Whether something that should be at the address is not."""

    def start(self, title: str, total: int, done: int) -> None:
        self._shown.start(title, total, done)

    def advance(self, count: int) -> None:
        self._shown.advance(count)
        if time.monotonic() - self._last > EVERY:
            self.copy()

    def note(self, message: str) -> None:
        self._shown.note(message)

    def copy(self) -> None:
        """Writes to the address what is new, or notes why not. Raises Refused as `Mirror.push`."""
        try:
            self.catch_up()
        except Incomplete as error:
            said = f"{error.problem}: the copy there is behind, and the work goes on"
            self._shown.note(said)
            self._log.write("note", "warning", message=said)
        self._last = time.monotonic()

    def catch_up(self) -> None:
        """Writes to the address what is new. Raises what `Mirror.push` raises."""
        if self._push:
            self.is_behind = True
            self._push()
            self.is_behind = False


@contextmanager
def mirrored(
    address: str | None, folders: Mapping[str, Path], bar: Progress, pauses: Sequence[float] = PAUSES
) -> Iterator[PushingProgress]:
    """Fetches what is at the address before, and writes what is new there every five minutes and at the end, however it
    ends. Without an address nothing.

    folders: by their names below the address, those of pictures before those of scores; the last one's log has what is
    noted. A copy that could not be written is noted, and `is_behind` says so afterwards. Raises what `pull` raises, Refused
    where another machine works on the run, and Locked.
    """
    log = RunLog([*folders.values()][-1] / LOG, bar.note)
    if address is None:
        yield PushingProgress(bar, None, log)
        return
    mirror = Mirror(address, pauses)
    for name, folder in folders.items():
        with locked(folder):
            mirror.pull(name, folder, bar)

    def push() -> int:
        return sum(mirror.push(name, folder, bar) for name, folder in folders.items())

    shown = PushingProgress(bar, push, log)
    try:
        yield shown
    finally:
        shown.copy()
