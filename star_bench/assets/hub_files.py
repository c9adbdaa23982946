"""A repository of Hugging Face as a folder on this machine: the cache first, then a download of one commit.

Only what a layout asks for is fetched. huggingface_hub is imported where it is used: it takes most of a second. Imports
no torch.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Final

from star_bench.assets.cache import recall, remember
from star_bench.assets.downloads import reachable
from star_bench.catalogue.model_parts import INDEX, VARIANTS, check_folder, check_names, lacking, parts_of, patterns_of
from star_bench.errors import MissingWeights, StarBenchError

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo

COMMIT: Final = re.compile(r"[0-9a-f]{40}")
PINS: Final = "pins.json"


@dataclass(frozen=True)
class Layout:
    """What is wanted of a repository. All three raise MissingWeights for what is lost, Refused for what can't be used."""

    first: list[str]
    """The files that say which others are wanted."""
    patterns: Callable[[Path], list[str]]
    """Of all wanted files, once the first are in the folder."""
    check: Callable[[Path], object]
    """Of a folder that may not be whole."""
    listed: Callable[[Path, Collection[str], str], object] = lambda first, names, where: None
    """Of a repository, by the first files and the names of all, before the rest is fetched. where: what to call it."""


def _check_listed(folder: Path, names: Collection[str], where: str) -> None:
    check_names(
        parts_of(folder), [name for name in names if not name.endswith(".py")], where
    )  # Python is never fetched


PIPELINE: Final = Layout([INDEX], patterns_of, check_folder, _check_listed)


def find(hub: str, revision: str, layout: Layout, *, fetch: bool) -> tuple[Path, str]:
    """The snapshot folder of a repository, whole, and its commit. revision: a commit, branch or tag; what is no commit is
    resolved at its first use, and kept from then on.

    What is whole in the cache is taken without asking anyone; what is not is completed, with `fetch`. Raises
    MissingWeights, with the files that are lost, and what the layout raises.
    """
    pinned = revision if COMMIT.fullmatch(revision) else recall(PINS).get(f"{hub}@{revision}")
    folder = _cached(hub, pinned or revision)
    lack = "is not in the Hugging Face cache" if folder is None else _lack(hub, folder, layout)
    if lack and not fetch:
        raise MissingWeights(f"{hub}@{revision} {lack}", "run it once where there is a network, or give `--model PATH`")
    if lack or folder is None:
        folder = _download(hub, pinned or revision, layout, f"{hub}@{revision} {lack}")
    remember(PINS, {f"{hub}@{revision}": folder.name})
    return folder, folder.name


def size(hub: str, revision: str, layout: Layout) -> int | None:
    """Bytes of the wanted files that are not in the cache, as the hub says; None where it can't be asked."""
    from huggingface_hub import HfApi
    from huggingface_hub.constants import ENDPOINT, HF_HUB_OFFLINE

    if HF_HUB_OFFLINE or not reachable(ENDPOINT):
        return None
    try:
        pinned = revision if COMMIT.fullmatch(revision) else recall(PINS).get(f"{hub}@{revision}")
        said = HfApi().model_info(hub, revision=pinned or revision, files_metadata=True, timeout=10)
        folder = _snapshot(hub, said, layout.first) if layout.first else Path()
        patterns, here = layout.patterns(folder), _cached(hub, str(said.sha))
        wanted = [each for each in said.siblings or () if _is_wanted(each.rfilename, patterns)]
        return sum(each.size or 0 for each in wanted if here is None or not (here / each.rfilename).is_file())
    except Exception:  # noqa: BLE001 - a network has no end of ways to fail, and the download will name its own
        return None


def _cached(hub: str, revision: str) -> Path | None:
    """The snapshot's folder as far as it is there; its files are for `_lack` to look at."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    with contextlib.suppress(LocalEntryNotFoundError):
        return Path(snapshot_download(hub, revision=revision, allow_patterns=[], local_files_only=True))
    return None


def _lack(hub: str, folder: Path, layout: Layout) -> str:
    """What is lost of a snapshot, in words; empty where it is whole."""
    try:
        lost = [name for name in layout.first if not (folder / name).is_file()]
        lost = lost or _unfetched(hub, folder, layout.patterns(folder))
        if lost:
            raise lacking(str(folder), lost)
        layout.check(folder)
    except MissingWeights as error:
        return f"is not whole in the Hugging Face cache ({error.problem.replace(f'{folder}/', '')})"
    return ""


def _unfetched(hub: str, folder: Path, patterns: list[str]) -> list[str]:
    """Wanted files that the hub's own listing of this commit has and the snapshot has not. A cache that was filled by
    an older huggingface_hub has no listing, and nothing can be said of it here."""
    try:
        from huggingface_hub import get_cached_repo_tree
        from huggingface_hub.errors import CachedRepoTreeNotFoundError
    except ImportError:
        return []

    try:
        names = [file.path for file in get_cached_repo_tree(hub, revision=folder.name)]
    except CachedRepoTreeNotFoundError:
        return []
    return [name for name in names if _is_wanted(name, patterns) and not (folder / name).is_file()]


def _is_wanted(name: str, patterns: list[str]) -> bool:
    """As huggingface_hub decides it."""
    return any(fnmatch(name, each) for each in patterns) and not any(fnmatch(name, each) for each in VARIANTS)


def _download(hub: str, revision: str, layout: Layout, lack: str) -> Path:
    """The folder of one commit with all that the layout wants. lack: what is told where nobody can be asked."""
    from huggingface_hub import HfApi
    from huggingface_hub.constants import ENDPOINT, HF_HUB_OFFLINE
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    page = f"{ENDPOINT}/{hub}"
    if HF_HUB_OFFLINE:
        raise MissingWeights(
            f"{lack} and HF_HUB_OFFLINE is set", "unset it where there is a network, or give `--model PATH`"
        )
    if not reachable(ENDPOINT):
        raise MissingWeights(
            f"{lack} and {page} can't be reached",
            "where there is a network open the page, accept the licence if it asks, run `hf auth login` and try again, "
            "or give `--model PATH`",
        )
    try:
        said = HfApi().model_info(hub, revision=revision, timeout=10)
        remember(PINS, {f"{hub}@{revision}": said.sha})  # a download that breaks off is gone on with
        return _fetched(hub, said, layout)
    except StarBenchError:
        raise
    except RepositoryNotFoundError as error:  # a gated repository's error is one of these
        remedy = f"open {page}, accept the licence, run `hf auth login` and try again, or give `--model PATH`"
        if isinstance(error, GatedRepoError):
            raise MissingWeights(f"{hub} asks for its licence to be accepted", remedy) from error
        raise MissingWeights(f"Hugging Face shows no {hub} to this login", f"check the name, or {remedy}") from error
    except RevisionNotFoundError as error:
        raise MissingWeights(f"{hub} has no revision {revision!r}", f"choose one at {page}/commits/main") from error
    except Exception as error:  # the network has no end of ways to fail, and each means the same to the user
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}"
        raise MissingWeights(
            f"{hub}@{revision} can't be fetched ({reason})", f"try again, see {page}, or give `--model PATH`"
        ) from error


def _fetched(hub: str, said: ModelInfo, layout: Layout) -> Path:
    folder = _snapshot(hub, said, layout.first) if layout.first else Path()
    layout.listed(folder, [file.rfilename for file in said.siblings or ()], f"{hub}@{said.sha}")
    folder = _snapshot(hub, said, layout.patterns(folder))
    layout.check(folder)
    return folder


def _snapshot(hub: str, said: ModelInfo, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(hub, revision=said.sha, allow_patterns=patterns, ignore_patterns=list(VARIANTS)))
