"""What must lie on this machine before work begins, and how it comes there: told all at once, fetched by one command."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, model_validator

from star_bench.assets.downloads import STALL_S, Advance, download, reachable
from star_bench.catalogue.cards import Strict
from star_bench.errors import MissingWeights, Refused
from star_bench.files.digests import sha256_of


def unknown_size() -> int | None:
    return None


@dataclass(frozen=True)
class Asset:
    """what: in words, as in "the detector of suite geneval". name: the model or suite that `star-bench fetch` gets it by.

    locate: raises MissingWeights where it is not here; touches no network and imports no torch. fetch: gets it, and goes on
    with what an interrupted call brought; None where only a person can. size: bytes that fetching brings, asked of the
    network; None where nobody says.
    """

    what: str
    name: str
    locate: Callable[[], object]
    fetch: Callable[[Advance], object] | None = None
    size: Callable[[], int | None] = unknown_size

    @property
    def lack(self) -> MissingWeights | None:
        """Why it can't be used; None where it is here. Raises Refused for what is here and wrong."""
        try:
            self.locate()
        except MissingWeights as error:
            return error
        return None


class Download(Strict):
    """One published file: of a repository on the Hugging Face hub at a revision, or of an address."""

    hub: str | None = Field(default=None, pattern=r"^\w[\w.-]*/[\w.-]+$")
    revision: str | None = None
    address: str | None = Field(default=None, pattern=r"^https://")
    file: str
    """Its name in the repository, and in the folder it is put into."""
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")

    @model_validator(mode="after")
    def _one_place(self) -> Download:
        if (self.hub is None) == (self.address is None):
            raise ValueError("give either hub or address")
        if self.hub and not self.revision:
            raise ValueError("give the revision of the hub's repository")
        if self.address and not self.sha256:
            raise ValueError("give the sha256 of what is at the address")
        return self

    @property
    def source(self) -> str:
        return self.address or f"{self.file} of {self.hub} at {self.revision}"

    def size(self) -> int | None:
        """Bytes, asked of the network; None where nobody says."""
        try:
            if self.hub:
                from huggingface_hub import get_hf_file_metadata, hf_hub_url

                return get_hf_file_metadata(hf_hub_url(self.hub, self.file, revision=self.revision), timeout=10).size
            request = urllib.request.Request(str(self.address), method="HEAD")
            with urllib.request.urlopen(request, timeout=STALL_S) as answer:
                return int(answer.headers["Content-Length"])
        except Exception:  # noqa: BLE001 - a network has no end of ways to fail, and the download will name its own
            return None

    def fetch(self, folder: Path | None, advance: Advance) -> Path:
        """The file in the folder, whole; an interrupted download is gone on with. folder: None for the hub's own cache.

        Raises MissingWeights and Refused.
        """
        if folder is not None and self.sha256:
            target = folder / self.file
            if target.is_file() and sha256_of(target) == self.sha256:
                return target
        remedy = f"download it elsewhere and put it into {folder}" if folder else f"download {self.source} elsewhere"
        if self.address:
            assert folder is not None and self.sha256 is not None
            return download(self.address, folder / self.file, sha256=self.sha256, remedy=remedy, advance=advance)
        from huggingface_hub import hf_hub_download
        from huggingface_hub.constants import ENDPOINT

        if not reachable(ENDPOINT):
            raise MissingWeights(f"{self.file} of {ENDPOINT}/{self.hub} can't be reached", remedy)
        try:
            path = Path(hf_hub_download(str(self.hub), self.file, revision=self.revision, local_dir=folder))
        except Exception as error:  # the network has no end of ways to fail, and each means the same to the user
            reason = f"{type(error).__name__}: {error}".partition("\n")[0]
            raise MissingWeights(f"{self.source} could not be fetched ({reason})", f"try again, or {remedy}") from error
        if self.sha256 and (got := sha256_of(path)) != self.sha256:
            raise Refused(
                f"{path} has the sha256 {got} and {self.sha256} was expected", f"delete it and try again, or {remedy}"
            )
        return path


def unique(assets: Iterable[Asset]) -> list[Asset]:
    """Each once: suites share judges and prompts."""
    return [*{asset.what: asset for asset in reversed([*assets])}.values()][::-1]


def sizes(files: Iterable[Download]) -> int | None:
    """Of all files; None where one's is not known."""
    found = [file.size() for file in files]
    return None if None in found else sum(size or 0 for size in found)


def check_all_here(assets: Iterable[Asset]) -> None:
    """Raises MissingWeights that names everything that is not here and the one command that mends it."""
    lacking = [(asset, lack) for asset in assets if (lack := asset.lack) is not None]
    if not lacking:
        return
    names = " ".join(dict.fromkeys(asset.name for asset, _ in lacking if asset.fetch))
    command = (
        f"run 'star-bench fetch {names}'" + (", which gets all of it" if len(lacking) > 1 else "") if names else ""
    )
    if len(lacking) == 1:
        lack = lacking[0][1]
        raise MissingWeights(lack.problem, ", or ".join(part for part in (command, lack.remedy) if part))
    by_hand = [f"{asset.what}: {lack.remedy}" for asset, lack in lacking if not asset.fetch]
    raise MissingWeights(
        f"{len(lacking)} things are not on this machine: " + "; ".join(asset.what for asset, _ in lacking),
        ", and ".join(part for part in (command, *by_hand) if part),
    )
