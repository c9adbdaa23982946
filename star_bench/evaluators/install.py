"""The weights that a card's judges name, as assets: where they lie, and how they come there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from star_bench.assets.asset import Asset, Download, sizes
from star_bench.assets.cache import cache_folder
from star_bench.assets.downloads import Advance
from star_bench.assets.weights import WeightsReference
from star_bench.catalogue.cards import parse
from star_bench.catalogue.suites import SuiteCard


def of_references(card: SuiteCard) -> list[Asset]:
    """One for each folder of weights. Raises UsageError for a card that names them wrongly."""
    where = f"suite {card.name}: judges"
    found = {each.folder: each for each in (parse(WeightsReference, said, where) for said in _references(card.judges))}
    return [_asset(each, card) for each in found.values()]


def _references(value: Any) -> Iterator[dict[str, Any]]:
    """Every mapping under a key "weights"."""
    if isinstance(value, list):
        for each in value:
            yield from _references(each)
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key == "weights" and isinstance(inner, dict):
                yield inner
            else:
                yield from _references(inner)


def _asset(weights: WeightsReference, card: SuiteCard) -> Asset:
    def locate() -> None:
        if not weights.is_here:
            raise weights.missing()

    what = weights.what or f"weights of suite {card.name!r}"
    if weights.install:
        files, install = _installs()[weights.install]
        return Asset(what, card.asked, locate, partial(_install, files, install), partial(sizes, files))
    if weights.files:
        return Asset(what, card.asked, locate, partial(_fetch, weights), partial(sizes, weights.files))
    return Asset(what, card.asked, locate)


def _fetch(weights: WeightsReference, advance: Advance) -> None:
    for file in weights.files:
        file.fetch(weights.folder, advance)


def _install(files: tuple[Download, ...], install: Callable[..., Any], advance: Advance) -> None:
    from star_bench.evaluators.geneval.published import DOWNLOADS

    install(*(file.fetch(cache_folder() / DOWNLOADS, advance) for file in files))


def _installs() -> dict[str, tuple[tuple[Download, ...], Callable[..., Any]]]:
    """Published files, and what makes a judge's folder of them."""
    from star_bench.evaluators.geneval.published import COLOR_DOWNLOAD, DETECTOR_DOWNLOAD

    def detector(*paths: Any) -> Any:
        from star_bench.evaluators.geneval.install import install_detector

        return install_detector(*paths)

    def color(*paths: Any) -> Any:
        from star_bench.evaluators.geneval.install import install_color_judge

        return install_color_judge(*paths, commit=COLOR_DOWNLOAD.revision)

    return {"mask2former": ((DETECTOR_DOWNLOAD,), detector), "openai-clip": ((COLOR_DOWNLOAD,), color)}
