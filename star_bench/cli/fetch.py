"""`star-bench fetch`: everything that models and suites need, onto this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from star_bench.cli.output import Json, Models, print_result
from star_bench.errors import Incomplete, UsageError

if TYPE_CHECKING:
    from star_bench.assets.asset import Asset


def fetch(
    names: Annotated[list[str] | None, typer.Argument(metavar="MODEL|SUITE...", help="As run takes them.")] = None,
    models: Models = None,
    prompts: Annotated[bool, typer.Option("--prompts", help="Only prompt files; by default of all suites.")] = False,
    training: Annotated[bool, typer.Option("--training", help="Also what models for these suites train on.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what is lacking and how large it is.")] = False,
    as_json: Json = False,
) -> None:
    """Get what models and suites need: weights, judges, prompts; checked by digest. The same command goes on."""
    from star_bench.assets.asset import unique
    from star_bench.catalogue import suites
    from star_bench.reporting.progress import download_bar

    if not names and not prompts:
        raise UsageError("nothing says what to fetch", "name models and suites, or give --prompts for all prompt files")
    assets = [
        asset
        for name in names or suites.names()
        for asset in (_of_suite(name, prompts, training) if prompts or suites.is_suite(name) else _of_model(name))
    ]
    assets = unique(assets)
    lacking = [asset for asset in assets if asset.lack is not None]
    sizes = {id(asset): asset.size() for asset in lacking if asset.fetch}
    known = sum(size or 0 for size in sizes.values())
    if sizes:
        unsaid = sum(size is None for size in sizes.values())
        parts = [_gigabytes(known)] * bool(known) + [f"{unsaid} of unknown size"] * bool(unsaid)
        typer.echo(f"to fetch: {len(sizes)} things, {' and '.join(parts)}", err=True)
    if not dry_run:
        for asset in lacking:
            if asset.fetch:
                with download_bar(asset.what[:40]) as advance:
                    asset.fetch(advance)
    rows: list[dict[str, Any]] = []
    for asset in assets:
        lack = asset.lack
        state = "here" if lack is None else "absent" if asset.fetch else "to be got by hand"
        rows.append({"what": asset.what, "for": asset.name, "state": state, "bytes": sizes.get(id(asset))})
        if lack is not None and not asset.fetch:
            rows[-1]["state"] = f"to be got by hand: {lack.remedy}"
    print_result(rows, as_json)
    if not dry_run and (left := [asset.what for asset in assets if asset.lack is not None]):
        raise Incomplete(f"not on this machine: {', '.join(left)}", "see the table for what to do")


def _of_suite(name: str, prompts: bool, training: bool) -> list[Asset]:
    from star_bench.assets import prompt_sets
    from star_bench.assets.prompt_files import prompts_of, training_of
    from star_bench.catalogue import suites
    from star_bench.runs.workers import make_evaluator

    card = suites.load(name)
    files = [prompts_of(card)] if card.prompts.path else []
    if training and (file := training_of(card)):
        files.append(file)
    judges = [] if prompts else make_evaluator(card, "cpu").assets()
    return [*map(prompt_sets.asset_of, files), *judges]


def _of_model(name: str) -> list[Asset]:
    from star_bench.assets import model_files
    from star_bench.catalogue import checkpoints

    return [model_files.asset_of(checkpoints.resolve(name), name)]


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e7 else f"{size / 1e6:.2f} MB"
