"""Where a judge's weights lie on this machine, and what they are (their digest)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from star_bench.assets.asset import Download
from star_bench.catalogue.cards import Strict
from star_bench.catalogue.shipped import MINIATURE_FOLDER
from star_bench.errors import MissingWeights

SUFFIXES = (".safetensors", ".pth", ".pt")
WEIGHTS_VARIABLE = "STAR_BENCH_WEIGHTS_DIR"


def weights_folder() -> Path:
    """Where weights that a user put on this machine lie: $STAR_BENCH_WEIGHTS_DIR or ~/.local/share/star-bench/weights."""
    default = Path.home() / ".local" / "share" / "star-bench" / "weights"
    return Path(os.environ.get(WEIGHTS_VARIABLE) or default)


class WeightsReference(Strict):
    """Exactly one of: `shipped`, a part of the miniature that travels with the package; `local`, a folder below
    weights_folder() that a user fills, described by `what` and `source`; `path`, any folder."""

    shipped: str | None = None
    local: str | None = None
    path: str | None = None
    what: str = ""
    source: str = ""
    fetch: str = ""
    """A command that puts them there, for a person."""
    files: tuple[Download, ...] = ()
    """What `star-bench fetch` puts there."""
    install: Literal["mask2former", "openai-clip"] | None = None
    """How what is fetched is made of published files that no judge reads as they are: evaluators/install.py."""
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    """Of the one file as it was published."""

    @model_validator(mode="after")
    def _one(self) -> WeightsReference:
        if sum(v is not None for v in (self.shipped, self.local, self.path)) != 1:
            raise ValueError("give exactly one of shipped, local, path")
        return self

    @property
    def folder(self) -> Path:
        if self.shipped is not None:
            return MINIATURE_FOLDER / self.shipped
        return weights_folder() / self.local if self.local is not None else Path(self.path or "")

    @property
    def is_here(self) -> bool:
        """Whether the folder holds a checkpoint, in any form that one is published in, and the other named files."""
        others = (self.folder / each.file for each in self.files if Path(each.file).suffix not in SUFFIXES)
        return any(path.suffix in SUFFIXES for path in self.folder.glob("*")) and all(path.is_file() for path in others)

    def locate(self) -> Path:
        """The folder. Raises MissingWeights, without touching the network, where it holds no safetensors file."""
        if any(self.folder.glob("*.safetensors")):
            return self.folder
        raise self.missing()

    def missing(self) -> MissingWeights:
        """What to say where they are not there."""
        if self.shipped is not None:
            return MissingWeights(
                f"the miniature's {self.shipped} weights are not in {self.folder}",
                "run 'star-bench miniature build' or reinstall star-bench",
            )
        return MissingWeights(
            f"{self.what or 'the judge weights'} are not on this machine",
            (f"run '{self.fetch.replace('{folder}', str(self.folder))}', or " if self.fetch else "")
            + f"put them in {self.folder} as safetensors"
            + (f" (from {self.source})" if self.source else "")
            + f", or set {WEIGHTS_VARIABLE} to the folder that holds {self.local or self.path}",
        )
