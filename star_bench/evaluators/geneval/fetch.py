"""GenEval's two judges from their pinned addresses. Imports no torch: no network is told at once."""

from __future__ import annotations

from pathlib import Path

from star_bench.assets.cache import cache_folder
from star_bench.assets.downloads import Advance, download, reachable
from star_bench.errors import MissingWeights, Refused
from star_bench.evaluators.geneval.published import (
    COLOR_COMMIT,
    COLOR_FILE,
    COLOR_REPOSITORY,
    COLOR_SHA256,
    OFFICIAL_CHECKPOINT,
)
from star_bench.files.digests import sha256_of


def fetch_detector(advance: Advance) -> Path:
    """mmdet's checkpoint from OpenMMLab. Raises what `download` raises."""
    official = OFFICIAL_CHECKPOINT
    remedy = "download that file elsewhere and give it as '--weights PATH'"
    target = cache_folder() / "geneval" / official.file
    return download(official.url, target, sha256=official.sha256, remedy=remedy, advance=advance)


def fetch_color_judge() -> tuple[Path, str]:
    """OpenAI's CLIP from its hub, and the commit that it is of. Raises MissingWeights, Refused for another file."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.constants import ENDPOINT

    page = f"{ENDPOINT}/{COLOR_REPOSITORY}"
    remedy = f"download its {COLOR_FILE} elsewhere and give it as '--color-weights PATH'"
    if not reachable(ENDPOINT):
        raise MissingWeights(f"{page} can't be reached", remedy)
    try:
        path = Path(hf_hub_download(COLOR_REPOSITORY, COLOR_FILE, revision=COLOR_COMMIT))
    except Exception as error:  # the network has no end of ways to fail, and each means the same to the user
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise MissingWeights(f"{page} could not be fetched ({reason})", f"try again, or {remedy}") from error
    if (got := sha256_of(path)) != COLOR_SHA256:
        raise Refused(
            f"{path} has the sha256 {got} and {COLOR_SHA256} was expected", f"delete it and try again, or {remedy}"
        )
    return path, COLOR_COMMIT
