"""`star-bench run`; `score` for pictures that are stored; `merge` for a run that was made in shards; `pull`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from star_bench.cli.given import refuse_given
from star_bench.cli.output import Device, Json, Models, Reports, Runs, print_result
from star_bench.cli.prompts import PromptsDir
from star_bench.errors import Incomplete, UsageError

if TYPE_CHECKING:
    from star_bench.runs.run import Options

OF_GENERATION = (
    *(
        "base",
        "protocol",
        "steps",
        "guidance",
        "negative_prompt",
        "size",
        "height",
        "width",
        "seed",
        "dtype",
        "kernels",
    ),
    *("free_text_encoders", "workers", "gpus"),
)
"""Parameters of `run` that say how pictures are made."""
OF_SCORING = ("scoring_workers", "scoring_gpus")
"""Parameters of `run` that say how pictures are judged."""
OF_A_CLUSTER = ("workers", "gpus", "scoring_workers", "scoring_gpus", "address")
"""Parameters of `run` that say which processes of an engine elsewhere do the work."""


Suites = Annotated[
    list[str],
    typer.Option(metavar="SUITE[,SUITE]", help="Suites by name (star-bench ls suites), or the path of a card.yaml."),
]


def run(
    ctx: typer.Context,
    suite: Suites,
    model: Annotated[str | None, typer.Option(help="A name in checkpoints.yaml, a path, or org/name@revision.")] = None,
    models: Models = None,
    base: Annotated[str | None, typer.Option(help="The pipeline under a LoRA that doesn't say it.")] = None,
    images: Annotated[Path | None, typer.Option(help="Score pictures made elsewhere instead of a model's.")] = None,
    protocol: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE", help="How pictures are made: model (its own settings), flow-grpo, geneval-paper."
        ),
    ] = "model",
    samples: Annotated[int | None, typer.Option(min=1, help="Images per prompt.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many prompts; marked as a subset.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Denoising steps.")] = None,
    guidance: Annotated[float | None, typer.Option(min=0, help="Guidance scale.")] = None,
    negative_prompt: Annotated[str | None, typer.Option(help="What the guidance leads away from.")] = None,
    size: Annotated[int | None, typer.Option(min=8, help="Height and width in pixels.")] = None,
    height: Annotated[int | None, typer.Option(min=8, help="Pixels.")] = None,
    width: Annotated[int | None, typer.Option(min=8, help="Pixels.")] = None,
    prompts_dir: PromptsDir = None,
    seed: Annotated[int, typer.Option(min=0, help="Seeds every image's noise.")] = 0,
    batch_size: Annotated[
        str, typer.Option(metavar="N|auto", help="Images per forward, auto the fastest; no image depends on it.")
    ] = "8",
    device: Device = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, float16 or bfloat16.")] = "auto",
    kernels: Annotated[
        str, typer.Option(help="default, compiled, or attention's: math, flash, efficient, cudnn.")
    ] = "default",
    free_text_encoders: Annotated[
        bool,
        typer.Option("--free-text-encoders", help="SD3: encode all prompts first, then free the encoders' memory."),
    ] = False,
    runs: Runs = Path("runs"),
    reports: Reports = Path("reports"),
    engine: Annotated[str, typer.Option(help="Where work runs: local or ray.")] = "local",
    workers: Annotated[int | None, typer.Option(min=1, help="ray: of generation; by default one per GPU.")] = None,
    gpus: Annotated[float | None, typer.Option(min=0, help="ray: GPUs of each; 0.5 lets two share one.")] = None,
    scoring_workers: Annotated[int | None, typer.Option(min=1, help="ray: of scoring; by default one per GPU.")] = None,
    scoring_gpus: Annotated[float | None, typer.Option(min=0, help="ray: GPUs of each.")] = None,
    address: Annotated[str | None, typer.Option(help="ray: a cluster's, ray://HOST:PORT; else this machine.")] = None,
    mirror: Annotated[
        str | None, typer.Option(help="Keep a copy at this address (s3://, gs://, file://, ...), and go on from it.")
    ] = None,
    shard: Annotated[str | None, typer.Option(help="Only part i of n, as in 2/7; 'star-bench merge' ends it.")] = None,
    score: Annotated[
        bool, typer.Option("--score/--no-score", help="Only draw; 'star-bench score' judges later.")
    ] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done and what it would cost.")] = False,
    as_json: Json = False,
) -> None:
    """Generate, score and report. The same command goes on with an interrupted run."""
    if images is not None and model is None:
        refuse_given(ctx, OF_GENERATION, "with --images, whose pictures are there already")
    if engine == "local":
        refuse_given(ctx, OF_A_CLUSTER, "without --engine ray")
    if shard:
        refuse_given(ctx, ("reports",), "with --shard", "give it to 'star-bench merge', which writes the report")
    from star_bench.assets import prompt_files
    from star_bench.catalogue.protocol import GenerationSettings
    from star_bench.runs import run as runner
    from star_bench.runs.engines.base import Workers
    from star_bench.runs.shards import Shard

    prompt_files.use_folder(prompts_dir)
    if size is not None and (height is not None or width is not None):
        raise UsageError("--size is both --height and --width", "give either the one or the others")
    if not score:
        refuse_given(ctx, ("reports", *OF_SCORING), "with --no-score")
    options = runner.Options(
        suites=suite_names(suite),
        model=model,
        base=base,
        images=images,
        samples=samples,
        limit=limit,
        protocol=protocol,
        settings=GenerationSettings(
            steps=steps,
            guidance_scale=guidance,
            negative_prompt=negative_prompt,
            height=height or size,
            width=width or size,
        ),
        seed=seed,
        batch_size=_batch_size(batch_size),
        device=device,
        dtype=dtype,
        kernels=kernels,
        free_text_encoders=free_text_encoders,
        runs=runs,
        engine=engine,
        workers=Workers(workers, gpus),
        scoring_workers=Workers(scoring_workers, scoring_gpus),
        address=address,
        shard=Shard.parse(shard) if shard else None,
        score=score,
    )
    _carry_out(options, reports=reports, mirror=mirror, dry_run=dry_run, as_json=as_json)


def score(
    pictures: Annotated[Path, typer.Argument(metavar="RUN", help="A run, or the folder of its pictures.")],
    suite: Suites,
    samples: Annotated[int | None, typer.Option(min=1, help="Images per prompt that are judged.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="As the pictures were drawn with.")] = None,
    prompts_dir: PromptsDir = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per forward; no score depends on it.")] = 8,
    device: Device = "auto",
    reports: Reports = Path("reports"),
    as_json: Json = False,
) -> None:
    """Judge stored pictures, by any suite with their prompts. Nothing is drawn, and no model is loaded."""
    from star_bench.assets import prompt_files
    from star_bench.runs import run as runner
    from star_bench.runs.finished import stored_pictures

    prompt_files.use_folder(prompts_dir)
    folder = stored_pictures(pictures)
    options = runner.Options(
        suites=suite_names(suite),
        pictures=folder,
        samples=samples,
        limit=limit,
        batch_size=batch_size,
        device=device,
        runs=folder.parents[2],
    )
    _carry_out(options, reports=reports, as_json=as_json)


def suite_names(said: Sequence[str]) -> tuple[str, ...]:
    """Of every --suite, each of which may name several; the path of a card may have a comma in it."""
    return tuple(name for each in said for name in ([each] if Path(each).exists() else each.split(",")))


def _carry_out(
    options: Options, *, reports: Path, mirror: str | None = None, dry_run: bool = False, as_json: bool = False
) -> None:
    """Prepares and runs, and tells what came of it."""
    from star_bench.runs import run as runner

    if dry_run:
        from star_bench.runs.cost import estimate_cost, unready

        if (lacking := unready(options)) is not None:
            print_result(lacking, as_json)
            return
        costs = estimate_cost(runner.prepare(replace(options, fetch=False)))
        for cost in costs if not as_json else ():
            print_result(cost, as_json=False)
        if as_json:
            print_result(costs[0] if len(costs) == 1 else costs, as_json=True)
        return
    prepared = runner.prepare(options)
    from star_bench.generation.quiet import quiet_libraries
    from star_bench.reporting.progress import RichProgress
    from star_bench.runs.mirror import mirrored

    written = [*dict.fromkeys(part.drawn for part in prepared.parts)]
    written += [part.folder for part in prepared.parts] if options.score else []
    folders = {f"runs/{folder.relative_to(options.runs).as_posix()}": folder for folder in written}
    with RichProgress() as bar, mirrored(mirror, folders, bar) as shown:
        results = runner.run(prepared, options, shown, begin=quiet_libraries)
    copies: dict[str, Path] = {}
    if options.shard:
        (record,), folder = results, prepared.parts[0].folder
        print_result(record if as_json else {"shard": str(options.shard), **record["counts"]}, as_json)
        typer.echo(f"shard: {folder}\nwhen all are done: star-bench merge {folder.parents[1]}", err=True)
    elif not options.score:
        print_result(results[0] if len(results) == 1 else results, as_json)
    else:
        pages = _reports([part.folder for part in prepared.parts], reports, results, as_json)
        copies = {f"reports/{page.parent.name}": page.parent for page in pages}
    if mirror:
        _copy(mirror, {**folders, **copies} if shown.is_behind else copies)
    for each in results:
        _check_whole(each)


def _batch_size(said: str) -> int | None:
    """None for auto. Raises UsageError."""
    if said == "auto":
        return None
    if not (said.isascii() and said.isdigit() and int(said) > 0):
        raise UsageError(f"--batch-size can't be {said!r}", "give a number from 1 on, or auto")
    return int(said)


def merge(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's directory, in which its shards are.")],
    reports: Reports = Path("reports"),
    mirror: Annotated[str | None, typer.Option(help="Also write the run and its report to this address.")] = None,
    as_json: Json = False,
) -> None:
    """Make one run of its shards, as if it had been run in one piece. No weights are needed."""
    from star_bench.reporting.progress import RichProgress
    from star_bench.runs import shards

    with RichProgress() as bar:
        results = shards.merge(run, bar)
    (page,) = _reports([run], reports, [results], as_json)
    if mirror:
        from star_bench.runs.finished import pictures_folder

        folders = {"/".join(["runs", *each.resolve().parts[-3:]]): each for each in (pictures_folder(run), run)}
        _copy(mirror, {**folders, f"reports/{page.parent.name}": page.parent})
    _check_whole(results)


def pull(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="What --mirror was given.")],
    runs: Runs = Path("runs"),
    pictures: Annotated[bool, typer.Option("--pictures/--no-pictures", help="Results can be ranked without.")] = True,
) -> None:
    """Fetch the runs that others keep at an address."""
    from star_bench.reporting.progress import RichProgress
    from star_bench.runs.mirror import Mirror
    from star_bench.runs.store import locked

    mirror = Mirror(address)
    names = mirror.runs()
    if not names:
        raise UsageError(f"there are no runs at {address}", "give the address that --mirror was given")
    with RichProgress() as bar:
        for name in names:
            folder = runs / name.removeprefix("runs/")
            with locked(folder):
                mirror.pull(name, folder, bar, pictures=pictures)
    print_result([{"run": str(runs / name.removeprefix("runs/"))} for name in names], as_json=False)


def _reports(runs: Sequence[Path], reports: Path, results: Sequence[Mapping[str, Any]], as_json: bool) -> list[Path]:
    """Written and told; returns the pages, of several suites also the overview."""
    from star_bench.reporting.overview import write_overview
    from star_bench.reporting.tables import print_table
    from star_bench.reporting.write import report_name, write_report
    from star_bench.runs.finished import read_results

    measured = {}
    for run in runs:
        found = read_results(run)
        measured[write_report(run, reports / report_name(found))] = found
    pages = [*measured]
    if as_json:
        rows = [
            {**each, "run": str(run), "report": str(page)} for each, run, page in zip(results, runs, pages, strict=True)
        ]
        print_result(rows[0] if len(rows) == 1 else rows, as_json=True)
    else:
        from rich.console import Console

        for each in results:
            print_table(each, Console())
    for run, page in zip(runs, pages, strict=True):
        typer.echo(f"run: {run}\nreport: {page}", err=True)
    if len(runs) > 1:
        pages.append(write_overview(measured, reports))
        typer.echo(f"overview: {pages[-1]}", err=True)
    return pages


def _copy(address: str, folders: Mapping[str, Path]) -> None:
    """Writes folders to an address, each below its name there. Raises what `Mirror.push` raises."""
    from star_bench.reporting.progress import RichProgress
    from star_bench.runs.mirror import Mirror

    mirror = Mirror(address)
    with RichProgress() as bar:
        for name, folder in folders.items():
            mirror.push(name, folder, bar)


def _check_whole(results: Mapping[str, Any]) -> None:
    """Raises Incomplete."""
    if not results["complete"]:
        counts = results["counts"]
        lost = ", ".join(f"{n} {status}" for status, n in counts.items() if n and status not in ("planned", "ok"))
        raise Incomplete(
            f"only {counts['ok']} of {counts['planned']} images have a score ({lost})",
            "see the report for each reason, mend it, and give the same command again",
        )
